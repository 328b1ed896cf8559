"""A machine with a pilotfish and a keepalived, installed and started as their packages do it."""

import datetime
import json
import os
import pathlib
import re
import subprocess
import time

from document import PAIR, SHARED, configuration
from machines import LOGS, Machine, run, until
from reader import PROJECT

KEEPALIVED = PROJECT / "deploy/keepalived/keepalived.conf"
# In the log of a process whose place another one has taken, right before it drains.
HANDED_OVER = "has taken the place of this one"


def prepare():
    """What is installed on the machines, laid over this one's /etc and /usr/bin."""
    run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    for folder in ("/run/pilotfish", LOGS, LOGS / "etc/pilotfish", LOGS / "etc/keepalived", LOGS / "bin"):
        os.makedirs(folder)
    etc = LOGS / "etc"
    (etc / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    for name, line in ("passwd", "pilotfish:x:61234:61234::/:/bin/false\n"), ("group", "pilotfish:x:61234:\n"):
        text = pathlib.Path("/etc", name).read_text()
        (etc / name).write_text(text if "\npilotfish:" in text else text + line)
    (etc / "pilotfish/config.yaml").write_text(configuration())
    (etc / "keepalived/keepalived.conf").write_text(KEEPALIVED.read_text())
    binary = LOGS / "bin/pilotfish"
    binary.write_bytes((PROJECT / os.environ["PILOTFISH_BINARY"]).read_bytes())
    binary.chmod(0o755)
    for lower, place in (etc, "/etc"), (LOGS / "bin", "/usr/bin"):
        run("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={lower}:{place}", place)


class Balancer(Machine):
    """A machine with a pilotfish and a keepalived."""

    def __init__(self, name):
        super().__init__(name)
        self.run("chown", "pilotfish:", "/run/pilotfish")
        self.address, self.server = PAIR[name]
        self.pilotfish = self.keepalived = None

    def start_pilotfish(self):
        """As the unit starts it, and awaited until it knows the cluster."""
        self.pilotfish = self.start("pilotfish", "setpriv", "--reuid=pilotfish", "--regid=pilotfish", "--clear-groups",
                                    "/usr/bin/pilotfish", "run", "--config", "/etc/pilotfish/config.yaml",
                                    environment={"RUNTIME_DIRECTORY": "/run/pilotfish"})
        until(self.is_informed, lambda: f"{self.name} ready: {self.pilotfish.said()[-2000:]}")

    def is_informed(self):
        words = self.inside(["/usr/bin/pilotfish", "status", "--ready", "--informed"])
        return subprocess.run(words, capture_output=True, timeout=60).returncode == 0

    def upgrade(self):
        """Awaited until the former process has ended. Gives the moment before which that was to cut nobody."""
        told = json.loads(self.run("/usr/bin/pilotfish", "upgrade", "--output", "json"))
        self.pilotfish.pass_on(told["pid"])
        lines = [json.loads(line) for line in self.pilotfish.said().splitlines() if HANDED_OVER in line]
        handed_over = datetime.datetime.fromisoformat(lines[-1]["timestamp"])
        # By the clock that clients note their tries by.
        ago_s = (datetime.datetime.now(datetime.UTC) - handed_over).total_seconds()
        return time.monotonic() - ago_s + told["drain_timeout_s"]

    def start_keepalived(self):
        self.keepalived = self.start("keepalived", "keepalived", "--dont-fork", "--log-console", "--log-detail", "--vrrp",
                                     f"--pid={LOGS}/{self.name}.pid", f"--vrrp_pid={LOGS}/{self.name}-vrrp.pid")

    def has_the_address(self):
        return f" {SHARED}/" in self.run("ip", "-o", "address", "show", "dev", "eth0")

    def is_well(self):
        """Its checks are good, and keepalived has noticed."""
        has_checked = all(f"VRRP_Script({check}) succeeded" in self.keepalived.said() for check in ("ready", "informed"))
        return self.is_informed() and has_checked and (self.priorities() or ["100"])[-1] == "100"

    def priorities(self):
        """Each one that a check brought about since keepalived was started."""
        return re.findall(r"effective priority from \d+ to (\d+)", self.keepalived.said())
