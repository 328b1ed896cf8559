"""Configurations for one reload after another: every second one is broken, the others change what is served."""
from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator

from child import Failure
from pilotfish import Pilotfish

RELOAD_EVERY_S = 30
RESULTS_OF = {"changed": "applied", "broken": "rejected"}

BASE = """\
clusters:
  - patroni:
      endpoints: [{patroni}]
      interval: {interval}
    primary: {{listen: "{host}:5000", hold: {hold}{primary}}}
    replicas:
      - {{listen: "{host}:5001"{replicas}}}{pools}{clusters}
admin:
  listen: {admin}
"""
POOL = '\n      - {{name: second, listen: "{host}:5002", balance: round_robin, fallback: none}}'
# Nobody answers there: its nodes are asked, and refused, as long as it is configured.
GHOST = """
  - name: ghost
    patroni: ["{host}:8009"]
    primary: {{listen: "{host}:5010"}}
    replicas: off"""


class Reloads:
    def __init__(self, host: str, patroni: str):
        self.host, self.patroni = host, patroni

    def text(self, interval="1s", hold="45s", primary="", replicas="", pools="", clusters="", admin=None) -> str:
        pools, clusters = pools.format(host=self.host), clusters.format(host=self.host)
        return BASE.format(host=self.host, patroni=self.patroni, interval=interval, hold=hold, primary=primary,
                           replicas=replicas, pools=pools, clusters=clusters, admin=admin or f"{self.host}:7000")

    def changed(self) -> list[str]:
        return [
            self.text(pools=POOL, hold="50s"),
            self.text(clusters=GHOST, interval="500ms"),
            self.text(pools=POOL, clusters=GHOST, primary=", max_sessions_per_client: 5000"),
            self.text(replicas=", balance: random2, max_lag: 64MB", hold="40s"),
            self.text(),
        ]

    def broken(self) -> list[str]:
        return [
            self.text() + "  no: {such key",
            self.text(replicas=", blance: first"),
            self.text(admin=f"{self.host}:5000"),  # taken, by itself
            self.text(hold="5 parsecs"),
            self.text(clusters=GHOST).replace("name: ghost", "name: ghost\n    patroni: []"),
        ]

    def all(self) -> Iterator[tuple[str, str]]:
        """Without an end: what is to come of it, and the configuration."""
        while True:
            for changed, broken in zip(self.changed(), self.broken(), strict=True):
                yield "broken", broken
                yield "changed", changed


class Reloader(threading.Thread):
    """Reloads at its pace until told to stop; what went otherwise than meant is kept."""

    def __init__(self, pilotfish: Pilotfish, reloads: Reloads):
        super().__init__(daemon=True)
        self.pilotfish, self.reloads = pilotfish, reloads
        self.done: Counter = Counter()
        self.wrong: list[str] = []
        self.stopping = threading.Event()

    def run(self) -> None:
        all_of_them = self.reloads.all()
        while not self.stopping.wait(RELOAD_EVERY_S):
            meant, text = next(all_of_them)
            try:
                result = self.pilotfish.reload(text)
            except Failure as error:
                self.wrong.append(f"{meant}: {error}")
                continue
            self.done[result] += 1
            if result != RESULTS_OF[meant]:
                self.wrong.append(f"{meant}, and it was {result}:\n{text}")

    def stop(self) -> None:
        self.stopping.set()
        self.join()
