"""Where the programs under measurement are."""
from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from child import Failure

REPOSITORY = Path(__file__).parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
PROFILE = os.environ.get("PILOTFISH_PROFILE", "release")  # a short run may do with what was built for the tests
SYSTEM = "/usr/local/sbin:/usr/sbin:" + os.environ.get("PATH", "")


def pilotfish_program() -> Path:
    """The one that PILOTFISH_BINARY names, or the release of these sources."""
    if named := os.environ.get("PILOTFISH_BINARY"):
        return built(Path(named).absolute(), "whoever set PILOTFISH_BINARY")
    return built(TARGET / PROFILE / "pilotfish", "cargo build --release")


def uncounted_program() -> Path:
    return built(TARGET / "release/examples/uncounted", "cargo build --release --features uncounted --example uncounted")


def load_program() -> Path:
    return built(TARGET / PROFILE / "examples/load", "cargo build --release --example load")


def built(program: Path, by: str) -> Path:
    if not program.exists():
        raise Failure(f"there is no {program}: {by} makes it")
    return program


def haproxy_program() -> str:
    return installed("haproxy")


def nginx_program() -> str:
    return installed("nginx")


def installed(name: str) -> str:
    program = shutil.which(name, path=SYSTEM)
    if not program:
        raise Failure(f"{name} is not installed: run deploy/setup bench")
    return program


def postgresql_programs() -> Path:
    """The directory of the newest PostgreSQL, or the one that PILOTFISH_PG_BIN names."""
    if named := os.environ.get("PILOTFISH_PG_BIN"):
        return Path(named)
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda program: float(program.parts[-3]))
    if not found:
        raise Failure("PostgreSQL is not installed: run deploy/setup cluster")
    return found[-1].parent


def first_line(*command: str) -> str:
    said = subprocess.run(command, capture_output=True, text=True)
    return (said.stdout or said.stderr).splitlines()[0].strip()
