"""What is done to the cluster: the rows of the table.

A row is played on a scene, where all clients are at work. It strikes once, waits until what follows has shown itself,
and leaves the cluster to be healed. Nothing waits for a contender longer than `PATIENCE_S`.
"""
from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import firewall
from child import Teller, wait_for
from cluster import Cluster
from contenders import Contender

HERE = Path(__file__).parent
WARM_UP_TIMEOUT_S = 60
FAILOVER_TIMEOUT_S = 120  # Patroni's ttl, and time to promote
PATIENCE_S = 20  # for a contender to serve all its clients again once it could
ETCD_LOST_S = 20
REST_LOST_S = 40  # longer than the ttl that bounds what a silent leader may be trusted with


class Scene:
    """One run of one row: the oracle and the loads at work, and when the blow fell."""

    def __init__(self, cluster: Cluster, contenders: list[Contender], direct: list[str], clients: int, pace_s: float):
        self.cluster, self.contenders, self.clients = cluster, contenders, clients
        self.leader = cluster.leader()
        self.struck: float | None = None
        self.seats_before: set[str] = set()
        self.tellers: list[Teller] = []
        try:
            self.oracle = self.start("oracle.py", *direct)
            self.loads = {each.key: self.start("load.py", each.conninfo, "--clients", str(clients), "--pace", str(pace_s))
                          for each in contenders}
        except BaseException:
            self.close()
            raise

    def start(self, program: str, *arguments: str) -> Teller:
        self.tellers.append(Teller(sys.executable, str(HERE / program), *arguments))
        return self.tellers[-1]

    def close(self) -> None:
        for teller in self.tellers:
            teller.close()

    def warm_up(self) -> None:
        wait_for(lambda: self.oracle.told, WARM_UP_TIMEOUT_S, "a direct write by the oracle")
        wait_for(self.all_served(), WARM_UP_TIMEOUT_S, "every client of every contender has written without an error")

    def strike(self, *command: str) -> None:
        self.seats_before = {record["seat"] for record in self.oracle.told}
        self.struck = time.monotonic()
        if command:
            self.cluster.call(*command)

    def wait_for_a_new_seat(self) -> None:
        def is_there() -> bool:
            self.check()
            return self.oracle.told[-1]["seat"] not in self.seats_before
        wait_for(is_there, FAILOVER_TIMEOUT_S, "a direct write on another node or after a restart")

    def wait_until_served(self) -> None:
        """Clients may well go on without service: that is then the result."""
        wait_for(self.all_served(self.seats_before), PATIENCE_S)

    def all_served(self, unwanted: set[str] = frozenset()) -> Callable[[], bool]:
        """Whether from now on every client of every contender has written, with no error in between."""
        served = {key: set() for key in self.loads}
        read = {key: len(load.told) for key, load in self.loads.items()}

        def look() -> bool:
            self.check()
            for key, load in self.loads.items():
                news = load.told[read[key]:]
                read[key] += len(news)
                for record in news:
                    if record.get("seat") and record["seat"] not in unwanted:
                        served[key].add(record["lane"])
                    elif record.get("error"):
                        served[key].clear()
            return all(len(lanes) == 1 + self.clients for lanes in served.values())
        return look

    def check(self) -> None:
        for each in [*self.tellers, *self.contenders]:
            each.check()

    def heal(self) -> None:
        """Back to health, with the clients still at work: a node that comes back is part of the story."""
        self.cluster.call("start", self.leader)
        self.cluster.up()
        wait_for(self.all_served(), PATIENCE_S)


@dataclass(frozen=True)
class Row:
    key: str
    title: str
    play: Callable[[Scene], None]
    target: str = "added <= 100 ms, no failed connect, no read-only error, one broken query per open session"
    # PostgreSQL stays well: nothing may be cut or fail before another node leads.
    quiet: bool = False


def one_blow(command: str) -> Callable[[Scene], None]:
    def play(scene: Scene) -> None:
        scene.strike(command, *([] if command == "switchover" else [scene.leader]))
        scene.wait_for_a_new_seat()
        scene.wait_until_served()
    return play


def freeze(scene: Scene) -> None:
    one_blow("freeze")(scene)
    scene.cluster.call("thaw", scene.leader)


def freeze_patroni(scene: Scene) -> None:
    one_blow("freeze-patroni")(scene)
    scene.cluster.call("thaw-patroni", scene.leader)


def lose_rest(scene: Scene) -> None:
    with firewall.Cut(scene.cluster.name, scene.cluster.net):
        scene.strike()
        time.sleep(REST_LOST_S)


def lose_etcd(scene: Scene) -> None:
    scene.strike("etcd-stop", "1", "2")
    time.sleep(ETCD_LOST_S)
    scene.cluster.call("etcd-start", "1", "2")
    scene.cluster.leader()
    scene.wait_until_served()


QUIET = "nothing cut, nothing failed until another node leads"
ROWS = {row.key: row for row in (
    Row("switchover", "switchover", one_blow("switchover")),
    Row("stop", "graceful stop of the leader", one_blow("stop")),
    Row("postmaster", "kill -9 of the postmaster", one_blow("kill-postmaster")),
    Row("kill", "kill -9 of Patroni and PostgreSQL", one_blow("kill")),
    Row("freeze", "node frozen, then thawed after the new leader works", freeze),
    Row("patroni-killed", "Patroni alone killed, PostgreSQL healthy", one_blow("kill-patroni"), QUIET, quiet=True),
    Row("patroni-frozen", "Patroni alone frozen, PostgreSQL healthy", freeze_patroni, QUIET, quiet=True),
    Row("rest", f"REST API unreachable from the balancers only, {REST_LOST_S} s", lose_rest, QUIET, quiet=True),
    Row("etcd", f"two of three etcd lost for {ETCD_LOST_S} s, then back", lose_etcd,
        "writers pause: no failed connect within hold, no read-only error, one broken query per open session"),
)}
