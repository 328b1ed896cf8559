"""Hours of failovers and reloads under clients of all kinds; at the end everything is back at its start.

Each minute the leader loses its role in another way, each half minute a configuration is read, every second one broken, and
all along new connections come beside those that stay. Four times in a run, and before it, all clients leave; when all is
quiet the process is measured *at rest*: descriptors, threads, memory, and what it counts itself. The first of these, after
a round of every kind of failover, is the start.

To be reached at the last rest:
  - no more descriptors, none more watched by its event loops, no more threads than at the start; no session, client, or held;
    pipes apart, which are kept for the next long transfer: 16 of two descriptors for each worker at most
  - of memory (PSS) at most 8 MiB more than at the start: what is remembered of a hundred losses of the writer, an hour of
    history and a thousand events fills up meanwhile, and glibc keeps some of what it once had
  - while it works, over the second half of the run, a slope of memory (least squares over one look a minute) of at most
    32 KiB a failover
  - each reload was applied or rejected as it was meant; nothing panicked; the process is the one that was started
There is no figure for tasks in a process (tests/it/reload/stress.rs counts them): each session, check and stream is a task
that has a descriptor, so those are watched in its place.
"""
from __future__ import annotations

import os
import socket
import sys
import time
from argparse import Namespace
from collections import Counter
from contextlib import ExitStack
from dataclasses import asdict
from itertools import cycle
from pathlib import Path

import blows
import results
from blows import BLOWS
from child import Failure, Teller, wait_for
from cluster import Cluster
from machine import Load, facts
from options import parser_of
from pilotfish import Figures, Pilotfish, place_of
from programs import first_line, pilotfish_program
from reloads import RELOAD_EVERY_S, Reloader, Reloads
from terminal import conclude, say

HERE = Path(__file__).resolve().parent
MINUTE_S = 60
RESTS = 4
QUIET_TIMEOUT_S, QUIET_FOR_S, LOOK_EVERY_S = 120, 15, 0.5
MIB = 1024 * 1024
MEMORY_BAND = 8 * MIB
MOST_PIPES = 16 * 2 * os.cpu_count()  # src/proxy/splice.rs, a worker for each processor
SLOPE_BOUND = MIB // 32  # a failover
PREPARE = "CREATE TABLE endured (client text, at timestamptz DEFAULT clock_timestamp())"  # what crowd.py writes to


