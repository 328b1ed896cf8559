"""Processes that we start and that end with us, whatever ends us.

Each is ended by its own id. One that reads its standard input sees that end when we are gone; the others get a
signal from the kernel (`setpriv --pdeathsig`).
"""
from __future__ import annotations

import json
import subprocess
import threading
import time
from pathlib import Path
from signal import SIGTERM

END_TIMEOUT_S = 10
POLL_S = 0.05


class Failure(Exception):
    """What went wrong, for people."""


def wait_for(condition, seconds: float, what: str | None = None):
    """The condition's value as soon as it holds. Past the deadline a failure, or None where `what` is not said."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            if what:
                raise Failure(f"{what}: not so after {seconds:g} s")
            return None
        time.sleep(POLL_S)
    return value


def end(process: subprocess.Popen) -> None:
    try:
        process.wait(END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Service:
    """A program that runs until it is told to end, as a user of its own if one is given."""

    def __init__(self, command: list[str], log: Path, user: int | None = None):
        self.log = log
        drop = [f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
        with open(log, "w") as output:
            self.process = subprocess.Popen(
                ["setpriv", *drop, "--pdeathsig", "TERM", *command], start_new_session=True, cwd=log.parent,
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)

    def check(self) -> None:
        if self.process.poll() is not None:
            last = self.log.read_text(errors="replace").splitlines()[-10:]
            raise Failure("\n".join([f"{self.log.stem} has ended, its last lines:", *last]))

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(SIGTERM)
        end(self.process)


class Teller:
    """One of our own programs, which tells what it sees in lines of JSON; `told` grows as it does."""

    def __init__(self, *command: str):
        self.told: list[dict] = []
        self.process = subprocess.Popen(
            command, start_new_session=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.told.append(json.loads(line))

    def check(self) -> None:
        if self.process.poll() is not None:
            raise Failure(f"{' '.join(self.process.args)} has ended")

    def close(self) -> None:
        self.process.stdin.close()
        end(self.process)
        self.reader.join()
