"""A client of PostgreSQL, as the loads and the oracle use it: it connects, writes a row, and learns whose row it was.

A *seat* is one life of one PostgreSQL: its address and when its postmaster started. A restart in place, a demotion
or a move to another node is therefore always a new seat, and every write tells in which it ended up.
"""
from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Coroutine
from typing import NoReturn

import psycopg

READ_ONLY = "25006"
TABLE = "bench_failover"
SEAT = "host(inet_server_addr()) || ' since ' || extract(epoch FROM pg_postmaster_start_time())"
TIMELINE = "('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int"
PREPARE = f"CREATE TABLE IF NOT EXISTS {TABLE} (client text, at timestamptz DEFAULT clock_timestamp()); TRUNCATE {TABLE}"
WRITE = f"INSERT INTO {TABLE} (client) VALUES (%s) RETURNING {SEAT}"
WRITE_DIRECT = f"{WRITE}, {TIMELINE}"


async def connect(conninfo: str) -> psycopg.AsyncConnection:
    return await psycopg.AsyncConnection.connect(conninfo, autocommit=True, prepare_threshold=None)


async def ask(connection: psycopg.AsyncConnection, statement: str, *values) -> tuple:
    cursor = await connection.execute(statement, values or None)
    return await cursor.fetchone()


def text_of(error: Exception) -> str:
    """On one line. Of several hosts that failed psycopg tells the last first and then all again: the first is enough."""
    text = " ".join(str(error).split()).partition(" Multiple connection attempts failed.")[0]
    return text or type(error).__name__


def tell(**record) -> None:
    """One line to the process that started us, as long as there is one."""
    try:
        sys.stdout.write(json.dumps(record) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        leave()


async def work_until_told(work: list[Coroutine]) -> None:
    """Until our standard input ends: it does with the process that started us, however that ends."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    stop = asyncio.create_task(reader.read())
    tasks = [asyncio.create_task(each) for each in work]
    finished, _ = await asyncio.wait([stop, *tasks], return_when=asyncio.FIRST_COMPLETED)
    for task in finished - {stop}:
        task.result()  # work does not end: this raises what ended it


def leave() -> NoReturn:
    """At once: a statement that is cancelled first asks its server to stop, and a frozen one does not answer."""
    os._exit(0)
