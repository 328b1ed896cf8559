"""The processes of a cluster, found by what they are and not by a remembered number.

Every member has a directory of its own, and all its processes work inside it: Patroni and etcd
because they are started there, PostgreSQL because it moves into its data directory. So a process
is ours when it runs one of our programs in such a directory. A process id written down would go
stale and be given to a stranger; this cannot, and it also finds the backends that a killed
postmaster leaves behind.
"""
from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("etcd", "postgres", "initdb", "pg_basebackup", "pg_rewind", "python")


class Failure(Exception):
    """What went wrong and, where it helps, the log whose last lines tell more."""

    def __init__(self, message: str, log: Path | None = None):
        super().__init__(message)
        self.log = log


@dataclass(frozen=True)
class Process:
    pid: int
    parent: int
    state: str
    program: str
    arguments: tuple

    @property
    def is_patroni(self) -> bool:
        return len(self.arguments) > 1 and self.arguments[1].endswith("/patroni")

    @property
    def is_stopped(self) -> bool:
        return self.state == "T"


def inside(directory: Path) -> list[Process]:
    """Our live processes that work in this directory or below it."""
    found = (_read(int(entry), directory) for entry in os.listdir("/proc") if entry.isdigit())
    return [process for process in found if process]


def _read(pid: int, directory: Path) -> Process | None:
    """The process, if it is one of ours there. One of another user, a zombie and one just gone are not."""
    proc = Path("/proc", str(pid))
    try:
        place = os.readlink(proc / "cwd").replace(" (deleted)", "")
        if place != str(directory) and not place.startswith(f"{directory}/"):
            return None
        program = os.path.basename(os.readlink(proc / "exe")).replace(" (deleted)", "")
        arguments = tuple((proc / "cmdline").read_text(errors="replace").split("\0"))
        state, parent = (proc / "stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
    except OSError:
        return None
    if not program.startswith(PROGRAMS) or state in "ZX":
        return None
    return Process(pid, int(parent), state, program, arguments)


def send(processes: list[Process], number: signal.Signals) -> None:
    for process in processes:
        try:
            os.kill(process.pid, number)
        except ProcessLookupError:
            pass


def spawn(command: list[str], directory: Path, log: Path) -> None:
    """Starts a program that outlives us: own session, no terminal, and none of the caller's PG* or PATRONI_* settings."""
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": str(directory), "LANG": "C.UTF-8"}
    with open(log, "a") as output:
        child = subprocess.Popen(command, cwd=directory, env=environment, start_new_session=True,
                                 stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    # Popen returns in the middle of exec: until the kernel has laid out the arguments, `inside` does not know it.
    # For a moment it has its program already and no argument.
    while not ((found := _read(child.pid, directory)) and found.arguments[0]) and child.poll() is None:
        time.sleep(0.001)


def wait_until_none(problem, seconds: float) -> None:
    """Asks `problem()` until it is None; past the deadline raises the last one, a Failure."""
    deadline = time.monotonic() + seconds
    while (current := problem()) is not None:
        if time.monotonic() > deadline:
            raise Failure(f"{current}, still so after {seconds:g} s", current.log)
        time.sleep(0.1)