class Soak:
    def __init__(self, options: Namespace):
        self.options = options
        self.cluster = Cluster(options.name, options.net)
        self.place = place_of(options.name)
        self.host = f"{options.net}.31"
        self.rests: list[tuple[int, Figures]] = []
        self.looks: list[dict] = []
        self.counted: Counter = Counter()
        self.errors: Counter = Counter()
        self.reloaded: Counter = Counter()
        self.complaints: list[str] = []
        self.blows = cycle(BLOWS[key] for key in options.blows)
        self.played = 0
        self.is_whole = False
        self.load = Load()

    def run(self) -> None:
        with ExitStack() as stack:
            say("bringing the cluster up")
            stack.callback(self.cluster.wipe)
            blows.up(self.cluster)
            self.cluster.call("psql", self.cluster.leader(), "-qX", "-c", "SET ROLE app", "-c", PREPARE)
            patroni = self.cluster.environment()["PILOTFISH_CLUSTER_PATRONI"].replace(",", ", ")
            self.reloads = Reloads(self.host, patroni)
            self.pilotfish = Pilotfish(self.host, self.place, self.reloads.text())
            stack.callback(self.pilotfish.close)
            self.work(self.options.warm_up, "warm-up")
            self.rest()
            parts = min(RESTS, self.options.minutes)
            for number in range(parts):
                share = self.options.minutes * (number + 1) // parts - self.options.minutes * number // parts
                self.work(share, "soak")
                self.rest()
            self.conclude()

    def work(self, minutes: int, what: str) -> None:
        crowd = Teller(sys.executable, str(HERE / "crowd.py"), self.host, "--rate", str(self.options.rate))
        reloader = Reloader(self.pilotfish, self.reloads)
        reloader.start()
        try:
            for _ in range(minutes):
                begun = time.monotonic()
                self.minute(what, crowd)
                crowd.check()
                time.sleep(max(0, begun + MINUTE_S - time.monotonic()))
                self.look(what, crowd)
        finally:
            reloader.stop()
            crowd.close()
            self.reloaded += reloader.done
            self.complaints += reloader.wrong
            if crowd.told:
                self.counted += Counter(crowd.told[-1]["counted"])
                self.errors += Counter(crowd.told[-1]["errors"])

    def minute(self, what: str, crowd: Teller) -> None:
        blow = next(self.blows)
        begun = time.monotonic()
        self.last = {"part": what, "blow": blow.title}
        try:
            moved = blows.play(blow, self.cluster)
            self.played += 1
            self.last |= {"moved": moved, "took_s": round(time.monotonic() - begun, 1)}
        except Failure as failure:
            blows.recover(self.cluster, failure, say)
            self.last |= {"moved": None, "took_s": None}

    def look(self, what: str, crowd: Teller) -> None:
        made = crowd.told[-1]["counted"] if crowd.told else {}
        figures = self.pilotfish.figures()
        self.looks.append({**self.last, **asdict(figures), "newcomers": sum(
            value for key, value in made.items() if key in ("newcomer to write", "newcomer to read"))})
        say(f"{what} {len(self.looks)}: {self.last['blow']}, {self.last['took_s']} s: {told(figures)}")

    def rest(self) -> None:
        result = self.pilotfish.reload(self.reloads.text())
        self.reloaded[result] += 1
        known: list[tuple[float, int, int]] = []

        def is_quiet() -> bool:
            time.sleep(LOOK_EVERY_S)
            figures, now = self.pilotfish.figures(), time.monotonic()
            if figures.sessions or figures.clients or figures.held:
                known.clear()
            known.append((now, figures.descriptors, figures.threads))
            recent = [each for each in known if each[0] > now - QUIET_FOR_S]
            settled = len({each[2] for each in recent}) == 1
            return settled and now - known[0][0] > QUIET_FOR_S
        if not wait_for(is_quiet, QUIET_TIMEOUT_S):
            say(f"not quiet after {QUIET_TIMEOUT_S} s")
        self.rests.append((self.played, self.pilotfish.figures_at_rest()))
        say(f"at rest after {self.played} failovers: {told(self.rests[-1][1])}")

    def conclude(self) -> None:
        self.complaints += judged(self.rests[0][1], self.rests[-1][1])
        self.complaints += judged_slope(self.slope())
        reloads = self.pilotfish.reloads()
        if +reloads != +self.reloaded:
            self.complaints.append(f"reloads: {dict(reloads)} as it counts, {dict(self.reloaded)} as they were made")
        self.complaints += self.pilotfish.panics()
        self.complaints += self.proven()
        self.is_whole = True
        if self.complaints:
            raise Failure("not reached:\n  " + "\n  ".join(self.complaints))

    def proven(self) -> list[str]:
        """The judgement sees one descriptor too many: that of a client which says nothing."""
        with socket.create_connection((self.host, 5000)):
            seen = judged(self.rests[0][1], self.pilotfish.figures_at_rest())
        is_seen = any("descriptors" in each for each in seen)
        say(f"with one silent client the judgement is: {'; '.join(seen)}")
        return [] if is_seen else ["one descriptor too many was not noticed"]

    def slope(self) -> float | None:
        """Bytes a failover, of the memory while it works, over the second half."""
        looks = [each["pss_bytes"] for each in self.looks if each["part"] == "soak"]
        return slope_of(looks[len(looks) // 2:])

    def report(self) -> None:
        if not self.rests:
            return
        document = self.document()
        print(results.text_of(document))
        if self.options.save:
            results.save("soak", document)

    def document(self) -> dict:
        reached = "reached" if self.is_whole and not self.complaints else "not reached" if self.is_whole else "not whole"
        slope = self.slope()
        return {
            "title": f"Soak: {self.options.minutes} minutes, a failover each minute, a reload each {RELOAD_EVERY_S} s",
            "verdict": reached, "complaints": self.complaints,
            "tables": {"At rest": {
                "columns": ["failovers", *COLUMNS.values()],
                "rows": [[played, *cells(figures)] for played, figures in self.rests]},
                "At work, at the end of each minute": {
                "columns": ["part", "blow", "another leads", "took s", *COLUMNS.values()],
                "rows": [[each["part"], each["blow"], each["moved"], each["took_s"], *cells(Figures(
                    **{key: each[key] for key in Figures.__annotations__}))] for each in self.looks]}},
            "figures": {
                "failovers": self.played, "slope_bytes_per_failover": slope and round(slope),
                "reloads": dict(self.reloaded), "clients": dict(self.counted),
                "errors_of_clients": dict(self.errors.most_common(30)), "machine": self.load.shares(),
                "version": first_line(str(pilotfish_program()), "--version"), **facts()}}


COLUMNS = {"descriptors": "descriptors", "pipes": "pipes", "watched": "watched", "threads": "threads", "pss_bytes": "PSS MiB",
           "rss_bytes": "RSS MiB", "sessions": "sessions", "clients": "clients", "held": "held"}


def cells(figures: Figures) -> list:
    return [round(value / MIB, 1) if name.endswith("_bytes") else value
            for name, value in asdict(figures).items()]


def told(figures: Figures) -> str:
    return ", ".join(f"{value} {title}" for title, value in zip(COLUMNS.values(), cells(figures), strict=True))


def judged(start: Figures, end: Figures) -> list[str]:
    """What is not back at its start."""
    found = [f"{name}: {getattr(end, name)}, at the start {getattr(start, name)}"
             for name in ("descriptors", "watched", "threads") if getattr(end, name) > getattr(start, name)]
    found += [f"{name}: {getattr(end, name)} at rest" for name in ("sessions", "clients", "held") if getattr(end, name)]
    if end.pipes > MOST_PIPES:
        found.append(f"pipes: {end.pipes} descriptors, at most {MOST_PIPES}")
    grown = end.pss_bytes - start.pss_bytes
    return found + ([f"memory: {grown / MIB:.1f} MiB more than at the start"] if grown > MEMORY_BAND else [])


def judged_slope(slope: float | None) -> list[str]:
    if slope is None or slope <= SLOPE_BOUND:
        return []
    return [f"memory grows by {slope / 1024:.0f} KiB a failover, more than {SLOPE_BOUND // 1024}"]


def slope_of(values: list[int]) -> float | None:
    """By least squares, for each step from one to the next."""
    if len(values) < 10:
        return None
    middle, mean = (len(values) - 1) / 2, sum(values) / len(values)
    return sum((at - middle) * (value - mean) for at, value in enumerate(values)) / sum(
        (at - middle) ** 2 for at in range(len(values)))


def parse() -> Namespace:
    parser = parser_of("soak", __doc__, "127.0.61", minutes=120)
    parser.add_argument("--warm-up", type=int, default=len(BLOWS), help=f"failovers before the start ({len(BLOWS)})")
    parser.add_argument("--rate", type=float, default=40, help="new connections a second (40)")
    parser.add_argument("--blows", type=lambda text: text.split(","), default=list(BLOWS), metavar="A,B",
                        help=f"of {', '.join(BLOWS)} (all)")
    return parser.parse_args()


def main() -> int:
    soak = Soak(parse())
    return conclude("soak", soak.run, soak.report)
