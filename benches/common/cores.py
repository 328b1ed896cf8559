"""Which processor does what: the relay has one to itself, and all that surrounds it shares another."""
from __future__ import annotations

import os
import subprocess

from child import Failure

_allowed = sorted(os.sched_getaffinity(0))
RELAY, REST = _allowed[0], _allowed[-1]


def check() -> None:
    if RELAY == REST:
        raise Failure("one processor is not enough: the relay needs one and the load another")


def on(core: int, *command: object) -> list[str]:
    return ["taskset", "-c", str(core), *map(str, command)]


def at_once(*command: str) -> list[str]:
    """Ahead of everything else on its core, where that is allowed: a client whose own lateness must not count."""
    ahead = ["chrt", "-f", "1"]
    return [*(ahead if subprocess.run([*ahead, "true"], capture_output=True).returncode == 0 else []), *command]
