"""The cluster under test: deploy/demo/cluster does the work, this only calls it."""
from __future__ import annotations

import os
import re
import shlex
import subprocess
import time
from datetime import datetime
from pathlib import Path

from child import Failure, end
from client import PREPARE

TOOL = Path(__file__).parents[2] / "deploy/demo/cluster"
LOG_LINES = 4000
PATRONI_LINE = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),(\d{3}) (?:INFO|WARNING|ERROR): (.*)")
TOOK_THE_LOCK = "by acquiring session lock"


class Cluster:
    def __init__(self, name: str, net: str):
        self.name, self.net = name, net

    def call(self, *arguments: str) -> str:
        command = [str(TOOL), "--name", self.name, *arguments]
        process = subprocess.Popen(command, text=True, start_new_session=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            output, errors = process.communicate()
        except BaseException:
            process.terminate()
            end(process)
            raise
        if process.returncode != 0:
            raise Failure(f"{shlex.join(command)}: {errors.strip()}")
        return output.strip()

    def up(self) -> None:
        self.call("--net", self.net, "up")

    def wipe(self) -> None:
        self.call("down", "--wipe")

    def leader(self) -> str:
        return self.call("wait-leader")

    def clear(self) -> None:
        """An empty table for the writes to come."""
        self.call("psql", self.leader(), "-qX", "-v", "ON_ERROR_STOP=1", "-c", "SET ROLE app", "-c", PREPARE)

    def environment(self) -> dict[str, str]:
        exports = (line.removeprefix("export ").partition("=") for line in self.call("env").splitlines())
        return {key: shlex.split(value)[0] for key, _, value in exports}

    def members(self) -> dict[str, str]:
        """Name by address."""
        pairs = self.environment()["PILOTFISH_CLUSTER_MEMBERS"].split(",")
        return dict(pair.split("=") for pair in pairs)

    def patroni_says(self, since: float) -> list[tuple[float, str]]:
        """What Patroni logged on all nodes since then, with monotonic times."""
        said = []
        for member in self.members().values():
            for line in self.call("logs", member, "-n", str(LOG_LINES)).splitlines():
                if match := PATRONI_LINE.match(line):
                    date, milliseconds, text = match.groups()
                    wall = datetime.fromisoformat(f"{date}.{milliseconds}").timestamp()
                    said.append((monotonic_of(wall), f"{member}: {text}"))
        return sorted(line for line in said if line[0] >= since)


def monotonic_of(wall: float) -> float:
    return wall - time.time() + time.monotonic()


def place() -> Path:
    """Where configurations and logs of the benchmark go. Balancers that run as another user read it."""
    path = Path(f"/var/tmp/pilotfish-{os.getuid()}/proxy/bench-failover")
    path.mkdir(parents=True, exist_ok=True)
    return path
