"""The rows of the table: what is done through a relay, what is measured of it, and what it is held against.

A block is one short measurement of one row through one relay. It returns figures by name; a row's measures say which
of these are shown, in what unit, and which way is better.
"""
from __future__ import annotations

import json
import resource
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import cores
import counts
from child import Failure, Teller, end, wait_for
from database import COPY_DATA_BYTES, LINE_BYTES, Database
from programs import load_program
from relays import ECHO, Field, Relay, check_limit

PAIR, PEERS = ("haproxy", "haproxy2"), ("haproxy", "splice", "nginx")
USUAL = ("direct", *PAIR, "nginx", "pilotfish")
BULK = ("direct", *PAIR, "splice", "nginx", "pilotfish")
RELAYS = (*PAIR, "nginx", "pilotfish")
SLACK_S = 60  # for a program of ours to end after its time
STREAMS = 4  # of bulk data at once
COUNTED_DIALS = 2000  # after which the sockets left in TIME_WAIT are counted
POOL_SESSIONS = 50
PACE_US = 1000  # between two messages of a client that shares its worker with bulk


@dataclass(frozen=True)
class Target:
    """`pilotfish / against` is to be at least (or at most) `factor`; without `against`, the figure itself."""
    factor: float
    against: str | None = None

    def text(self, more_is_better: bool, names: dict[str, str]) -> str:
        sign = "≥" if more_is_better else "≤"
        return f"{sign} {self.factor:.3g}" + (f"× {names.get(self.against, 'best peer')}" if self.against else "")


@dataclass(frozen=True)
class Measure:
    key: str
    title: str
    digits: int
    more_is_better: bool
    targets: tuple[Target, ...] = ()
    scale: float = 1


@dataclass(frozen=True)
class Row:
    key: str
    title: str
    who: tuple[str, ...]
    measures: tuple[Measure, ...]
    block: Callable[[Scene, Relay], dict[str, float]]
    #: Of the repeats of the whole run; what is exact needs but one.
    repeats: float = 1
    needs: tuple[str, ...] = ()


