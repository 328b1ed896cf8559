"""Acknowledged writes that are gone, and rows that nobody wrote: through two pilotfish, and with libpq alone, under faults.

Clients add numbers, each number once (adders.py), half of them through pilotfish (libpq knows both), half directly (libpq
knows all nodes, and wants one that takes writes). Replication is synchronous and strict. Meanwhile nodes, etcd members and
pilotfish are killed, stopped, frozen and cut off, one fault after another (faults.py), each mended and awaited. Then all is
read once, through pilotfish and from each node.

To be reached, for either way:
  - lost: acknowledged, and not in the final read: 0
  - unexpected: in the final read, and neither acknowledged nor unknown, or there more than once: 0
  - all nodes end with the same rows
All of it is in network namespaces that end with the run. Root only.
"""
from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from argparse import Namespace
from collections import Counter
from pathlib import Path
from typing import NoReturn

import psycopg

HERE = Path(__file__).resolve().parent
sys.path.insert(2, str(HERE.parents[1] / "tests/pair"))

import results
from account import NUMBERS_EACH, Account
from child import Failure, Teller, wait_for
from faults import FAULTS, Hurt
from ground import BALANCER, NODE, NUMBERS, Ground, address, prepare
from machine import Load, facts
from machines import LOGS, Program
from options import parser_of
from programs import first_line, pilotfish_program
from tally import Tally
from terminal import conclude, one_of, say

INSIDE = "PILOTFISH_ENDURANCE_INSIDE"
MINUTE_S = 60
LOGIN = "dbname=app user=app password=app sslmode=disable"
# A peer that is cut off says nothing: who waits for it notices within seconds, and tries the next.
ALIVE = "keepalives_idle=2 keepalives_interval=1 keepalives_count=3 tcp_user_timeout=6000"
SERVED_TIMEOUT_S, AGREED_TIMEOUT_S, READY_TIMEOUT_S = 90, 60, 30
MENDINGS, LOG_BYTES = 3, 3000
CONFIGURATION = """\
clusters:
  - patroni: [{patroni}]
    primary: {{listen: "0.0.0.0:5000"}}
    replicas: off
admin:
  listen: 127.0.0.1:7000
"""
STRICT = ("synchronous_mode=true", "synchronous_mode_strict=true")
ASYNCHRONOUS = ("synchronous_mode=false",)


