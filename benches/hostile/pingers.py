"""Sessions that are open and send a message every so often: what becomes of those that are there already.

    pingers.py HOST:PORT COUNT PACE_MS

Each begins with a StartupMessage, which the stub echoes as it does all else. Tells each second how long the messages of
that second took there and back, in microseconds, how many sessions were broken in all, and the longest that one waits for
its answer now. Ends when its standard input does.
"""
from __future__ import annotations

import json
import select
import socket
import struct
import sys
import time

STARTUP = struct.pack("!II", 35, 196608) + b"user\0pings\0database\0pings\0\0"
MESSAGE = b"e" * 64
TELL_S = 1.0


class Session:
    def __init__(self, address: tuple[str, int]):
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(STARTUP)
        missing = len(STARTUP)
        while missing:
            heard = self.socket.recv(missing)
            if not heard:
                raise ConnectionError("closed in its first moment")
            missing -= len(heard)
        self.socket.setblocking(False)
        self.sent_at: float | None = None
        self.missing = 0

    def send(self) -> None:
        self.sent_at, self.missing = time.monotonic(), len(MESSAGE)
        self.socket.send(MESSAGE)


def main() -> None:
    host, _, port = sys.argv[1].rpartition(":")
    count, pace_s = int(sys.argv[2]), float(sys.argv[3]) / 1e3
    sessions = [Session((host, int(port))) for _ in range(count)]
    poll = select.epoll()
    poll.register(sys.stdin.fileno(), select.EPOLLIN | select.EPOLLHUP)
    by_descriptor = {session.socket.fileno(): session for session in sessions}
    for descriptor in by_descriptor:
        poll.register(descriptor, select.EPOLLIN)
    print(json.dumps({"open": count}), flush=True)
    took_us: list[int] = []
    broken, place, late = 0, 0, 0.0
    next_turn = next_tell = time.monotonic()
    while True:
        now = time.monotonic()
        while next_turn <= now:  # one after the other, so that they do not come in bursts
            session = sessions[place % count]
            if session.sent_at is None and session.socket.fileno() in by_descriptor:
                session.send()
            place, next_turn = place + 1, next_turn + pace_s / count
        for descriptor, _ in poll.poll(max(0.0, next_turn - time.monotonic()), 256):
            if descriptor == sys.stdin.fileno():
                return
            session = by_descriptor[descriptor]
            try:
                heard = len(session.socket.recv(4096))
            except BlockingIOError:
                continue
            except OSError:
                heard = 0
            if not heard:
                broken += 1
                poll.unregister(descriptor)
                del by_descriptor[descriptor]
                continue
            session.missing -= heard
            if session.missing <= 0 and session.sent_at is not None:
                took_us.append(round(1e6 * (time.monotonic() - session.sent_at)))
                session.sent_at = None
        now = time.monotonic()
        late = max(late, now - next_turn)
        if now >= next_tell:
            waits = max((now - session.sent_at for session in by_descriptor.values() if session.sent_at), default=0.0)
            print(json.dumps({"took_us": took_us, "broken": broken, "waits_s": waits, "late_s": late}), flush=True)
            took_us, late, next_tell = [], 0.0, now + TELL_S


main()
