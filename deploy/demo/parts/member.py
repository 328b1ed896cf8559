"""A member of a cluster: an address, a directory, a log, and the processes that work in that directory.

What a member is doing is read from /proc and from its HTTP answers every time; nothing is remembered.
"""
from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP

from . import processes
from .processes import Failure, Process, wait_until_none
from .settings import Settings

HTTP_TIMEOUT_S = 2
SIGNAL_TIMEOUT_S = 10
STOP_TIMEOUT_S = 60


class Member:
    def __init__(self, name: str, host: str, cluster: Path, settings: Settings):
        self.name, self.host, self.cluster, self.settings = name, host, cluster, settings
        self.directory = cluster / name
        self.log = cluster / "log" / f"{name}.log"

    def processes(self) -> list[Process]:
        return processes.inside(self.directory)

    def ports_to_take(self) -> tuple[int, ...]:
        """Those that it will listen on once it is started; none if it runs."""
        raise NotImplementedError

    def check_ports(self) -> None:
        for port in self.ports_to_take():
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((self.host, port))
                except OSError as error:
                    raise Failure(f"{self.name} needs {self.host}:{port}: {error.strerror}. "
                                  f"`ss -ltnp | grep {self.host}:` tells who has it; --net takes another net") from error

    def launch(self, command: list[str]) -> None:
        self.log.parent.mkdir(exist_ok=True)
        processes.spawn(command, self.directory, self.log)

    def request(self, port: int, method: str, path: str, body=None, timeout: float = HTTP_TIMEOUT_S) -> tuple[int, str]:
        connection = self.connection(port, timeout)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), self.headers())
            response = connection.getresponse()
            return response.status, response.read().decode(errors="replace").strip()
        except http.client.HTTPException as error:
            raise OSError(f"broke off its answer ({error!r})") from error
        finally:
            connection.close()

    def connection(self, port: int, timeout: float) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.host, port, timeout=timeout)

    def headers(self) -> dict[str, str]:
        return {}

    def freeze(self, which=lambda process: True) -> None:
        self._signal_until(SIGSTOP, lambda process: process.is_stopped or not which(process))

    def thaw(self, which=lambda process: True) -> None:
        self._signal_until(SIGCONT, lambda process: not (process.is_stopped and which(process)))

    def kill(self) -> None:
        """Frozen first, so that nothing is started behind our back while the processes end one by one."""
        self.freeze()
        self._signal_until(SIGKILL, lambda process: False)

    def _signal_until(self, number, done) -> None:
        def problem():
            left = [process for process in self.processes() if not done(process)]
            processes.send(left, number)
            return Failure(f"{self.name}: {len(left)} processes do not follow {number.name}", self.log) if left else None
        wait_until_none(problem, SIGNAL_TIMEOUT_S)

    def wait_gone(self, which=lambda process: True, seconds: float = STOP_TIMEOUT_S) -> None:
        """Waits until no process of this member for which `which` holds is left."""
        def problem():
            left = [process.program for process in self.processes() if which(process)]
            return Failure(f"{self.name}: {left[0]} goes on running", self.log) if left else None
        wait_until_none(problem, seconds)
