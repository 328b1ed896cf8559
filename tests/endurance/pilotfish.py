"""The pilotfish under test, as a process: its configuration, its reloads, and what it and the kernel say of it."""
from __future__ import annotations

import os
import re
import shutil
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from signal import SIGHUP

import counts
import firewall
from child import Failure, Service, wait_for
from programs import pilotfish_program

HTTP_TIMEOUT_S = 15
READY_TIMEOUT_S = 30
RELOAD_TIMEOUT_S = 10
SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="([^"]*)"')
LOOKS, LOOK_EVERY_S = 40, 0.25


def place_of(name: str) -> Path:
    """Where configurations and logs of one run go; the balancers' user reads them."""
    path = Path(f"/var/tmp/pilotfish-{os.getuid()}/proxy/endurance-{name}")
    path.mkdir(parents=True, exist_ok=True)
    return path


@dataclass
class Figures:
    """At one moment. Counts, unless the name says a unit."""
    descriptors: int  # but pipes
    pipes: int  # descriptors of pipes: idle ones are kept for the next long transfer
    watched: int  # descriptors in its event loops
    threads: int
    pss_bytes: int
    rss_bytes: int
    sessions: int
    clients: int
    held: int


class Pilotfish:
    def __init__(self, host: str, place: Path, configuration: str):
        self.host, self.place = host, place
        copy = place / "pilotfish"  # its user may not see into the project
        copy.unlink(missing_ok=True)
        shutil.copy(pilotfish_program(), copy)
        self.config = place / "pilotfish.yaml"
        self.config.write_text(configuration)
        user = firewall.USER if os.getuid() == 0 else None
        self.service = Service([str(copy), "run", "--config", str(self.config)], place / "pilotfish.log", user)
        try:
            wait_for(self.is_ready, READY_TIMEOUT_S, "pilotfish ready")
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        return self.service.process.pid

    def close(self) -> None:
        self.service.close()

    def check(self) -> None:
        self.service.check()

    def is_ready(self) -> bool:
        self.check()
        try:
            return self.get("/readyz") is not None
        except OSError:
            return False

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://{self.host}:7000{path}", timeout=HTTP_TIMEOUT_S) as answer:
            return answer.read().decode()

    def metrics(self) -> list[tuple[str, dict[str, str], float]]:
        try:
            samples = SAMPLE.findall(self.get("/metrics"))
        except OSError as error:
            raise Failure(f"its metrics do not come within {HTTP_TIMEOUT_S} s: {error}") from error
        return [(name, dict(LABEL.findall(labels)), float(value)) for name, labels, value in samples]

    def reloads(self) -> Counter:
        """So far, by result."""
        return Counter({labels["result"]: int(value) for name, labels, value in self.metrics()
                        if name == "pilotfish_reloads_total"})

    def reload(self, configuration: str) -> str:
        """The result, as it counts it itself."""
        before = self.reloads()
        self.config.write_text(configuration)
        self.service.process.send_signal(SIGHUP)
        return wait_for(lambda: next(iter(self.reloads() - before), None), RELOAD_TIMEOUT_S, "a reload shows in the metrics")

    def figures(self) -> Figures:
        self.check()
        counted, total = self.metrics(), Counter()
        for name, _, value in counted:
            total[name] += int(value)
        status = Path(f"/proc/{self.pid}/status").read_text()
        kinds = descriptors(self.pid)
        return Figures(
            kinds.total() - kinds["pipe"], kinds["pipe"], sum(counts.epolls(self.pid).values()),
            int(re.search(r"^Threads:\s+(\d+)", status, re.MULTILINE)[1]), counts.pss_bytes(self.pid),
            1024 * int(re.search(r"^VmRSS:\s+(\d+)", status, re.MULTILINE)[1]),
            total["pilotfish_sessions_active"], total["pilotfish_clients"], total["pilotfish_held"])

    def figures_at_rest(self) -> Figures:
        """The least of each over some seconds: a check or a look at the page that is under way adds to one look, what has
        leaked to all."""
        looks = []
        for _ in range(LOOKS):
            looks.append(self.figures())
            time.sleep(LOOK_EVERY_S)
        return Figures(**{name: min(getattr(each, name) for each in looks) for name in vars(looks[0])})

    def panics(self) -> list[str]:
        with open(self.place / "pilotfish.log", errors="replace") as log:
            return [line.strip() for line in log if "panicked" in line]


def descriptors(pid: int) -> Counter:
    """By kind: socket, pipe, anon_inode (event loops and their like), or a path."""
    kinds: Counter = Counter()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            kinds[os.readlink(entry).partition(":")[0]] += 1
        except FileNotFoundError:
            pass  # closed meanwhile
    return kinds
