#!/usr/bin/env python3
"""The clients of one contender: a writer that keeps its session, and others that connect afresh for each write.

The writer writes every 10 ms, and connects again at once when its session breaks. Each of the fresh clients connects,
writes one row and leaves, at its own pace. Every attempt is told as one line of JSON: when it began, when its write
was sent, when it was done, and the seat that took it or the error.
"""
from __future__ import annotations

import asyncio
import random
import sys
import time
from argparse import ArgumentParser

sys.dont_write_bytecode = True
import psycopg

from client import WRITE, ask, connect, leave, tell, text_of, work_until_told

WRITER = 0  # the lane of the writer; the fresh clients follow
WRITE_EVERY_S = 0.01
TICK_S = 0.05
NOTABLE_LATENESS_S = 0.02


class Lane:
    """One client: what it does now, and the telling of what it did."""

    def __init__(self, number: int, conninfo: str):
        self.number, self.conninfo = number, conninfo
        self.connection: psycopg.AsyncConnection | None = None
        self.begun: float | None = None
        self.is_new = False

    async def open(self) -> bool:
        self.begun = time.monotonic()
        try:
            self.connection = await connect(self.conninfo)
        except psycopg.Error as error:
            self.told(step="connect", error=error)
            return False
        self.is_new = True
        return True

    async def write(self) -> bool:
        sent = time.monotonic()
        if not self.is_new:
            self.begun = sent
        try:
            seat, = await ask(self.connection, WRITE, str(self.number))
        except psycopg.Error as error:
            self.told(step="write", sent=sent, error=error)
            await self.close()
            return False
        self.told(step="write", sent=sent, seat=seat)
        self.is_new = False
        return True

    async def close(self) -> None:
        connection, self.connection = self.connection, None
        await connection.close()

    def told(self, step: str, error: psycopg.Error | None = None, **more) -> None:
        if error:
            more.update(code=error.sqlstate, error=text_of(error))
        is_new = step == "connect" or self.is_new
        tell(lane=self.number, begun=self.begun, done=time.monotonic(), step=step, new=is_new, **more)
        self.begun = None


async def keep_writing(lane: Lane) -> None:
    due = time.monotonic()
    while True:
        if lane.connection or await lane.open():
            if not await lane.write():
                await lane.open()
        due = max(due + WRITE_EVERY_S, time.monotonic())
        await asyncio.sleep(due - time.monotonic())


async def write_afresh(lane: Lane, pace_s: float) -> None:
    due = time.monotonic() + random.uniform(0, pace_s)
    while True:
        await asyncio.sleep(due - time.monotonic())
        if await lane.open() and await lane.write():
            await lane.close()
        due = max(due + pace_s, time.monotonic())


async def watch_lateness() -> None:
    """How late this process itself runs: what the clients saw is not known better than that."""
    while True:
        due = time.monotonic() + TICK_S
        await asyncio.sleep(TICK_S)
        lateness = time.monotonic() - due
        if lateness > NOTABLE_LATENESS_S:
            tell(step="late", done=time.monotonic(), by=lateness)


async def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("conninfo")
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--pace", type=float, required=True)
    options = parser.parse_args()
    lanes = [Lane(number, options.conninfo) for number in range(1 + options.clients)]
    work = [keep_writing(lanes[WRITER]), *(write_afresh(lane, options.pace) for lane in lanes[1:]), watch_lateness()]
    await work_until_told(work)
    for lane in lanes:
        if lane.begun is not None:
            lane.told(step="unfinished")
    leave()


asyncio.run(main())
