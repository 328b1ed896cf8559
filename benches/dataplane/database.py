"""A PostgreSQL of the benchmark's own: made for the run, and gone with it."""
from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from pathlib import Path
from signal import SIGINT

import cores
from child import Failure, Service, end, wait_for
from programs import postgresql_programs

START_TIMEOUT_S = 60
SCALE = 10  # pgbench: a million accounts, which fit into memory
LINE_BYTES = 993  # of the bulk table, as COPY writes it: 31 times 32 digits, and a newline
COPY_DATA_BYTES = 5  # the header of a CopyData message, which each line is
PLAIN = {"PGSSLMODE": "disable", "PGUSER": "bench", "PGDATABASE": "postgres", "PGAPPNAME": "bench"}
SETTINGS = {
    "fsync": "off", "shared_buffers": "256MB", "max_connections": "300", "autovacuum": "off", "wal_level": "minimal",
    "max_wal_senders": "0", "max_wal_size": "4GB", "unix_socket_directories": "", "port": "5432"}


class Database:
    def __init__(self, host: str, place: Path):
        self.host, self.data = host, place / "data"
        self.programs = postgresql_programs()
        self.user = pwd.getpwnam("postgres").pw_uid if os.getuid() == 0 else None
        self.service: Service | None = None

    def start(self) -> None:
        shutil.rmtree(self.data, ignore_errors=True)
        self.data.mkdir(mode=0o700)
        drop = []
        if self.user is not None:  # PostgreSQL refuses to run as root
            os.chown(self.data, self.user, self.user)
            drop = ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups"]
        command = [*drop, self.programs / "initdb", "-D", self.data, "-U", "bench", "-A", "trust", "-N", "-E", "UTF8",
                   "--locale", "C"]
        made = subprocess.run(command, capture_output=True, text=True, cwd="/")
        if made.returncode != 0:
            raise Failure(f"initdb: {made.stderr.strip()}")
        settings = [argument for name, value in SETTINGS.items() for argument in ("-c", f"{name}={value}")]
        log = self.data.parent / "postgresql.log"
        command = cores.on(cores.REST, self.programs / "postgres", "-D", self.data, "-h", self.host, *settings)
        self.service = Service(command, log, self.user)
        wait_for(self.is_ready, START_TIMEOUT_S, f"PostgreSQL on {self.host} is ready (see {log})")

    def is_ready(self) -> bool:
        self.service.check()
        return subprocess.run([self.programs / "pg_isready", "-q", "-h", self.host]).returncode == 0

    def close(self) -> None:
        if self.service and self.service.process.poll() is None:
            self.service.process.send_signal(SIGINT)
            end(self.service.process)
        shutil.rmtree(self.data, ignore_errors=True)

    def prepare_pgbench(self) -> None:
        self.run("pgbench", "-i", "-q", "-s", str(SCALE))

    def prepare_copy(self, gigabytes: float) -> None:
        lines = int(gigabytes * 1e9 / (LINE_BYTES + COPY_DATA_BYTES))
        self.psql(f"CREATE UNLOGGED TABLE bulk AS SELECT repeat(md5(n::text), 31) AS line FROM generate_series(1, {lines}) AS n",
                  "VACUUM bulk", "SELECT count(*) FROM bulk")

    def psql(self, *statements: str, host: str | None = None, port: int = 5432, stdin=subprocess.DEVNULL,
             stdout=subprocess.DEVNULL) -> None:
        commands = [argument for statement in statements for argument in ("-c", statement)]
        self.run("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", *commands, host=host, port=port, stdin=stdin, stdout=stdout)

    def run(self, program: str, *arguments: str, host: str | None = None, port: int = 5432, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE) -> str:
        command = cores.on(cores.REST, self.programs / program, "-h", host or self.host, "-p", port, *arguments)
        process = subprocess.Popen(command, env={**os.environ, **PLAIN}, text=True, start_new_session=True, stdin=stdin,
                                   stdout=stdout, stderr=subprocess.PIPE)
        try:
            output, errors = process.communicate()
        except BaseException:
            process.kill()
            process.wait()
            raise
        if process.returncode != 0:
            raise Failure(f"{program} through {host or self.host}: {errors.strip()[-500:]}")
        return output or ""
