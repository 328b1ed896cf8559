"""Two pilotfish before a real cluster, reached in three ways at once, and what clients notice when one of them is hurt.

Run by tests/pair/run. The configuration of each way is the one in docs/two-of-them.md and deploy/keepalived.
"""

import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import measured
from clients import KINDS, TABLE, Client, lost
from machines import LOGS, Machine, Net, run

PROJECT = pathlib.Path(__file__).resolve().parents[2]
DOCUMENT = PROJECT / "docs/two-of-them.md"
KEEPALIVED = PROJECT / "deploy/keepalived/keepalived.conf"
CLUSTER = PROJECT / "deploy/demo/cluster"
REST_PORT = 8008
SHARED = "10.0.0.10"
NAME = "pilotfish.example.org"
# By host name: where clients find it, and how the servers see it.
PAIR = {"pilotfish1": ("10.0.0.11", "10.0.1.1"), "pilotfish2": ("10.0.0.12", "10.0.1.2")}
DATABASE = [f"10.0.1.{last}" for last in (11, 12, 13, 21, 22, 23)]
OWN = "10.0.1.100"
WAYS = ("libpq", "DNS", "VIP")
PATIENCE_S = 60
LOG_LINES = 20
# In the order of the ways: no session or newcomer goes longer without being served. It is the sum of the timers that the
# document names, and room for a machine that is busy with other things.
ROOM_S = 6
BOUNDS_S = {
    "killed": (0, 0, 4),
    "cut off from Patroni only": (0, 0, 4),
    "the same, and the leader changes": (10, 10, 10),
    "cut off from the database's net": (13, 13, 15),
    "cut off from clients only": (8, 8, 8),
    "both upgraded in turn": (0, 0, 4),
}


def until(condition, what):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"after {PATIENCE_S} s still not: {what() if callable(what) else what}"
        time.sleep(0.02)


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", DOCUMENT.read_text(), re.M | re.S)


def links():
    """The document's connection strings, by way: the one for writers."""
    lines = [line for block in blocks("text") for line in block.splitlines() if line.startswith("host=")]
    assert len(lines) == len(WAYS), lines
    assert all(address in lines[0] for address, _ in PAIR.values()) and NAME in lines[1] and SHARED in lines[2], lines
    return dict(zip(WAYS, lines))


def for_readers(link):
    return link.replace("port=5000", "port=5001").replace("target_session_attrs=read-write ", "")


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
    [config] = blocks("yaml")
    (etc / "pilotfish/config.yaml").write_text(config)
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

    def start_keepalived(self):
        self.keepalived = self.start("keepalived", "keepalived", "--dont-fork", "--log-console", "--log-detail", "--vrrp",
                                     f"--pid={LOGS}/{self.name}.pid", f"--vrrp_pid={LOGS}/{self.name}-vrrp.pid")

    def has_the_address(self):
        return f" {SHARED}/" in self.run("ip", "-o", "address", "show", "dev", "eth0")

    def is_well(self):
        """Its checks are good, and keepalived has noticed."""
        said = self.keepalived.said()
        priorities = re.findall(r"effective priority from \d+ to (\d+)", said)
        has_checked = all(f"VRRP_Script({check}) succeeded" in said for check in ("ready", "informed"))
        return self.is_informed() and has_checked and (priorities or ["100"])[-1] == "100"


