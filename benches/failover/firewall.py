"""A cut between the balancers and Patroni's REST API, and nobody else.

All balancers run as a user of their own, so packets of that user to the REST port can be dropped while Patroni's own
peers, the oracle and the sessions to PostgreSQL go on. The rule belongs to an nft process of ours: when that is gone,
for whatever reason, the kernel takes the rule away with it.
"""
from __future__ import annotations

import os
import shutil
import subprocess

from child import Failure, end, wait_for

USER = 64321  # of the balancers; no name is needed
REST_PORT = 8008
TIMEOUT_S = 5


def is_possible() -> bool:
    return os.getuid() == 0 and shutil.which("nft", path="/usr/sbin:/sbin:" + os.environ.get("PATH", "")) is not None


class Cut:
    def __init__(self, name: str, net: str):
        self.table = f"pilotfish_{name.replace('-', '_')}"
        self.net = net

    def __enter__(self) -> Cut:
        self.process = subprocess.Popen(["nft", "-i"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, text=True, start_new_session=True)
        self.process.stdin.write(
            f"add table ip {self.table} {{ flags owner; }}\n"
            f"add chain ip {self.table} out {{ type filter hook output priority 0; policy accept; }}\n"
            f"add rule ip {self.table} out meta skuid {USER} ip daddr {self.net}.0/24 tcp dport {REST_PORT} drop\n")
        self.process.stdin.flush()
        try:
            wait_for(self.is_in_force, TIMEOUT_S, "nft's rule that drops the balancers' packets")
        except Failure:
            self.__exit__()
            raise
        return self

    def is_in_force(self) -> bool:
        shown = subprocess.run(["nft", "list", "table", "ip", self.table], capture_output=True, text=True)
        return f"skuid {USER}" in shown.stdout

    def __exit__(self, *_) -> None:
        self.process.stdin.close()
        end(self.process)
