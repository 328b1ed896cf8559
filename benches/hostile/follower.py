"""A client of a cluster whose leader moves on: when it loses its session, and when it has the next one.

    follower.py HOST:PORT

A message every 10 ms. Tells both moments in microseconds of Unix time. Ends when its standard input does.
"""
from __future__ import annotations

import json
import select
import socket
import sys
import time

PACE_S = 0.01
PATIENCE_S = 5.0


def unix_us() -> int:
    return time.time_ns() // 1000


def main() -> None:
    host, _, port = sys.argv[1].rpartition(":")
    session, lost_us = None, None
    while not select.select([sys.stdin], [], [], PACE_S if session else 0)[0]:
        try:
            if session is None:
                session = socket.create_connection((host, int(port)), timeout=PATIENCE_S)
            session.sendall(b"e")
            if not session.recv(1):
                raise ConnectionError("closed")
        except OSError:
            lost_us = lost_us or unix_us()
            session = None
            continue
        if lost_us:
            print(json.dumps({"lost_us": lost_us, "back_us": unix_us()}), flush=True)
            lost_us = None


main()
