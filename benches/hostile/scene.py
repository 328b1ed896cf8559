"""One pilotfish with what is around it: a stub in the place of PostgreSQL, Patroni nodes without one, an admin port.

All of it is on loopback addresses that follow from the number of this process, so that several can run beside each other.
"""
from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import time
from contextlib import ExitStack
from pathlib import Path

import cores
from child import Failure, Service, wait_for
from programs import load_program, pilotfish_program

START_TIMEOUT_S = 20
ANSWER_TIMEOUT_S = 20  # an answer that is not there by then is told as one that took so long
CALM_S = 0.1  # an answer that takes no longer has waited for nobody
REST, POSTGRES = 8008, 5432

CLUSTER = """\
  - name: {name}
    patroni:
      endpoints: [{endpoints}]
      interval: {interval}
    primary: {{name: {name}, listen: "{listen}"}}
    replicas: off
    protocol: {protocol}
"""


def own_net() -> str:
    number = os.getpid() % (100 * 250)
    return f"127.{100 + number // 250}.{number % 250}"


class Scene:
    def __init__(self, stack: ExitStack, place: Path):
        self.stack, self.place, self.net = stack, place, own_net()
        self.admin = f"{self.net}.250:7000"
        self.clusters: list[dict] = []
        self.headers: dict[str, str] = {}
        self.context: ssl.SSLContext | None = None
        self.pilotfish: Service | None = None

    def address(self, name: str) -> str:
        number = next(place for place, cluster in enumerate(self.clusters) if cluster["name"] == name)
        return f"{self.net}.{200 + number}:5000"

    def nodes(self, name: str, count: int, change_ms: int | None = None, interval: str = "1s",
              protocol: str = "postgresql") -> Service:
        """A cluster of its own Patroni and its own PostgreSQL, which echoes."""
        first = 10 * (len(self.clusters) + 1)
        hosts = [f"{self.net}.{first + number}" for number in range(count)]
        endpoints = ", ".join(f"{host}:{REST}" for host in hosts)
        self.clusters.append({"name": name, "endpoints": endpoints, "interval": interval, "protocol": protocol})
        command = cores.at_once(str(load_program()), "stub", *(f"{host}:{POSTGRES}" for host in hosts))
        stub = Service(cores.on(cores.REST, *command), self.place / f"stub-{name}.log")
        self.stack.callback(stub.close)
        change = ["--change-ms", str(change_ms)] if change_ms else []
        command = cores.at_once(str(load_program()), "patroni", "--first", hosts[0], "--nodes", str(count), *change)
        nodes = Service(cores.on(cores.REST, *command),
                        self.place / f"nodes-{name}.log")
        self.stack.callback(nodes.close)
        wait_for(lambda: stub.check() or nodes.check() or nodes.log.read_text(), START_TIMEOUT_S, "the nodes listen")
        return nodes

    def start(self, files: int | None = None, admin: str = "", workers: int = 1, alone: bool = True) -> None:
        """On a core of its own or wherever there is room, and with a limit of open files if one is given."""
        clusters = "".join(CLUSTER.format(listen=self.address(each["name"]), **each) for each in self.clusters)
        config = self.place / "pilotfish.yaml"
        admin = f"admin:\n  listen: \"{self.admin}\"\n{admin}"
        config.write_text(f"clusters:\n{clusters}{admin}workers: {workers}\nlog: {{format: json}}\n")
        limit = ["prlimit", f"--nofile={files}:{files}"] if files else []
        command = [*limit, pilotfish_program(), "run", "--config", config]
        command = cores.on(cores.RELAY, *command) if alone else [*map(str, command)]
        self.pilotfish = Service(command, self.place / "pilotfish.log")
        self.stack.callback(self.pilotfish.close)
        ahead(self.pid)
        wait_for(lambda: self.pilotfish.check() or self.is_up(), START_TIMEOUT_S, "pilotfish is up")

    @property
    def pid(self) -> int:
        return self.pilotfish.process.pid

    def is_up(self) -> bool:
        try:
            return all(cluster["condition"] == "ok" for cluster in self.status()["clusters"])
        except (Failure, ValueError):
            return False

    def ask(self, path: str, method: str = "GET", body: str | None = None, **headers: str) -> tuple[int, bytes, float]:
        """Status, body, seconds. Over a connection of its own, as a probe does it."""
        begun = time.monotonic()
        connection = self.connection()
        try:
            connection.request(method, path, body=body, headers={**self.headers, **headers})
            answer = connection.getresponse()
            return answer.status, answer.read(), time.monotonic() - begun
        except (OSError, http.client.HTTPException) as error:
            raise Failure(f"{method} {path}: {error!r} after {time.monotonic() - begun:.1f} s") from error
        finally:
            connection.close()

    def connection(self) -> http.client.HTTPConnection:
        host, _, port = self.admin.rpartition(":")
        # Of its own: whoever shares an address with somebody who guesses passwords has to wait as he does.
        way = {"timeout": ANSWER_TIMEOUT_S, "source_address": (f"{self.net}.251", 0)}
        if self.context:
            return http.client.HTTPSConnection(host, int(port), context=self.context, **way)
        return http.client.HTTPConnection(host, int(port), **way)

    def status(self) -> dict:
        status, body, _ = self.ask("/api/v1/status")
        if status != 200:
            raise Failure(f"/api/v1/status: {status} {body[:200]!r}")
        return json.loads(body)

    def rss_bytes(self) -> int:
        text = Path(f"/proc/{self.pid}/status").read_text()
        return 1024 * next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS"))

    def open_files(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def thread_cpu_s(self) -> dict[str, float]:
        """Processor time by the name of the thread (proc(5), /proc/PID/task/TID/stat)."""
        tick, spent = os.sysconf("SC_CLK_TCK"), {}
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            name, _, rest = (task / "stat").read_text().partition("(")[2].rpartition(")")
            fields = rest.split()
            spent[name] = spent.get(name, 0) + (int(fields[11]) + int(fields[12])) / tick
        return spent


def ahead(pid: int) -> None:
    """Whatever else runs on this host leaves the processor to this process's session, where that is allowed (sched(7), "The
    autogroup feature"): what is measured is what pilotfish's own threads take from each other."""
    try:
        Path(f"/proc/{pid}/autogroup").write_text("-20")
    except OSError:
        pass


def wait_until_gone(scene: Scene) -> None:
    """What an attack has left in the backlog is worked off."""
    wait_for(lambda: scene.ask("/livez")[2] < CALM_S, START_TIMEOUT_S, "the admin side is calm")


def dial(address: str, startup: bytes, timeout_s: float) -> float:
    """Seconds until a new session has been there and back."""
    begun = time.monotonic()
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=timeout_s) as sock:
        sock.settimeout(max(0.01, timeout_s - (time.monotonic() - begun)))
        sock.sendall(startup)
        if not sock.recv(1):
            raise ConnectionError("closed without a word")
    return time.monotonic() - begun
