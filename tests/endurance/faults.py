"""What is done to nodes, etcd and pilotfish while clients add numbers. Each fault is over when it returns; what was hurt is
mended afterwards by whoever called."""
from __future__ import annotations

import signal
import time
from collections.abc import Callable

from ground import NUMBERS, Ground
from machines import Program

# Longer than the ttl and a promotion, and long enough for a pilotfish or a node to have fallen behind.
LONG_S, SHORT_S = 28, 8
REST_PORT = 8008


class Hurt:
    """The ground, who leads on it, and the two pilotfish."""

    def __init__(self, ground: Ground, pilotfish: dict[int, Program], start: Callable[[int], None]):
        self.ground, self.pilotfish, self.start = ground, pilotfish, start
        self.leader = ground.leader()
        self.other = next(number for number in NUMBERS if number != self.leader)

    def call(self, *words: str) -> None:
        self.ground.call(*words)

    def on_leader(self, *words: str, seconds: float = SHORT_S) -> None:
        self.call(*words, str(self.leader))
        time.sleep(seconds)

    def on_other(self, *words: str, seconds: float = SHORT_S) -> None:
        self.call(*words, str(self.other))
        time.sleep(seconds)

    def cut(self, number: int, seconds: float) -> None:
        machine = self.ground.nodes[number]
        self.ground.net.cut(machine)
        time.sleep(seconds)
        self.ground.net.mend(machine)

    def part_leader(self) -> None:
        self.ground.part(self.leader)
        time.sleep(LONG_S)

    def stop_etcd(self, *numbers: int, seconds: float) -> None:
        self.call("etcd-stop", *map(str, numbers))
        time.sleep(seconds)

    def send(self, number: int, what: signal.Signals) -> None:
        signal.pidfd_send_signal(self.pilotfish[number].process, what)

    def end_pilotfish(self, what: signal.Signals) -> None:
        self.pilotfish[1].end(what)
        time.sleep(1)
        self.start(1)
        time.sleep(SHORT_S)

    def freeze_pilotfish_over_a_switchover(self) -> None:
        """It wakes up with sessions to a node that no longer leads, and does not know."""
        self.send(1, signal.SIGSTOP)
        try:
            self.call("switchover")
            time.sleep(SHORT_S)
        finally:
            self.send(1, signal.SIGCONT)
        time.sleep(SHORT_S)

    def blind_pilotfish_over_a_switchover(self) -> None:
        machine = self.ground.balancers[1]
        machine.drop_from(REST_PORT)
        try:
            self.call("switchover")
            time.sleep(SHORT_S)
        finally:
            machine.drop_nothing()

    def cut_pilotfish(self) -> None:
        machine = self.ground.balancers[1]
        self.ground.net.cut(machine)
        time.sleep(SHORT_S)
        self.ground.net.mend(machine)

    def kill_both_pilotfish_and_the_leader(self) -> None:
        for number in self.pilotfish:
            self.pilotfish[number].end(signal.SIGKILL)
        self.call("kill", str(self.leader))
        for number in self.pilotfish:
            self.start(number)
        time.sleep(LONG_S)


FAULTS: dict[str, Callable[[Hurt], None]] = {
    "switchover": lambda hurt: hurt.call("switchover"),
    "leader stopped": lambda hurt: hurt.on_leader("stop"),
    "leader's postmaster killed": lambda hurt: hurt.on_leader("kill-postmaster"),
    "leader's node killed": lambda hurt: hurt.on_leader("kill", seconds=LONG_S),
    "leader's node frozen": lambda hurt: hurt.on_leader("freeze", seconds=LONG_S),
    "leader's Patroni killed": lambda hurt: hurt.on_leader("kill-patroni", seconds=LONG_S),
    "leader's Patroni frozen": lambda hurt: hurt.on_leader("freeze-patroni", seconds=LONG_S),
    "a replica killed": lambda hurt: hurt.on_other("kill"),
    "a replica frozen": lambda hurt: hurt.on_other("freeze", seconds=LONG_S),
    "leader's machine cut off from all": lambda hurt: hurt.cut(hurt.leader, LONG_S),
    "leader's machine cut off from the other nodes only": Hurt.part_leader,
    "a replica's machine cut off from all": lambda hurt: hurt.cut(hurt.other, SHORT_S),
    "an etcd member killed": lambda hurt: hurt.stop_etcd(hurt.leader, seconds=SHORT_S),
    "two etcd members killed": lambda hurt: hurt.stop_etcd(1, 2, seconds=LONG_S),
    "a pilotfish killed": lambda hurt: hurt.end_pilotfish(signal.SIGKILL),
    "a pilotfish stopped": lambda hurt: hurt.end_pilotfish(signal.SIGTERM),
    "a pilotfish frozen over a switchover": Hurt.freeze_pilotfish_over_a_switchover,
    "a pilotfish cut off from Patroni over a switchover": Hurt.blind_pilotfish_over_a_switchover,
    "a pilotfish's machine cut off from all": Hurt.cut_pilotfish,
    "both pilotfish and the leader's node killed": Hurt.kill_both_pilotfish_and_the_leader,
}
