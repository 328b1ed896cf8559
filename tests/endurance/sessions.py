#!/usr/bin/env python3
"""Writer sessions through one balancer: newcomers at a rate, and some that stay as long as they are let.

Each new session asks at once where it is, then writes a row. Those that stay are idle, idle in a transaction, in the middle of
a long statement, or busy writing; each tells when it ended, which is when its socket told of it (an idle one, too), and
begins anew. Told as lines of JSON, in Unix time:
  session  begun (before the connect), done, node, port (the balancer's, as the node sees it), recovery, timeline, wrote,
           code (of the write's error)
  failed   begun, done, step (connect, or where: it ended before it could say where it was), code, error
  ended    how it stayed, node, since, ended, and the client's port
  open     the same of one that was still open when this program ended, at `ended`
Until standard input ends.
"""
from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from argparse import ArgumentParser
from pathlib import Path

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
sys.path.insert(1, str(HERE.parents[1] / "benches/failover"))

import psycopg

from client import TIMELINE, WRITE, ask, connect, leave, tell, text_of, work_until_told

WHERE = (f"SELECT host(inet_server_addr()), inet_client_port(), pg_is_in_recovery(), "
         f"CASE WHEN pg_is_in_recovery() THEN NULL ELSE {TIMELINE} END")
LONG_S, BUSY_EVERY_S, AGAIN_S = 3600, 0.1, 0.3
MOST_NEWCOMERS = 200
WAYS = ("idle", "idle", "idle", "in a transaction", "in a statement", "busy", "busy")


async def open_session(conninfo: str) -> tuple[psycopg.AsyncConnection, dict] | None:
    """A new one that has told where it is and tried to write; what it said beside it. None where it did not get so far."""
    begun, step, connection = time.time(), "connect", None
    try:
        connection = await connect(conninfo)
        step = "where"
        node, port, recovery, timeline = await ask(connection, WHERE)
    except psycopg.Error as error:
        tell(kind="failed", begun=begun, done=time.time(), step=step, code=error.sqlstate, error=text_of(error)[:200])
        if connection:
            await connection.close()
        return None
    where = {"node": node, "port": port, "recovery": recovery, "timeline": timeline}
    code, wrote = None, True
    try:
        await ask(connection, WRITE, "misroute")
    except psycopg.Error as error:
        code, wrote = error.sqlstate or text_of(error)[:200], False
    tell(kind="session", begun=begun, done=time.time(), wrote=wrote, code=code, **where)
    if wrote:
        return connection, where
    await connection.close()
    return None


async def newcomer(conninfo: str) -> None:
    if opened := await open_session(conninfo):
        await opened[0].close()


async def newcomers(conninfo: str, per_second: float) -> None:
    due, tasks = time.monotonic(), set()
    while True:
        due = max(due + 1 / per_second, time.monotonic() - 1)
        await asyncio.sleep(due - time.monotonic())
        if len(tasks) < MOST_NEWCOMERS:
            task = asyncio.create_task(newcomer(conninfo))
            tasks.add(task)
            task.add_done_callback(tasks.discard)


async def stay(conninfo: str, how: str, staying: list[dict]) -> None:
    """`staying` has those that are open at the moment."""
    while True:
        if opened := await open_session(conninfo):
            connection, where = opened
            session = {"how": how, "since": time.time(), "node": where["node"], "client": own_port(connection)}
            staying.append(session)
            await outlive(connection, how)
            staying.remove(session)
            tell(kind="ended", ended=time.time(), **session)
            await connection.close()
        await asyncio.sleep(AGAIN_S)


async def outlive(connection: psycopg.AsyncConnection, how: str) -> None:
    """Returns as soon as the session is over."""
    try:
        if how == "busy":
            while True:
                await ask(connection, WRITE, how)
                await asyncio.sleep(BUSY_EVERY_S)
        if how == "in a statement":
            await ask(connection, f"SELECT pg_sleep({LONG_S})")
        if how == "in a transaction":
            await connection.execute("BEGIN")
        await readable(connection.fileno())
    except psycopg.Error:
        pass


def own_port(connection: psycopg.AsyncConnection) -> int:
    with socket.socket(fileno=os.dup(connection.fileno())) as twin:
        return twin.getsockname()[1]


async def readable(descriptor: int) -> None:
    """Something comes on a session that has asked for nothing: its end, or the server's last word right before it."""
    loop, happened = asyncio.get_running_loop(), asyncio.Event()
    # A descriptor of our own: the library watches the other one.
    with socket.socket(fileno=os.dup(descriptor)) as watched:
        loop.add_reader(watched, happened.set)
        try:
            await happened.wait()
        finally:
            loop.remove_reader(watched)


async def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("conninfo")
    parser.add_argument("--rate", type=float, required=True, help="newcomers a second")
    options = parser.parse_args()
    staying: list[dict] = []
    try:
        await work_until_told([newcomers(options.conninfo, options.rate), *(stay(options.conninfo, how, staying) for how in WAYS)])
    finally:
        # Not by the task of each: a statement that is cancelled first asks its server to stop.
        for session in staying:
            tell(kind="open", ended=time.time(), **session)
    leave()


asyncio.run(main())