@dataclass
class Scene:
    """What blocks need: the time they may take, the database, a place for files."""
    seconds: float
    gigabytes: float
    sessions: tuple[int, int]
    database: Database
    place: Path
    field: Field = field(repr=False)

    def load(self, *arguments: object) -> dict:
        """Runs our load beside the relay, and reads what it tells."""
        return json.loads(self.output(cores.on(cores.REST, load_program(), *arguments)))

    def output(self, command: list[str]) -> str:
        process = subprocess.Popen(command, text=True, start_new_session=True, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            output, errors = process.communicate(timeout=self.seconds + SLACK_S)
        except BaseException:
            process.kill()
            process.wait()
            raise
        if process.returncode != 0:
            raise Failure(f"{' '.join(command)}: {errors.strip()}")
        return output


def costed(relay: Relay, work: Callable[[], dict]) -> tuple[dict, float]:
    """What the work told, and the relay's processor time meanwhile."""
    before = relay.cpu_s()
    told = work()
    return told, relay.cpu_s() - before


def ping(scene: Scene, relay: Relay) -> dict[str, float]:
    told, cpu_s = costed(relay, lambda: scene.load("ping", relay.address(), "--connections", 64, "--seconds", scene.seconds))
    return {"per_s": told["per_s"], "p99_us": told["p99_us"], "cpu_us": 1e6 * cpu_s / told["all"]}


def pgbench(clients: int):
    def block(scene: Scene, relay: Relay) -> dict[str, float]:
        host, port = relay.database()
        for old in scene.place.glob("pgbench_log.*"):
            old.unlink()
        arguments = ["-n", "-S", "-M", "prepared", "-c", str(clients), "-j", "1", "-T", str(max(1, round(1.5 * scene.seconds))), "-l",
                     f"--log-prefix={scene.place}/pgbench_log"]
        before = relay.cpu_s()
        said = scene.database.run("pgbench", *arguments, host=host, port=port)
        cpu_s = relay.cpu_s() - before
        tps = next(float(line.split()[2]) for line in said.splitlines() if line.startswith("tps ="))
        took_us = sorted(int(line.split()[2]) for log in scene.place.glob("pgbench_log.*") for line in log.open())
        return {"per_s": tps, "p99_us": took_us[int(0.99 * len(took_us))], "cpu_us": 1e6 * cpu_s / len(took_us)}
    return block


def bulk(chunk: int):
    def block(scene: Scene, relay: Relay) -> dict[str, float]:
        arguments = ("pull", relay.address(), "--streams", STREAMS, "--chunk", chunk, "--seconds", scene.seconds)
        told, cpu_s = costed(relay, lambda: scene.load(*arguments))
        return {"gb_per_s": told["per_s"] / 1e9, "cpu_s_per_gb": cpu_s / (told["bytes"] / 1e9)}
    return block


def copy(statement: str, **ends: str):
    def block(scene: Scene, relay: Relay) -> dict[str, float]:
        host, port = relay.database()
        lines = int(scene.gigabytes * 1e9 / (LINE_BYTES + COPY_DATA_BYTES))
        gigabytes = lines * (LINE_BYTES + COPY_DATA_BYTES) / 1e9
        before, begun = relay.cpu_s(), time.monotonic()
        with open(scene.place / "bulk.copy" if ends.get("stdin") else "/dev/null", "rb") as source:
            scene.database.psql(statement, host=host, port=port, stdin=source)
        took = time.monotonic() - begun
        return {"gb_per_s": gigabytes / took, "cpu_s_per_gb": (relay.cpu_s() - before) / gigabytes}
    return block


def dialling(scene: Scene, close: str) -> tuple[object, ...]:
    return "--close", close, "--from", f"{scene.field.net.rpartition('.')[0]}.200.1"


def dial(close: str):
    def block(scene: Scene, relay: Relay) -> dict[str, float]:
        arguments = ("dial", relay.address(), *dialling(scene, close))
        left = 0
        if isinstance(relay, Relay):
            before = counts.time_waits(relay.backend)
            scene.load(*arguments, "--count", COUNTED_DIALS, "--seconds", SLACK_S / 2)
            left = max(0, counts.time_waits(relay.backend) - before)
        told, cpu_s = costed(relay, lambda: scene.load(*arguments, "--seconds", scene.seconds))
        return {"per_s": told["per_s"], "p99_us": told["p99_us"], "failed": told["failed"], "time_wait": left,
                "cpu_us": 1e6 * cpu_s / max(1, told["count"])}
    return block


def idle(which: int):
    def block(scene: Scene, relay: Relay) -> dict[str, float]:
        sessions = check_limit(scene.sessions[which], resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        relay.restart()
        before = counts.pss_bytes(relay.pid)
        crowd = Teller(*cores.on(cores.REST, load_program(), "idle", relay.address(), "--sessions", sessions))
        try:
            wait_for(lambda: crowd.told or crowd.check(), SLACK_S, f"{sessions} open sessions through {relay.title}")
            grown = counts.pss_bytes(relay.pid) - before
        finally:
            crowd.close()
        return {"kb_per_session": grown / 1024 / sessions, "sessions": sessions}
    return block


def traced(scene: Scene, relay: Relay, *load: object) -> tuple[dict, dict[str, int]]:
    """What the load told, and the relay's system calls meanwhile."""
    trace = counts.Trace(relay.pid, scene.place)
    try:
        told = scene.load(*load)
    finally:
        trace.close()
    return told, trace.calls()


def dial_calls(close: str):
    def block(scene: Scene, relay: Relay) -> dict[str, float]:
        told, calls = traced(scene, relay, "dial", relay.address(), *dialling(scene, close), "--seconds", scene.seconds)
        of = {"register": ("epoll_ctl",), "set": ("setsockopt", "fcntl", "ioctl"), "all": calls}
        return {name: sum(calls.get(call, 0) for call in names) / told["count"] for name, names in of.items()}
    return block


def syscalls(scene: Scene, relay: Relay) -> dict[str, float]:
    told, calls = traced(scene, relay, "ping", relay.address(), "--connections", 64, "--seconds", scene.seconds)
    messages = 2 * told["all"]  # one there, one back
    # Not read and write: those are of the eventfds by which threads wake each other, and count among all.
    of = {"receive": ("recvfrom", "recvmsg", "readv"), "send": ("sendto", "sendmsg", "writev"),
          "wait": ("epoll_wait", "epoll_pwait", "epoll_pwait2")}
    figures = {name: sum(calls.get(call, 0) for call in names) / messages for name, names in of.items()}
    return {**figures, "all": sum(calls.values()) / messages}


def busy(scene: Scene, relay: Relay) -> dict[str, float]:
    """The client and its backend run ahead of everything else on their core: what is late is the relay."""
    def p99_us(address: str) -> float:
        command = cores.on(cores.REST, load_program(), "ping", address, "--pace-us", PACE_US, "--seconds", scene.seconds)
        return json.loads(scene.output(cores.at_once(*command)))["p99_us"]
    idle_us = p99_us(relay.address(ECHO))
    command = cores.on(cores.REST, load_program(), "pull", relay.address(), "--streams", STREAMS, "--chunk", 65536, "--seconds",
                       3 * SLACK_S)
    bulk_load = subprocess.Popen(["setpriv", "--pdeathsig", "TERM", *command], start_new_session=True)
    try:
        busy_us, floor_us = p99_us(relay.address(ECHO)), p99_us(scene.field.echo())
        if bulk_load.poll() is not None:
            raise Failure(f"the bulk load through {relay.title} has ended")
    finally:
        bulk_load.terminate()
        end(bulk_load)
    return {"idle_us": idle_us, "busy_us": busy_us, "floor_us": floor_us, "times": busy_us / idle_us}


def spread(_scene: Scene, relay: Relay) -> dict[str, float]:
    """From what each event loop watches, two sockets for each session; the loops that serve none did not grow."""
    before = counts.epolls(relay.pid)
    crowd = Teller(str(load_program()), "idle", relay.address(), "--sessions", str(POOL_SESSIONS))
    try:
        wait_for(lambda: crowd.told or crowd.check(), SLACK_S, f"{POOL_SESSIONS} open sessions")
        after = counts.epolls(relay.pid)
    finally:
        crowd.close()
    grown = sorted((count - before.get(loop, 0) for loop, count in after.items()), reverse=True)[:relay.workers]
    return {"fullest_ahead": (grown[0] - grown[-1]) / 2, "counted": sum(grown) / 2}


def at_best(factor: float) -> tuple[Target, ...]:
    return (Target(factor, "best"),)


CPU_PER_GB = Measure("cpu_s_per_gb", "relay CPU s/GB", 3, False, (Target(0.55, "haproxy"), Target(1.0, "splice")))
GB_PER_S = Measure("gb_per_s", "GB/s", 2, True, at_best(1.0))
P99 = Measure("p99_us", "p99 ms", 2, False, at_best(1.0), 1e-3)
TPS = (Measure("per_s", "transactions/s", 0, True, at_best(1.0)), P99,
       Measure("cpu_us", "relay CPU µs/transaction", 2, False))
DIALS = (Measure("per_s", "connections/s", 0, True, at_best(1.0)), P99,
         Measure("cpu_us", "relay CPU µs/connection", 1, False),
         Measure("time_wait", f"left in TIME_WAIT towards the backend, of {COUNTED_DIALS}", 0, False, (Target(0),)),
         Measure("failed", "failed", 0, False))
DIAL_CALLS = (Measure("register", "epoll_ctl", 2, False, at_best(1.0)), Measure("set", "settings", 2, False),
              Measure("all", "all", 1, False, at_best(1.0)))
MEMORY = (Measure("kb_per_session", "KiB of user memory/session", 2, False, (Target(1.2), Target(1 / 3, "haproxy"))),
          Measure("sessions", "sessions", 0, True))

ROWS = {row.key: row for row in (
    Row("ping", "64-byte ping-pong, 64 connections", USUAL, (
        Measure("per_s", "requests/s", 0, True, (Target(1.10, "haproxy"), Target(1.0, "nginx"))),
        Measure("cpu_us", "relay CPU µs/request", 2, False), Measure("p99_us", "p99 ms", 2, False, (), 1e-3)), ping),
    Row("counters", "the same, without counters", (*PAIR, "pilotfish", "uncounted"), (
        Measure("per_s", "requests/s", 0, True), Measure("cpu_us", "relay CPU µs/request", 2, False)), ping),
    Row("pgbench1", "pgbench -S -M prepared, 1 client", USUAL, TPS, pgbench(1), needs=("pgbench",)),
    Row("pgbench8", "pgbench -S -M prepared, 8 clients", USUAL, TPS, pgbench(8), needs=("pgbench",)),
    Row("pgbench64", "pgbench -S -M prepared, 64 clients", USUAL, TPS, pgbench(64), needs=("pgbench",)),
    Row("bulk8", "bulk, 8 KiB writes", BULK, (CPU_PER_GB, GB_PER_S), bulk(8192)),
    Row("bulk64", "bulk, 64 KiB writes", BULK, (CPU_PER_GB, GB_PER_S), bulk(65536)),
    Row("copyout", "COPY out", BULK, (CPU_PER_GB, GB_PER_S), copy("COPY bulk TO STDOUT"), 0.6, ("copy",)),
    # Read and parsed but not kept: the disk is not what is measured.
    Row("copyin", "COPY in", BULK, (CPU_PER_GB, GB_PER_S), copy("COPY bulk FROM STDIN WHERE false", stdin="file"), 0.6,
        ("copy", "file")),
    Row("dialreset", "new connections, closed with a reset", USUAL, DIALS, dial("reset")),
    Row("dialfin", "new connections, closed with FIN", USUAL, DIALS, dial("fin")),
    Row("idle4000", "idle sessions, 4,000", RELAYS, MEMORY, idle(0), 0.4),
    Row("idle9000", "idle sessions, 9,000", RELAYS, MEMORY, idle(1), 0.4),
    Row("syscalls", "system calls per relayed message", ("haproxy", "nginx", "pilotfish"), (
        Measure("receive", "receives", 2, False, (Target(1.05),)), Measure("send", "sends", 2, False, (Target(1.05),)),
        Measure("wait", "epoll waits", 2, False, (Target(1.0),)), Measure("all", "all", 2, False)), syscalls, 0.2),
    Row("callsreset", "system calls per connection closed with a reset", ("haproxy", "nginx", "pilotfish"), DIAL_CALLS,
        dial_calls("reset"), 0.2),
    Row("callsfin", "system calls per connection closed with FIN", ("haproxy", "nginx", "pilotfish"), DIAL_CALLS,
        dial_calls("fin"), 0.2),
    Row("busy", "a ping beside bulk on one worker", RELAYS, (
        Measure("times", "p99 busy to idle", 2, False, (Target(2.0),)), Measure("idle_us", "idle p99 ms", 3, False, (), 1e-3),
        Measure("busy_us", "busy p99 ms", 3, False, (), 1e-3),
        Measure("floor_us", "p99 ms past the relay meanwhile", 3, False, (), 1e-3)), busy, 0.6),
    Row("spread", f"{POOL_SESSIONS} long-lived sessions over 2 workers", ("wide",), (
        Measure("fullest_ahead", "the fullest has more than the emptiest", 0, False, (Target(1),)),
        Measure("counted", "sessions", 0, True)), spread, 0.4),
)}


def middle(blocks: list[dict[str, float]], measure: Measure) -> float:
    return median(block[measure.key] for block in blocks) * measure.scale