class Way:
    """How clients come to the database: through pilotfish, or by libpq's own means."""

    def __init__(self, title: str, conninfo: str, first: int, options: Namespace):
        self.title, self.first, self.last = title, first, first + options.clients - 1
        self.teller = Teller(sys.executable, str(HERE / "adders.py"), f"{conninfo} {LOGIN} {ALIVE}", "--first", str(first),
                             "--clients", str(options.clients), "--every", str(options.every))

    def is_served(self):
        """Whether from now on each of its clients has had a number acknowledged."""
        served, read = set(), len(self.teller.told)

        def look() -> bool:
            nonlocal read
            self.teller.check()
            news = self.teller.told[read:]
            read += len(news)
            served.update(record["n"] // NUMBERS_EACH for record in news if record["became"] == "acknowledged")
            return len(served) > self.last - self.first
        return look

    def own(self, found: Counter) -> Counter:
        return Counter({n: times for n, times in found.items() if self.first <= n // NUMBERS_EACH <= self.last})


class Writes:
    def __init__(self, options: Namespace):
        self.options = options
        self.dice = random.Random(options.seed)
        self.pilotfish: dict[int, Program] = {}
        self.ways: list[Way] = []
        self.faults = Tally()
        self.unserved: list[str] = []
        self.complaints: list[str] = []
        self.found: Counter | None = None
        self.load = Load()

    def run(self) -> None:
        prepare()
        say("bringing the cluster up")
        self.ground = Ground(self.options.name)
        self.ground.make(*(ASYNCHRONOUS if self.options.asynchronous else STRICT))
        self.binary = LOGS / "pilotfish-under-test"
        shutil.copy(pilotfish_program(), self.binary)
        for number in self.ground.balancers:
            self.start_pilotfish(number)
        nodes, balancers = (",".join(address(kind, number) for number in numbers)
                            for kind, numbers in ((NODE, NUMBERS), (BALANCER, self.ground.balancers)))
        self.ways = [
            Way("pilotfish", f"host={balancers} port=5000 connect_timeout=10 load_balance_hosts=random", 1, self.options),
            Way("libpq, several hosts", f"host={nodes} port=5432 target_session_attrs=read-write connect_timeout=2", 101,
                self.options)]
        try:
            self.await_served("the beginning")
            self.hurt()
        finally:
            for way in self.ways:
                way.teller.close()
        self.judge()

    def start_pilotfish(self, number: int) -> None:
        config = LOGS / f"pilotfish{number}.yaml"
        patroni = ", ".join(f"{address(NODE, each)}:8008" for each in NUMBERS)
        config.write_text(CONFIGURATION.format(patroni=patroni))
        machine = self.ground.balancers[number]
        self.pilotfish[number] = machine.start("pilotfish", self.binary, "run", "--config", config)
        words = machine.inside([self.binary, "status", "--ready", "--admin", "127.0.0.1:7000"])
        if not wait_for(lambda: subprocess.run(words, capture_output=True).returncode == 0, READY_TIMEOUT_S):
            raise Failure(f"pilotfish {number} is not ready: {self.pilotfish[number].said()[-LOG_BYTES:]}")

    def hurt(self) -> None:
        until = time.monotonic() + self.options.minutes * MINUTE_S
        left: list[str] = []
        while time.monotonic() < until:
            if not left:
                left = list(self.options.faults)
                self.dice.shuffle(left)
            fault = left.pop()
            begun = time.monotonic()
            try:
                FAULTS[fault](Hurt(self.ground, self.pilotfish, self.start_pilotfish))
                self.faults.played[fault] += 1
            except (Failure, AssertionError) as failure:  # the machines' way to say what went wrong
                self.faults.failed[fault] += 1
                say(f"{fault} could not be played: {failure}")
            self.mend()
            self.await_served(fault)
            counts = ", ".join(f"{way.title} {len(way.teller.told)}" for way in self.ways)
            say(f"{self.faults.title()}; {fault}, {time.monotonic() - begun:.1f} s; numbers so far: {counts}")

    def mend(self) -> None:
        for number, program in self.pilotfish.items():
            if program.has_ended():
                self.complaints.append(f"pilotfish {number} had ended: {program.said()[-LOG_BYTES:]}")
                self.start_pilotfish(number)
        for left in reversed(range(MENDINGS)):
            try:
                return self.ground.mend()
            except (Failure, AssertionError) as failure:
                say(f"it does not mend: {failure}")
                if not left:
                    raise Failure(f"it could not be mended: {failure}") from failure

    def await_served(self, after: str) -> None:
        looks = [way.is_served() for way in self.ways]
        for way, look in zip(self.ways, looks, strict=True):
            if not wait_for(look, SERVED_TIMEOUT_S):
                self.unserved.append(f"{way.title} after {after}")
                say(f"not all clients are served again: {self.unserved[-1]}")

    def judge(self) -> None:
        through = self.read(address(BALANCER, 1), 5000)
        self.found = through
        for number in NUMBERS:
            if not wait_for(lambda: self.read(address(NODE, number), 5432) == through, AGREED_TIMEOUT_S):
                self.complaints.append(f"node {number} ends with other rows than were read through pilotfish")
        for way in self.ways:
            account, found = Account.of(way.teller.told), way.own(through)
            for what, numbers in ("lost", account.lost(found)), ("unexpected", account.unexpected(found)):
                if numbers:
                    self.complaints.append(f"{way.title}: {len(numbers)} {what}, such as {sorted(numbers)[:5]}")
        self.complaints += self.unserved + self.proven(through)
        if self.complaints:
            raise Failure("not reached:\n  " + "\n  ".join(self.complaints))

    def proven(self, through: Counter) -> list[str]:
        """The same judgement sees one number that is made up on either side."""
        way = self.ways[0]
        account, found = Account.of(way.teller.told), way.own(through)
        made_up = max(account.acknowledged) + 1000
        account.acknowledged.add(made_up)
        lost = account.lost(found)
        account.acknowledged.discard(made_up)
        found[made_up] += 1
        unexpected = account.unexpected(found)
        say(f"with a number made up: lost {len(lost)} if it is only acknowledged, unexpected {len(unexpected)} if it is only there")
        return [] if made_up in lost and made_up in unexpected else ["a number made up was not noticed"]

    def read(self, host: str, port: int) -> Counter:
        try:
            with psycopg.connect(f"host={host} port={port} connect_timeout=10 {LOGIN}") as session:
                return Counter(n for n, in session.execute("SELECT n FROM added"))
        except psycopg.Error as error:
            if port == 5000:
                raise Failure(f"the final read: {error}") from error
            return Counter()

    def report(self) -> None:
        if not self.ways:
            return
        document = self.document()
        print(results.text_of(document))
        if self.options.save:
            results.save("writes", document)

    def document(self) -> dict:
        is_whole = self.found is not None
        rows = []
        for way in self.ways:
            account = Account.of(way.teller.told)
            found = way.own(self.found) if is_whole else None
            rows.append([way.title, len(account.acknowledged), len(account.unknown), account.failed,
                         *((len(account.lost(found)), len(account.unexpected(found)), len(account.unknown & found.keys()))
                           if is_whole else (None, None, None))])
        kind = "asynchronous" if self.options.asynchronous else "synchronous, strict"
        return {
            "title": f"Acknowledged writes: {self.options.minutes:g} minutes, {self.faults.title()}, replication {kind}",
            "verdict": "not whole" if not is_whole else "not reached" if self.complaints else "reached",
            "complaints": self.complaints,
            "tables": {
                "Numbers": {"columns": ["", "acknowledged", "unknown", "failed", "lost", "unexpected", "unknown and there"],
                            "rows": rows},
                "Faults": {"columns": list(Tally.COLUMNS), "rows": self.faults.rows()}},
            "figures": {
                "clients_each_way": self.options.clients, "seed": self.options.seed,
                **{f"errors, {way.title}": dict(Account.of(way.teller.told).why.most_common(8)) for way in self.ways},
                "machine": self.load.shares(), "version": first_line(str(pilotfish_program()), "--version"), **facts()}}


def parse() -> Namespace:
    parser = parser_of("writes", __doc__, minutes=30.0)
    parser.add_argument("--clients", type=int, default=8, help="through pilotfish, and as many directly (8)")
    parser.add_argument("--every", type=float, default=0.1, metavar="S", help="between two numbers of one client (0.1)")
    parser.add_argument("--faults", type=one_of(FAULTS), default=list(FAULTS), metavar="A,B", help=f"of: {'; '.join(FAULTS)} (all)")
    parser.add_argument("--seed", type=int, default=1, help="of the order in which faults come (1)")
    parser.add_argument("--asynchronous", action="store_true", help="replication that loses writes, to see them counted")
    return parser.parse_args()


def enter() -> None:
    """Goes on in namespaces of its own, in which everything ends with this program."""
    if os.getuid() != 0:
        raise Failure("it takes root: to make network namespaces")
    if INSIDE not in os.environ:
        os.environ[INSIDE] = "1"
        program = [sys.executable, *sys.orig_argv[1:]]
        os.execvp("unshare", ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc",
                              "--propagation", "private", *program])


def be_init(child: int) -> NoReturn:
    """Of the namespace: orphans come to us, and a killed postmaster that nobody buries looks alive to Patroni."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal tells the child, too
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: os.kill(child, number))
    while True:
        ended, status = os.wait()
        if ended == child:
            sys.exit(os.waitstatus_to_exitcode(status) % 256)


def main() -> int:
    options = parse()
    enter()
    if child := os.fork():
        be_init(child)
    writes = Writes(options)
    return conclude("writes", writes.run, writes.report)
