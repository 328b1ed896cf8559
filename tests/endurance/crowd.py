#!/usr/bin/env python3
"""All kinds of peers that a pilotfish has, at once, until standard input ends.

Newcomers connect for one write or one read, at a rate; others keep their sessions, and connect again when these are cut;
some move megabytes; rude ones say nothing, garbage, or half of something and are gone; watchers look at the page and its
stream. What became of them is told every few seconds, as one line of JSON of counts since the beginning.
"""
from __future__ import annotations

import asyncio
import random
import socket
import struct
import sys
import time
from argparse import ArgumentParser
from collections import Counter
from itertools import count, cycle
from pathlib import Path

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
sys.path.insert(1, str(HERE.parents[1] / "benches/failover"))

import psycopg

from client import ask, connect, leave, tell, text_of, work_until_told

TABLE = "endured"
WRITE = f"INSERT INTO {TABLE} (client) VALUES (%s) RETURNING 1"
READ = "SELECT 1"
BULK = "SELECT repeat('x', 1048576) FROM generate_series(1, 16)"
WRITER, READER, ADMIN = 5000, 5001, 7000
CLIENT_TIMEOUT_S = 60  # longer than a hold: what is said at its end is to be counted
MOST_NEWCOMERS = 400  # at one time; who is due then is left out and counted
LASTING_PACE_S, BULK_PACE_S, RUDE_PACE_S, LOOK_PACE_S, TELL_PACE_S = 0.5, 10, 0.5, 2, 5
PAGES = ("/", "/api/v1/status", "/api/v1/sessions", "/api/v1/events", "/metrics", "/;csv", "/nothing-here")

PROTOCOL_3, SSL_REQUEST, CANCEL_REQUEST = 196608, 80877103, 80877102
STARTUP = b"user\0app\0database\0app\0\0"
RUDE = {
    "silent": b"",
    "garbage": b"\x16\x03\x01\x02\x00" + bytes(200),
    "a tenth of a packet": struct.pack("!I", 100) + b"12345",
    "asks for TLS and leaves": struct.pack("!II", 8, SSL_REQUEST),
    "begins and leaves": struct.pack("!II", 8 + len(STARTUP), PROTOCOL_3) + STARTUP,
    "cancels somebody": struct.pack("!IIII", 16, CANCEL_REQUEST, 1, 1),
}
RESET = struct.pack("ii", 1, 0)


class Crowd:
    def __init__(self, host: str):
        self.host = host
        self.counted: Counter = Counter()
        self.errors: Counter = Counter()
        self.tasks: set[asyncio.Task] = set()

    def conninfo(self, port: int) -> str:
        return (f"host={self.host} port={port} dbname=app user=app password=app sslmode=disable "
                f"connect_timeout={CLIENT_TIMEOUT_S}")

    def failed(self, who: str, error: Exception) -> None:
        self.counted[f"{who} failed"] += 1
        self.errors[f"{who}: {text_of(error)[:160]}"] += 1

    async def newcomers(self, per_second: float) -> None:
        due, ports = time.monotonic(), cycle((WRITER, READER))
        while True:
            due = max(due + 1 / per_second, time.monotonic() - 1)
            await asyncio.sleep(due - time.monotonic())
            if len(self.tasks) >= MOST_NEWCOMERS:
                self.counted["left out"] += 1
                continue
            task = asyncio.create_task(self.newcomer(next(ports)))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def newcomer(self, port: int) -> None:
        who = "newcomer to write" if port == WRITER else "newcomer to read"
        try:
            async with await connect(self.conninfo(port)) as connection:
                await (ask(connection, WRITE, "newcomer") if port == WRITER else ask(connection, READ))
            self.counted[who] += 1
        except psycopg.Error as error:
            self.failed(who, error)

    async def lasting(self, port: int) -> None:
        who = "lasting writer" if port == WRITER else "lasting reader"
        while True:
            try:
                async with await connect(self.conninfo(port)) as connection:
                    self.counted[who] += 1
                    while True:
                        await (ask(connection, WRITE, "lasting") if port == WRITER else ask(connection, READ))
                        await asyncio.sleep(LASTING_PACE_S)
            except psycopg.Error as error:
                self.failed(who, error)
                await asyncio.sleep(LASTING_PACE_S)

    async def bulk(self) -> None:
        while True:
            try:
                async with await connect(self.conninfo(READER)) as connection:
                    await connection.execute(BULK)
                self.counted["bulk"] += 1
            except psycopg.Error as error:
                self.failed("bulk", error)
            await asyncio.sleep(BULK_PACE_S)

    async def rude(self) -> None:
        for (_, said), number in zip(cycle(RUDE.items()), count()):
            try:
                _, writer = await asyncio.open_connection(self.host, random.choice((WRITER, READER)))
                writer.write(said)
                await writer.drain()
                await asyncio.sleep(RUDE_PACE_S)
                if number % 3 == 0:
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                writer.close()
                self.counted["rude"] += 1
            except OSError as error:
                self.failed("rude", error)
                await asyncio.sleep(RUDE_PACE_S)

    async def looker(self) -> None:
        for path in cycle(PAGES):
            await self.request(path)
            await asyncio.sleep(LOOK_PACE_S)

    async def watcher(self) -> None:
        while True:
            await self.request("/api/v1/stream", "watcher")
            await asyncio.sleep(random.uniform(0, LOOK_PACE_S))

    async def request(self, path: str, who: str = "looker") -> None:
        """Reads the answer to its end, whenever that comes."""
        try:
            reader, writer = await asyncio.open_connection(self.host, ADMIN)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {self.host}:{ADMIN}\r\nConnection: close\r\n\r\n".encode())
            while await reader.read(65536):
                pass
            writer.close()
            self.counted[who] += 1
        except OSError as error:
            self.failed(who, error)

    async def telling(self) -> None:
        while True:
            tell(counted=self.counted, errors=dict(self.errors.most_common(40)))
            await asyncio.sleep(TELL_PACE_S)


async def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("host")
    parser.add_argument("--rate", type=float, required=True, help="newcomers a second")
    parser.add_argument("--lasting", type=int, default=10, help="writers, and as many readers, that keep their sessions")
    parser.add_argument("--watchers", type=int, default=4, help="of the page's stream")
    options = parser.parse_args()
    crowd = Crowd(options.host)
    work = [crowd.newcomers(options.rate), crowd.bulk(), crowd.rude(), crowd.looker(), crowd.telling()]
    work += [crowd.lasting(port) for port in (WRITER, READER) for _ in range(options.lasting)]
    work += [crowd.watcher() for _ in range(options.watchers)]
    await work_until_told(work)
    leave()


asyncio.run(main())