class Pair:
    def __init__(self):
        self.clients_net, self.database_net = Net("clients"), Net("database")
        self.database, self.client = Machine("database"), Machine("client")
        self.database_net.plug(self.database, "eth0", *DATABASE)
        self.clients_net.plug(self.client, "eth0", "10.0.0.20")
        self.balancers = [Balancer(name) for name in PAIR]
        for balancer in self.balancers:
            self.clients_net.plug(balancer, "eth0", balancer.address)
            self.database_net.plug(balancer, "eth1", balancer.server)
        # For a look at the database from where this runs.
        run("ip", "address", "add", f"{OWN}/24", "dev", self.database_net.name)
        self.clients, self.rows = [], []

    def start(self):
        self.cluster("up", "--fresh")
        self.cluster("psql", self.leader(), "-q", "-c", TABLE, "-c", "ALTER TABLE noted OWNER TO app")
        records = [f"--host-record={NAME},{balancer.address}" for balancer in self.balancers]
        self.client.start("dns", "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts",
                          "--user=root", "--listen-address=127.0.0.1", "--bind-interfaces", "--local=/example.org/",
                          f"--pid-file={LOGS}/dns.pid", *records)
        for balancer in self.balancers:
            balancer.start_pilotfish()
            balancer.start_keepalived()
        self.await_well()
        for way, link in links().items():
            for number in (0, 1):
                for kind in KINDS:
                    link_of_kind = for_readers(link) if kind == "reader" else link
                    self.clients.append(Client(way, kind, number, link_of_kind, self.client))
        for client in self.clients:
            client.start()
        self.await_served(self.clients, self.balancers)

    def cluster(self, *words):
        return self.database.run(CLUSTER, "--dir", LOGS / "cluster", "--name", "pair", "--net", "10.0.1", *words).strip()

    def leader(self):
        return self.cluster("leader")

    def of(self, *ways):
        return [client for client in self.clients if client.way in ways]

    def holder(self):
        """Who has the address; None while nobody has it, or both do."""
        having = [balancer for balancer in self.balancers if balancer.has_the_address()]
        return having[0] if len(having) == 1 else None

    def await_well(self):
        until(lambda: self.holder() and all(balancer.is_well() for balancer in self.balancers), "both are well again")

    def await_served(self, clients, balancers):
        """Each of them has had something done, all of it from now on, by one of these."""
        now, servers = time.monotonic(), {balancer.server for balancer in balancers}
        until(lambda: all(client.served_since(now, servers) for client in clients), lambda: "served: " + "; ".join(
            f"{client.name} {client.tries[-1:]}" for client in clients if not client.served_since(now, servers)))

    def settle(self):
        """Of each kind one session is on each pilotfish, so that whichever is hurt, half of them are hit."""
        sessions = [client for client in self.of("libpq", "DNS") if client.kind != "newcomer"]
        where = [(client, self.balancers[int(client.name[-1])].server) for client in sessions]
        until(lambda: all([client.stays_at(server) for client, server in where]), "the sessions are spread")
        for client in sessions:
            client.wanted = None

    def play(self, title, event):
        """What happens to the one that has the address. The other one's sessions are only watched."""
        self.settle()
        self.await_served(self.clients, self.balancers)
        hurt = self.holder()
        [other] = [balancer for balancer in self.balancers if balancer is not hurt]
        begin = time.monotonic()
        event(hurt, other)
        self.await_well()
        self.await_served(self.clients, self.balancers)
        row = measured.Row(title, {way: measured.outcome(self.of(way), begin, time.monotonic()) for way in WAYS})
        print(row.said(), flush=True)
        self.rows.append(row)

    # What happens

    def killed(self, hurt, other):
        hurt.pilotfish.end(signal.SIGKILL)
        self.await_served(self.clients, [other])
        hurt.start_pilotfish()

    def without_patroni(self, hurt, other):
        hurt.drop_from(REST_PORT)
        self.await_served(self.of("VIP"), [other])
        self.await_served(self.of("libpq", "DNS"), self.balancers)
        hurt.drop_nothing()

    def misled(self, hurt, other):
        hurt.drop_from(REST_PORT)
        self.await_served(self.of("VIP"), [other])
        self.cluster("switchover")
        self.await_served([client for client in self.clients if client.kind != "reader"], [other])
        self.await_served(self.clients, self.balancers)
        hurt.drop_nothing()

    def without_database(self, hurt, other):
        self.cut(self.database_net, hurt, other)

    def without_clients(self, hurt, other):
        self.cut(self.clients_net, hurt, other)

    def cut(self, net, hurt, other):
        net.cut(hurt)
        self.await_served(self.clients, [other])
        net.mend(hurt)

    def upgraded(self, hurt, other):
        for balancer in hurt, other:
            balancer.keepalived.end()
            balancer.pilotfish.end()
            balancer.start_pilotfish()
            balancer.start_keepalived()
            self.await_well()

    def judge(self):
        for row, bounds in zip(self.rows, BOUNDS_S.values()):
            for (way, found), bound in zip(row.outcomes.items(), bounds):
                assert found.gap() < bound + ROOM_S, f"{row.title}, {way}: {found} although the timers give {bound} s"
        quiet = self.rows[list(BOUNDS_S).index("cut off from Patroni only")]
        for way in "libpq", "DNS":
            assert not quiet.outcomes[way].errors, f"a pilotfish that is not informed goes on: {quiet.outcomes[way]}"
        for title in "killed", "cut off from the database's net", "cut off from clients only":
            for way, found in self.rows[list(BOUNDS_S).index(title)].outcomes.items():
                assert found.broken >= 2, f"{title}, {way}: its writer and its reader cannot have missed it: {found}"
        for client in self.clients:
            client.ended.set()
        for client in self.clients:
            client.join(PATIENCE_S)
            assert not client.is_alive(), f"{client.name} hangs"
        missing = lost(f"host={','.join(DATABASE[:3])} user=app dbname=app target_session_attrs=read-write", self.clients)
        assert not missing, f"acknowledged and not there: {missing}"
        print(f"{sum(len(client.acknowledged) for client in self.clients)} acknowledged writes, none lost")


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    prepare()
    try:
        pair = Pair()
        pair.start()
        events = (pair.killed, pair.without_patroni, pair.misled, pair.without_database, pair.without_clients, pair.upgraded)
        for title, event in zip(BOUNDS_S, events, strict=True):
            pair.play(title, event)
        pair.judge()
    except BaseException:
        for log in sorted(LOGS.glob("*.log")):
            print(f"--- the end of {log.name}", *log.read_text(errors="replace").splitlines()[-LOG_LINES:], sep="\n")
        raise
    if "--write" in sys.argv[1:]:
        measured.write(DOCUMENT, pair.rows)


main()
