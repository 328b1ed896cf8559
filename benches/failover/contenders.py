"""Who takes part: pilotfish, HAProxy twice, and libpq alone. All run at once, on one cluster."""
from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psycopg

from child import Failure, Service
from programs import first_line, haproxy_program, pilotfish_program

LIBRARY_TIMEOUT_S = 2
# Longer than a balancer may hold a client: what it says in the end is to be seen.
BALANCER_TIMEOUT_S = 60

PILOTFISH = """\
clusters:
  - patroni: [{patroni}]
    primary: {{listen: "{host}:5000"}}
    replicas: {{listen: "{host}:5001"}}
admin:
  listen: {host}:7000
"""

# Patroni's template (extras/confd/templates/haproxy.tmpl) with its values, but `maxconn`: 100 there, for the process
# and for each server. Raised so that it is no limit here.
HAPROXY_TEMPLATE = """\
global
    maxconn 4000
    log stdout format timed local0 notice

defaults
    log global
    mode tcp
    retries 2
    timeout client 30m
    timeout connect 4s
    timeout server 30m
    timeout check 5s

listen primary
    bind {host}:5000
    option httpchk HEAD /primary
    http-check expect status 200
    default-server inter 3s fall 3 rise 2 on-marked-down shutdown-sessions
{servers}

listen replicas
    bind {host}:5001
    option httpchk HEAD /replica
    http-check expect status 200
    default-server inter 3s fall 3 rise 2 on-marked-down shutdown-sessions
{servers}
"""

# As good as its own means make it: ten checks a second, one verdict is enough, a failed dial counts as one, and the
# answer's body has to say that PostgreSQL runs as primary, since status 200 alone is also that of a promotion or a
# shutdown. The replicas' pool carries no load here and is checked each second, to spare the nodes.
HAPROXY_TUNED = """\
global
    maxconn 4000
    log stdout format timed local0 notice

defaults
    log global
    mode tcp
    retries 3
    option redispatch 1
    timeout client 30m
    timeout connect 1s
    timeout server 30m
    timeout check 1s

listen primary
    bind {host}:5000
    option httpchk
    http-check send meth GET uri /primary
    http-check expect status 200
    http-check expect rstring '"state": "running".*"role": "(primary|master)"'
    default-server inter 100ms fastinter 100ms downinter 100ms rise 1 fall 1 observe layer4 error-limit 1 on-error mark-down on-marked-down shutdown-sessions
{servers}

listen replicas
    bind {host}:5001
    option httpchk HEAD /replica
    http-check expect status 200
    default-server inter 1s fastinter 100ms rise 1 fall 1 on-marked-down shutdown-sessions
{servers}
"""


@dataclass
class Contender:
    """What clients see of it: a name and libpq's connection string."""
    key: str
    title: str
    conninfo: str
    service: Service | None = None

    def check(self) -> None:
        if self.service:
            self.service.check()


class Field:
    """What all contenders have in common, and how each is made."""

    def __init__(self, environment: dict, net: str, place: Path, sslmode: str, user: int | None):
        self.environment, self.net, self.place, self.user = environment, net, place, user
        self.login = f"dbname=app user=app password=app sslmode={sslmode}"
        self.members = [pair.split("=") for pair in environment["PILOTFISH_CLUSTER_MEMBERS"].split(",")]

    def direct(self) -> list[str]:
        """To each node, for the oracle."""
        return [f"host={host} port=5432 connect_timeout={LIBRARY_TIMEOUT_S} {self.login}" for host, _ in self.members]

    def pilotfish(self) -> Contender:
        copy = self.place / "pilotfish"  # the balancers' user may not see into the project
        copy.unlink(missing_ok=True)
        shutil.copy(pilotfish_program(), copy)
        host, config = f"{self.net}.31", self.place / "pilotfish.yaml"
        endpoints = self.environment["PILOTFISH_CLUSTER_PATRONI"].replace(",", ", ")
        config.write_text(PILOTFISH.format(host=host, patroni=endpoints))
        service = Service([str(copy), "run", "--config", str(config)], self.place / "pilotfish.log", self.user)
        return Contender("pilotfish", "pilotfish", self.balancer(host), service)

    def haproxy(self, key: str, title: str, template: str, host: str) -> Contender:
        program = haproxy_program()
        servers = "\n".join(f"    server {name} {host}:5432 maxconn 1000 check port 8008" for host, name in self.members)
        config = self.place / f"{key}.cfg"
        config.write_text(template.format(host=host, servers=servers))
        checked = subprocess.run([program, "-c", "-f", str(config)], capture_output=True, text=True)
        if checked.returncode != 0:
            raise Failure(f"haproxy refuses {config}: {checked.stderr.strip()}")
        service = Service([program, "-db", "-f", str(config)], self.place / f"{key}.log", self.user)
        return Contender(key, title, self.balancer(host), service)

    def template(self) -> Contender:
        return self.haproxy("template", "HAProxy, Patroni's template", HAPROXY_TEMPLATE, f"{self.net}.32")

    def tuned(self) -> Contender:
        return self.haproxy("tuned", "HAProxy, tuned", HAPROXY_TUNED, f"{self.net}.33")

    def libpq(self) -> Contender:
        hosts = ",".join(host for host, _ in self.members)
        return Contender("libpq", "libpq, several hosts", f"host={hosts} port=5432 target_session_attrs=read-write "
                         f"connect_timeout={LIBRARY_TIMEOUT_S} {self.login}")

    def balancer(self, host: str) -> str:
        return f"host={host} port=5000 connect_timeout={BALANCER_TIMEOUT_S} {self.login}"

    def versions(self) -> dict[str, str]:
        return {"pilotfish": first_line(str(pilotfish_program()), "--version").split()[-1],
                "PostgreSQL": first_line(f"{self.environment['PILOTFISH_PG_BIN']}/postgres", "--version").split()[2],
                "Patroni": first_line(f"{self.environment['PILOTFISH_VENV']}/bin/patroni", "--version").split()[-1],
                "HAProxy": first_line(haproxy_program(), "-v").split()[2],
                "libpq": psycopg.pq.version_pretty(psycopg.pq.version())}


MAKERS = {"pilotfish": Field.pilotfish, "template": Field.template, "tuned": Field.tuned, "libpq": Field.libpq}
