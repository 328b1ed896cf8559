"""A node: one Patroni and the PostgreSQL that it looks after."""
from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import ssl
import subprocess
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM

from . import processes
from .member import STOP_TIMEOUT_S, Member
from .processes import Failure, Process
from .settings import ETCD_MEMBERS, ETCD_PORT, POSTGRES_PORT, REST_PORT, VENV

SUPERUSER = {"username": "postgres", "password": "postgres"}
REPLICATION = {"username": "replicator", "password": "replicator"}
REST_LOGIN = {"username": "admin", "password": "admin"}  # where the REST API has TLS; Patroni asks for it where something is changed
PRIMARY_ROLES = ("primary", "master")


def postgresql_programs() -> Path:
    """The directory of the newest PostgreSQL, or the one that PILOTFISH_PG_BIN names."""
    if named := os.environ.get("PILOTFISH_PG_BIN"):
        return Path(named)
    packaged = Path("/usr/lib/postgresql").glob("*/bin/postgres")
    newest = max(packaged, key=lambda program: float(program.parts[-3]), default=shutil.which("postgres"))
    if not newest:
        raise Failure("PostgreSQL is not installed: run deploy/setup cluster")
    return Path(newest).parent


class Node(Member):
    def ports_to_take(self) -> tuple[int, ...]:
        if self.patroni():
            return ()
        return (REST_PORT,) if self.postgres() else (REST_PORT, POSTGRES_PORT)

    def start(self) -> None:
        """Starts Patroni. It adopts a PostgreSQL that runs already."""
        if self.patroni():
            return
        program = VENV / "bin/patroni"
        if not program.exists():
            raise Failure(f"no Patroni in {VENV}: run deploy/setup cluster")
        self._check_version()
        self.check_ports()
        self.directory.mkdir(mode=0o700, exist_ok=True)
        configuration = self.directory / "patroni.yml"
        configuration.write_text(json.dumps(self._configuration(), indent=2) + "\n")  # JSON is YAML too
        self.launch([str(VENV / "bin/python"), str(program), str(configuration)])

    def stop(self, seconds: float = STOP_TIMEOUT_S) -> None:
        """A graceful stop: Patroni stops its PostgreSQL; one that it leaves, as when paused, is stopped here."""
        self.thaw()
        if patroni := self.patroni():
            processes.send([patroni], SIGTERM)
            self.wait_gone(lambda process: process.is_patroni, seconds)
        if postmaster := self.postmaster():
            processes.send([postmaster], SIGINT)
        self.wait_gone(seconds=seconds)

    def patroni(self) -> Process | None:
        return next((process for process in self.processes() if process.is_patroni), None)

    def postgres(self) -> list[Process]:
        return [process for process in self.processes() if process.program == "postgres"]

    def postmaster(self) -> Process | None:
        found = self.postgres()
        pids = {process.pid for process in found}
        return next((process for process in found if process.parent not in pids and "-D" in process.arguments), None)

    def kill_patroni(self) -> None:
        self._kill_one(self.patroni(), "Patroni")

    def kill_postmaster(self) -> None:
        self._kill_one(self.postmaster(), "postmaster")

    def _kill_one(self, process: Process | None, what: str) -> None:
        if not process:
            raise Failure(f"{self.name}: no {what} is running")
        processes.send([process], SIGKILL)
        self.wait_gone(lambda other: other.pid == process.pid)

    def freeze_patroni(self) -> None:
        if not self.patroni():
            raise Failure(f"{self.name}: no Patroni is running")
        self.freeze(lambda process: process.is_patroni)

    def thaw_patroni(self) -> None:
        self.thaw(lambda process: process.is_patroni)

    @property
    def has_rest_tls(self) -> bool:
        return self.settings.rest_tls != "off"

    def rest_file(self, name: str) -> str:
        return f"{self.cluster}/tls/rest-{name}"

    def connection(self, port: int, timeout: float) -> http.client.HTTPConnection:
        if not self.has_rest_tls:
            return super().connection(port, timeout)
        context = ssl.create_default_context(cafile=self.rest_file("ca.crt"))
        context.load_cert_chain(self.rest_file("client.crt"), self.rest_file("client.key"))
        return http.client.HTTPSConnection(self.host, port, timeout=timeout, context=context)

    def headers(self) -> dict[str, str]:
        if not self.has_rest_tls:
            return {}
        login = ":".join(REST_LOGIN.values()).encode()
        return {"Authorization": f"Basic {base64.b64encode(login).decode()}"}

    def answer(self) -> dict | None:
        """What Patroni says of this node, with `lock` when it holds the leader lock; None when it says nothing."""
        patroni = self.patroni()
        if not patroni or patroni.is_stopped:
            return None
        try:
            status, body = self.request(REST_PORT, "GET", "/leader")
            return {"lock": status == 200, **json.loads(body)}
        except (OSError, ValueError):
            return None

    def resume(self) -> None:
        """Ends maintenance mode if it is on; either way Patroni looks at once what there is to do."""
        try:
            self.request(REST_PORT, "PATCH", "/config", {"pause": None})
        except OSError:
            pass  # not yet there, or frozen

    def silence(self) -> str:
        """Why there is no answer, as far as /proc can tell."""
        running, patroni = self.processes(), self.patroni()
        if not running:
            return "stopped"
        if all(process.is_stopped for process in running):
            return "frozen"
        if not patroni:
            return "without Patroni"
        return "Patroni frozen" if patroni.is_stopped else "no answer"

    def _check_version(self) -> None:
        stamp, programs = self.directory / "data/PG_VERSION", postgresql_programs()
        version = subprocess.run([programs / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
        if stamp.exists() and f" {stamp.read_text().strip()}." not in version:
            raise Failure(f"{stamp.parent} was made by PostgreSQL {stamp.read_text().strip()}, "
                          f"{programs} has {version.strip()}: begin anew with up --fresh")

    def _rest(self, address: str) -> dict:
        """The REST API, and how Patroni itself and patronictl speak to it."""
        rest: dict = {"listen": address, "connect_address": address}
        if not self.has_rest_tls:
            return {"restapi": rest}
        file = self.rest_file
        rest |= {"certfile": file("server.crt"), "keyfile": file("server.key"), "cafile": file("ca.crt"),
                 "verify_client": self.settings.rest_tls, "authentication": REST_LOGIN}
        ctl = {"cacert": file("ca.crt"), "certfile": file("client.crt"), "keyfile": file("client.key")}
        return {"restapi": rest, "ctl": ctl}

    def _configuration(self) -> dict:
        s, programs = self.settings, postgresql_programs()
        rest, postgres = f"{self.host}:{REST_PORT}", f"{self.host}:{POSTGRES_PORT}"
        return {
            "scope": s.name,
            "name": self.name,
            **self._rest(rest),
            "etcd3": {"hosts": [f"{s.etcd_host(n)}:{ETCD_PORT}" for n in range(1, ETCD_MEMBERS + 1)]},
            "bootstrap": {
                "dcs": {
                    "ttl": s.ttl, "loop_wait": s.loop_wait, "retry_timeout": s.retry_timeout,
                    "postgresql": {"use_pg_rewind": True, "parameters": {
                        "max_connections": 300, "wal_level": "replica", "hot_standby": "on",
                        "wal_retrieve_retry_interval": "500ms", "shared_buffers": "32MB", "fsync": "off"}},
                },
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, "data-checksums", "no-sync"],
                "post_bootstrap": f"{programs}/psql -X -v ON_ERROR_STOP=1 -f {self.cluster}/app.sql",
            },
            "postgresql": {
                "listen": postgres, "connect_address": postgres,
                "data_dir": f"{self.directory}/data", "bin_dir": str(programs), "pgpass": f"{self.directory}/pgpass",
                "authentication": {"superuser": SUPERUSER, "replication": REPLICATION},
                "basebackup": [{"checkpoint": "fast"}, "no-sync"],
                "remove_data_directory_on_rewind_failure": True,
                "remove_data_directory_on_diverged_timelines": True,
                "pg_hba": [f"host {what} all {net} trust" for what in ("all", "replication") for net in s.trusted()],
                "parameters": {
                    "unix_socket_directories": "", "ssl": "on",
                    "ssl_cert_file": f"{self.cluster}/tls/server.crt", "ssl_key_file": f"{self.cluster}/tls/server.key"},
            },
        }
