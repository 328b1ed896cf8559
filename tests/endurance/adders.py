#!/usr/bin/env python3
"""Clients that add numbers, each number once, whatever becomes of it: the workload whose end is counted by writes.py.

A number is told as
  acknowledged  the server said that its transaction is done
  failed        it cannot be there: there was no session, or the server said of the statement that it was not done
  unknown       the session ended in the middle, or the server warned that it did not wait for its replica
A number is never sent again, acknowledged or not; the next attempt has the next one. Every so often a client leaves and
connects anew. Until standard input ends; a number that is then under way is told as unknown.
"""
from __future__ import annotations

import asyncio
import os
import socket
import sys
from argparse import ArgumentParser
from itertools import count
from pathlib import Path

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
sys.path.insert(1, str(HERE.parents[1] / "benches/failover"))

import psycopg

from account import NUMBERS_EACH
from client import connect, leave, tell, text_of, work_until_told

ADD = "INSERT INTO added (n) VALUES (%s)"
STATEMENTS_A_SESSION = 50
AGAIN_S = 0.5  # after a connect that failed
PATIENCE_S = 20  # for one statement: a server that is cut off says nothing
# Read-only transaction; cannot connect now; too many connections: nothing has been done.
NOT_DONE = ("25006", "57P03", "53300")


class Adder:
    def __init__(self, number: int, conninfo: str, every_s: float):
        self.conninfo, self.every_s = conninfo, every_s
        self.numbers = count(number * NUMBERS_EACH)
        self.connection: psycopg.AsyncConnection | None = None
        self.under_way: int | None = None
        self.warnings: list[str] = []

    async def work(self) -> None:
        for done in count(1):
            await self.add(next(self.numbers))
            if self.connection and done % STATEMENTS_A_SESSION == 0:
                await self.close()
            await asyncio.sleep(self.every_s)

    async def add(self, number: int) -> None:
        try:
            if not self.connection:
                self.connection = await connect(self.conninfo)
                self.connection.add_notice_handler(lambda notice: self.warnings.append(notice.message_primary))
        except psycopg.Error as error:
            tell(n=number, became="failed", why=f"connect: {text_of(error)[:160]}")
            return await asyncio.sleep(AGAIN_S)
        self.under_way = number
        self.warnings.clear()
        try:
            await self.execute(number)
            became, why = ("unknown", self.warnings[0]) if self.warnings else ("acknowledged", None)
        except psycopg.Error as error:
            became = "failed" if error.sqlstate in NOT_DONE else "unknown"
            why = f"add: {text_of(error)[:160]}"
            await self.close()
        self.under_way = None
        tell(n=number, became=became, **({"why": why} if why else {}))

    async def execute(self, number: int) -> None:
        """Past its patience the connection is shut, by which the statement fails; the library's own way would be to ask the
        server to cancel it, and then it might be done on one node only."""
        statement = asyncio.create_task(self.connection.execute(ADD, (number,)))
        finished, _ = await asyncio.wait([statement], timeout=PATIENCE_S)
        if not finished:
            with socket.socket(fileno=os.dup(self.connection.fileno())) as shut:
                shut.shutdown(socket.SHUT_RDWR)
        await statement

    async def close(self) -> None:
        connection, self.connection = self.connection, None
        connection.pgconn.finish()  # without a word to a server that may not answer


async def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("conninfo")
    parser.add_argument("--first", type=int, required=True, help="number of the first client")
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--every", type=float, required=True, help="seconds between two numbers of one client")
    options = parser.parse_args()
    adders = [Adder(options.first + each, options.conninfo, options.every) for each in range(options.clients)]
    await work_until_told([each.work() for each in adders])
    for each in adders:
        if each.under_way is not None:
            tell(n=each.under_way, became="unknown", why="the run ended")
    leave()


asyncio.run(main())
