"""An etcd member: three of them keep the leader lock of the cluster."""
from __future__ import annotations

import os
import shutil
import subprocess

from .member import Member
from .processes import Failure, wait_until_none
from .settings import ETCD_MEMBERS, ETCD_PORT, PEER_PORT

START_TIMEOUT_S = 30
WITHOUT_UNSAFE_NO_FSYNC = "etcd Version: 3.3."


class Etcd(Member):
    def ports_to_take(self) -> tuple[int, ...]:
        return () if self.processes() else (ETCD_PORT, PEER_PORT)

    def start(self) -> None:
        if self.processes():
            return
        program = shutil.which("etcd", path="/usr/local/bin:/usr/bin:/usr/sbin:" + os.environ.get("PATH", ""))
        if not program:
            raise Failure("etcd is not installed: run deploy/setup cluster")
        version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
        hosts = {f"etcd{n}": self.settings.etcd_host(n) for n in range(1, ETCD_MEMBERS + 1)}
        client, peer = f"http://{self.host}:{ETCD_PORT}", f"http://{self.host}:{PEER_PORT}"
        self.check_ports()
        self.directory.mkdir(mode=0o700, exist_ok=True)
        self.launch([
            program, "--name", self.name, "--data-dir", str(self.directory / "data"),
            "--listen-client-urls", client, "--advertise-client-urls", client,
            "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
            "--initial-cluster", ",".join(f"{name}=http://{host}:{PEER_PORT}" for name, host in hosts.items()),
            "--initial-cluster-token", self.settings.name,
            *([] if WITHOUT_UNSAFE_NO_FSYNC in version else ["--unsafe-no-fsync"]),
        ])

    def wait(self, path: str) -> None:
        """Until it answers: /health needs a quorum, /version does not."""
        def problem():
            if not self.processes():
                raise Failure(f"{self.name} has ended", self.log)
            try:
                status, _ = self.request(ETCD_PORT, "GET", path)
            except OSError as error:
                return Failure(f"{self.name} does not answer: {error}", self.log)
            return None if status == 200 else Failure(f"{self.name} has no quorum", self.log)
        wait_until_none(problem, START_TIMEOUT_S)

    def state(self) -> str:
        running = self.processes()
        return "stopped" if not running else "frozen" if running[0].is_stopped else "running"
