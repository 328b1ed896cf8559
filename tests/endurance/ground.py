"""Machines for a cluster that can be torn apart: each node with its etcd member on one, each pilotfish on one, all in
network namespaces on one switch. Clients are where this runs.

The cluster is made by deploy/demo/cluster on a machine that has all addresses, stopped, and then each member is started on
the machine that its address has moved to. The tool finds processes whatever machine they are on.
"""
from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from blows import QUICK
from child import Failure
from machines import LOGS, Machine, Net, run

CLUSTER = Path(__file__).resolve().parents[2] / "deploy/demo/cluster"
NET = "10.63.0"
NUMBERS = (1, 2, 3)
NODE, ETCD, BALANCER, OWN = 10, 20, 30, 100  # last octets, to which the number is added
TIMEOUT_S = 240
ENDURED = "CREATE TABLE added (n bigint)"


def address(kind: int, number: int = 0) -> str:
    return f"{NET}.{kind + number}"


def prepare() -> None:
    run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    for folder in ("/run/pilotfish", LOGS):
        os.makedirs(folder)
    run("ip", "link", "set", "lo", "up")


class Ground:
    def __init__(self, name: str):
        self.name = name
        self.net = Net("endure")
        run("ip", "address", "add", f"{address(OWN)}/24", "dev", self.net.name)
        self.nodes = {number: Machine(f"n{number}") for number in NUMBERS}
        self.balancers = {number: Machine(f"p{number}") for number in NUMBERS[:2]}
        for number, machine in self.balancers.items():
            self.net.plug(machine, "eth0", address(BALANCER, number))

    def call(self, *words: str, machine: Machine | None = None) -> str:
        command = [str(CLUSTER), "--name", self.name, "--net", NET, *words]
        done = subprocess.run(machine.inside(command) if machine else command, capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=TIMEOUT_S)
        if done.returncode != 0:
            raise Failure(f"cluster {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout.strip()

    def make(self, *settings: str) -> None:
        """A cluster with these settings, as KEY=VALUE, whose members are then spread over the machines."""
        nursery = Machine("nursery")
        self.net.plug(nursery, "eth0", *(address(kind, number) for kind in (NODE, ETCD) for number in NUMBERS))
        self.call("up", "--fresh", *QUICK, machine=nursery)
        self.call("config", *settings, machine=nursery)
        self.call("psql", self.call("wait-leader", machine=nursery), "-qX", "-c", "SET ROLE app", "-c", ENDURED, machine=nursery)
        self.call("down", machine=nursery)
        self.net.cut(nursery)
        for number, machine in self.nodes.items():
            self.net.plug(machine, "eth0", address(NODE, number), address(ETCD, number))
        self.mend()

    def mend(self) -> None:
        """Whatever was done to nodes and etcd: all run on their machines, follow one leader and reach each other."""
        for machine in self.nodes.values():
            self.net.mend(machine)
            subprocess.run(machine.inside(["nft", "flush", "ruleset"]), capture_output=True)
        self.each("etcd-start", "--no-wait")
        self.call("etcd-start", *map(str, NUMBERS))
        self.call("thaw", *map(str, NUMBERS))
        self.each("start")
        self.call("wait-leader")

    def each(self, command: str, *options: str) -> None:
        """On all nodes' machines; the tool lets one of its commands run at a time."""
        with ThreadPoolExecutor(len(self.nodes)) as pool:
            for done in [pool.submit(self.call, command, *options, str(number), machine=machine)
                         for number, machine in self.nodes.items()]:
                done.result()

    def leader(self) -> int:
        return int(self.call("wait-leader").removeprefix("patroni"))

    def part(self, number: int) -> None:
        """The machine is cut off from the other nodes and etcd members; clients and balancers still reach it."""
        others = ", ".join(address(kind, other) for kind in (NODE, ETCD) for other in NUMBERS if other != number)
        self.nodes[number].run("nft", "add table ip part; add chain ip part input { type filter hook input priority 0; }; "
                               f"add rule ip part input ip saddr {{ {others} }} drop")
