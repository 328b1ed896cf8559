"""What is done to a cluster, one blow a failover: each takes the leader's role away in another way.

A blow is struck, another leader is awaited (where there is to be one), and what was hurt is healed. Whoever watches does so
meanwhile; nothing here waits for a client.
"""
from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from child import Failure
from cluster import Cluster

# The least that Patroni takes: ttl (its validator refuses less), loop_wait and retry_timeout, in seconds. What waits for the
# lock to run out is over in a third less of the time than with the defaults.
QUICK = ("--ttl", "20", "--loop-wait", "1", "--retry-timeout", "3")
RECOVERIES = 3
LEADERLESS_S = 26  # longer than a leader's grace, which is the ttl, and one interval


@dataclass(frozen=True)
class Blow:
    key: str
    title: str
    strike: Callable[[Cluster, str], None]  # the cluster, and the name of its leader
    heal: Callable[[Cluster, str], None] | None = None
    # Another node takes over before it is healed.
    moves: bool = True


def call(*words: str) -> Callable[[Cluster, str], None]:
    """The leader's name follows, but where the command knows it or names others."""
    needs_leader = words[0] != "switchover" and len(words) == 1
    return lambda cluster, leader: cluster.call(*words, *([leader] if needs_leader else []))


def lose_leader_and_etcd(cluster: Cluster, leader: str) -> None:
    """Nobody can take over and the leader says nothing: only its grace ends the old sessions. PostgreSQL goes on.

    All of etcd: while a member is left, Patroni goes on telling what it has of it, and so that the leader leads.
    """
    cluster.call("kill-patroni", leader)
    cluster.call("etcd-stop", "1", "2", "3")
    time.sleep(LEADERLESS_S)


BLOWS = {blow.key: blow for blow in (
    Blow("switchover", "switchover", call("switchover")),
    Blow("stop", "graceful stop of the leader", call("stop"), call("start")),
    Blow("postmaster", "kill -9 of the postmaster", call("kill-postmaster"), moves=False),
    Blow("kill", "kill -9 of Patroni and PostgreSQL", call("kill"), call("start")),
    Blow("freeze", "node frozen, thawed under its successor", call("freeze"), call("thaw")),
    Blow("patroni-killed", "Patroni alone killed, PostgreSQL healthy", call("kill-patroni"), call("start")),
    Blow("patroni-frozen", "Patroni alone frozen, PostgreSQL healthy", call("freeze-patroni"), call("thaw-patroni")),
    Blow("etcd", "all of etcd lost, Patroni of the leader killed", lose_leader_and_etcd, moves=False),
)}


def play(blow: Blow, cluster: Cluster) -> bool:
    """Struck, followed by another leader, healed (`up` starts whatever does not run), and well again. Whether another leads."""
    leader = cluster.leader()
    blow.strike(cluster, leader)
    if blow.moves:
        cluster.call("wait-leader", "--not", leader)
    if blow.heal:
        blow.heal(cluster, leader)
    cluster.up()
    return cluster.leader() != leader


def up(cluster: Cluster, *settings: str) -> None:
    """A cluster made anew with Patroni's quickest timing, and further settings as KEY=VALUE."""
    cluster.call("--net", cluster.net, "up", "--fresh", *QUICK)
    if settings:
        cluster.call("config", *settings)
        cluster.up()


def recover(cluster: Cluster, failure: Failure, say: Callable[[str], None]) -> None:
    """A failover that did not come about as meant is told, and healed as far as can be: the rest goes on."""
    say(f"this one does not count: {failure}")
    for left in reversed(range(RECOVERIES)):
        try:
            cluster.call("etcd-start", "1", "2", "3")
            return cluster.up()
        except Failure as failure:
            say(f"and it does not recover: {failure}")
            if not left:
                raise
