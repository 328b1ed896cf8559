"""Who takes part: HAProxy twice (the same one, to see what chance does), HAProxy with splice, nginx, pilotfish.

Each relay has one core, one worker, three ports and as many backends: the stub, for bytes; a second stub, which only
answers a client that must not wait for the first one's bulk; and PostgreSQL.
"""
from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cores
import counts
from child import Failure, Service, wait_for
from programs import haproxy_program, load_program, nginx_program, pilotfish_program, uncounted_program

START_TIMEOUT_S = 20
BYTES, ECHO, POSTGRES = 6000, 6001, 5432
MOST_SESSIONS = 9500  # two descriptors each, of the 20,000 that a process may have on small machines

HAPROXY = """\
global
    nbthread 1
    maxconn {sessions}
    maxpipes 100

defaults
    mode tcp
    {option}
    timeout connect 5s
    timeout client 30m
    timeout server 30m

{pools}
"""
HAPROXY_POOL = """\
listen {name}
    bind {host}:{port}
    server {name} {backend}
"""
NGINX = """\
{module}
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {place}/{key}.pid;
error_log {place}/{key}.log crit;
events {{ worker_connections 19500; }}
stream {{
    proxy_timeout 30m;
{pools}
}}
"""
NGINX_POOL = "    server {{ listen {host}:{port} backlog=4096; proxy_pass {backend}; }}"
PILOTFISH = """\
clusters:
{pools}
admin: {{listen: "{host}:7000"}}
workers: {workers}
log: {{level: warn}}
"""
PILOTFISH_POOL = """\
  - name: {name}
    patroni: [{patroni}]
    primary: {{name: {name}, listen: "{host}:{port}"}}
    replicas: off
    protocol: {protocol}
"""


@dataclass
class Pool:
    name: str
    port: int
    backend: str
    patroni: str
    protocol: str


class Field:
    """The backends, and the fake Patroni nodes that lead pilotfish to them."""

    def __init__(self, net: str, place: Path):
        self.net, self.place = net, place
        self.services: list[Service] = []

    def start(self, relays: int) -> None:
        # Each relay dials a port of its own, so that what it leaves behind there is known to be its own.
        self.serve("stub", cores.on(cores.REST, load_program(), "stub", *(self.stub(n) for n in range(relays))))
        self.serve("stub-echo", cores.at_once(*cores.on(cores.REST, load_program(), "stub", self.echo())))
        self.serve("stub-direct", cores.on(cores.RELAY, load_program(), "stub", self.direct()))
        for number in range(relays):
            self.patroni(f"{self.net}.{100 + number}", self.stub(number))
        self.patroni(f"{self.net}.98", self.echo())
        self.patroni(f"{self.net}.99", f"{self.net}.50:5432")

    def stub(self, number: int) -> str:
        return f"{self.net}.40:{7000 + number}"

    def echo(self) -> str:
        return f"{self.net}.41:7000"

    def direct(self) -> str:
        return f"{self.net}.42:7000"

    def patroni(self, address: str, postgres: str) -> None:
        command = cores.on(cores.REST, load_program(), "patroni", "--first", address, "--postgres", postgres)
        self.serve(f"patroni-{address}", command)

    def serve(self, name: str, command: list[str]) -> None:
        self.services.append(Service(command, self.place / f"{name}.log"))

    def close(self) -> None:
        for service in self.services:
            service.close()

    def pools(self, number: int) -> list[Pool]:
        return [Pool("bytes", BYTES, self.stub(number), f"{self.net}.{100 + number}:8008", "tcp"),
                Pool("echo", ECHO, self.echo(), f"{self.net}.98:8008", "tcp"),
                Pool("postgres", POSTGRES, f"{self.net}.50:5432", f"{self.net}.99:8008", "postgresql")]


