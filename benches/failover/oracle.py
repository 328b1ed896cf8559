#!/usr/bin/env python3
"""Who really takes writes: asked of every node directly, each 10 ms or as told, past every balancer and past Patroni.

A replica is only asked whether it still is one. As soon as it is not, rows are written there, and each is told with
its seat and timeline. A node left behind on an older timeline is not written to any more, so that the oracle adds
nothing to what has to be rewound.
"""
from __future__ import annotations

import asyncio
import os
import sys
import time
from argparse import ArgumentParser

sys.dont_write_bytecode = True
import psycopg

from client import SEAT, TIMELINE, WRITE_DIRECT, ask, connect, leave, tell, work_until_told

EVERY_S = 0.01
BEFORE_OTHERS = -10  # niceness; it does little, and what it sees late makes every contender look early
ROLE = f"SELECT {SEAT}, CASE WHEN pg_is_in_recovery() THEN NULL ELSE {TIMELINE} END"


class Oracle:
    def __init__(self, every_s: float):
        self.every_s = every_s
        self.newest = 0

    async def attend(self, conninfo: str) -> None:
        """One node, for as long as we run, over one session after another."""
        while True:
            try:
                async with await connect(conninfo) as connection:
                    await self.watch(connection)
            except psycopg.Error:
                await asyncio.sleep(self.every_s)

    async def watch(self, connection: psycopg.AsyncConnection) -> None:
        leads = False
        while True:
            sent = time.monotonic()
            if leads:
                seat, timeline = await ask(connection, WRITE_DIRECT, "oracle")
                tell(step="write", sent=sent, done=time.monotonic(), seat=seat, timeline=timeline)
                self.newest = max(self.newest, timeline)
            else:
                seat, timeline = await ask(connection, ROLE)
            led, leads = leads, timeline is not None and timeline >= self.newest
            if leads and not led:
                continue  # at once: this is the moment that counts
            await asyncio.sleep(sent + self.every_s - time.monotonic())


def hurry() -> None:
    try:
        os.nice(BEFORE_OTHERS)
    except PermissionError:
        pass  # for root only


async def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("nodes", nargs="+", help="a connection string for each")
    parser.add_argument("--every", type=float, default=EVERY_S, help="seconds")
    options = parser.parse_args()
    hurry()
    oracle = Oracle(options.every)
    await work_until_told([oracle.attend(conninfo) for conninfo in options.nodes])
    leave()


asyncio.run(main())