class Relay:
    """A relay as the measurements see it. `number` gives it its address and its backend's port."""

    def __init__(self, key: str, title: str, number: int, field: Field, configure: Callable[[Relay], list[str]]):
        self.key, self.title, self.number, self.field, self.configure = key, title, number, field, configure
        self.host, self.backend = f"{field.net}.{10 + number}", field.stub(number)
        self.workers, self.core = 1, cores.RELAY
        self.service: Service | None = None

    def address(self, port: int = BYTES) -> str:
        return f"{self.host}:{port}"

    def database(self) -> tuple[str, int]:
        return self.host, POSTGRES

    @property
    def pid(self) -> int:
        return self.service.process.pid

    def cpu_s(self) -> float:
        return counts.cpu_s(self.pid)

    def start(self) -> None:
        command = self.configure(self)
        pinned = cores.on(self.core, *command) if self.workers == 1 else command
        self.service = Service(pinned, self.field.place / f"{self.key}.out")
        wait_for(self.is_ready, START_TIMEOUT_S, f"{self.title} relays")

    def is_ready(self) -> bool:
        self.service.check()
        ping = [load_program(), "ping", self.address(), "--connections", "1", "--pace-us", "1", "--seconds", "0.01"]
        try:
            return subprocess.run(ping, capture_output=True, timeout=START_TIMEOUT_S).returncode == 0
        except subprocess.TimeoutExpired:
            return False

    def close(self) -> None:
        if self.service:
            self.service.close()

    def restart(self) -> None:
        self.close()
        self.start()

    def file(self, suffix: str, text: str) -> Path:
        path = self.field.place / f"{self.key}.{suffix}"
        path.write_text(text)
        return path

    def pools(self, template: str, **more: str) -> str:
        pools = self.field.pools(self.number)
        return "\n".join(template.format(host=self.host, **vars(pool), **more) for pool in pools)


class Direct:
    """No relay at all: the stub on the relay's core. What the load could do."""
    key, title = "direct", "direct"

    def __init__(self, field: Field):
        self.field = field

    def address(self, _port: int = BYTES) -> str:
        return self.field.direct()

    def database(self) -> tuple[str, int]:
        return f"{self.field.net}.50", 5432

    def cpu_s(self) -> float:
        return 0.0

    def start(self) -> None:
        pass

    def close(self) -> None:
        pass


def haproxy(relay: Relay, option: str = "") -> list[str]:
    config = relay.file("cfg", HAPROXY.format(sessions=MOST_SESSIONS, option=option, pools=relay.pools(HAPROXY_POOL)))
    return [haproxy_program(), "-db", "-f", str(config)]


def splice(relay: Relay) -> list[str]:
    """Always, not `splice-auto`: that waits for the stream to be looked at again after it has proved fast, which in 2.6 does
    not happen to one that only flows (no pipe is ever made), and a peer is to be met at its best."""
    return haproxy(relay, "option splice-request\n    option splice-response")


def nginx(relay: Relay) -> list[str]:
    module = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
    load = f"load_module {module};" if module.exists() else ""
    config = relay.file("conf", NGINX.format(module=load, place=relay.field.place, key=relay.key, pools=relay.pools(NGINX_POOL)))
    return [nginx_program(), "-e", f"{relay.field.place}/{relay.key}.log", "-c", str(config)]


def pilotfish(relay: Relay, program: Callable[[], Path] = pilotfish_program) -> list[str]:
    config = relay.file("yaml", PILOTFISH.format(host=relay.host, workers=relay.workers, pools=relay.pools(PILOTFISH_POOL)))
    return [str(program()), "run", "--config", str(config)]


def uncounted(relay: Relay) -> list[str]:
    return pilotfish(relay, uncounted_program)


MAKERS = {
    "haproxy": ("HAProxy", haproxy),
    "haproxy2": ("HAProxy again", haproxy),
    "splice": ("HAProxy splice", splice),
    "nginx": ("nginx stream", nginx),
    "pilotfish": ("pilotfish", pilotfish),
    "uncounted": ("pilotfish without counters", uncounted),
    "wide": ("pilotfish, 2 workers", pilotfish),
}


def relay(key: str, field: Field) -> Relay | Direct:
    if key == "direct":
        return Direct(field)
    title, configure = MAKERS[key]
    made = Relay(key, title, list(MAKERS).index(key), field, configure)
    if key == "wide":
        made.workers = 2
    return made


def check_limit(sessions: int, limit: int) -> int:
    """How many sessions can be measured where a process may open `limit` files."""
    possible = (limit - 1000) // 2
    if possible < 100:
        raise Failure(f"{limit} open files are too few: raise the limit (ulimit -n)")
    return min(sessions, possible)
