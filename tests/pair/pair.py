"""Two pilotfish before a real cluster, reached in three ways at once, and what clients notice when one of them is hurt.

Run by tests/pair/run. The configuration of each way is the one in docs/two-of-them.md and deploy/keepalived.
"""

import argparse
import signal
import sys
import time

import measured
from balancer import Balancer, prepare
from clients import KINDS, TABLE, Client, lost
from document import DOCUMENT, NAME, PAIR, WAYS, for_readers, links
from machines import LOGS, PATIENCE_S, Machine, Net, run, until
from reader import PROJECT

CLUSTER = PROJECT / "deploy/demo/cluster"
REST_PORT = 8008
DATABASE = [f"10.0.1.{last}" for last in (11, 12, 13, 21, 22, 23)]
OWN = "10.0.1.100"
LOG_LINES = 20


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

    def settle(self, holder):
        """The shared address is there, and otherwise one session of each kind on each pilotfish."""
        for balancer in self.balancers:
            if balancer is not holder and balancer.has_the_address():
                balancer.keepalived.end()
                balancer.start_keepalived()
        self.await_well()
        assert self.holder() is holder
        sessions = [client for client in self.of("libpq", "DNS") if client.kind != "newcomer"]
        where = [(client, self.balancers[int(client.name[-1])].server) for client in sessions]
        until(lambda: all([client.stays_at(server) for client, server in where]), "the sessions are spread")
        for client in sessions:
            client.wanted = None

    def play(self, title, event, bounds):
        """Hurts the one that has the shared address. Its own is the higher one, so it keeps both after a torn net."""
        other, hurt = self.balancers
        self.settle(hurt)
        self.await_served(self.clients, self.balancers)
        begin = time.monotonic()
        event(self, hurt, other)
        self.await_well()
        self.await_served(self.clients, self.balancers)
        row = measured.Row(title, {way: measured.outcome(self.of(way), begin, time.monotonic()) for way in WAYS})
        print(row.said(), flush=True)
        self.rows.append(row)
        for way, bound in zip(WAYS, bounds, strict=True):
            judge(f"{title}, {way}", row.outcomes[way], bound)

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

    def count_lost_writes(self):
        for client in self.clients:
            client.ended.set()
        for client in self.clients:
            client.join(PATIENCE_S)
            assert not client.is_alive(), f"{client.name} hangs"
        missing = lost(f"host={','.join(DATABASE[:3])} user=app dbname=app target_session_attrs=read-write", self.clients)
        assert not missing, f"acknowledged and not there: {missing}"
        print(f"{sum(len(client.acknowledged) for client in self.clients)} acknowledged writes, none lost")


def judge(what, found, bound):
    """Without a bound nothing fails and nobody waits; else the sessions that were hit have noticed."""
    if bound is None:
        assert not found.errors and found.gap() < ROOM_S, f"{what}: {found}, where nothing was to be noticed"
    else:
        assert found.gap() < bound + ROOM_S, f"{what}: {found} although the timers give {bound} s"
        assert found.broken >= 2, f"{what}: a writer and a reader of this way were hit: {found}"


# Title, what happens, and for each of the ways the seconds that nobody goes longer without being served. They are the sum
# of the timers that the document names; beside it there is room for a machine that is busy with other things.
# None: nothing is noticed.
EVENTS = (
    ("killed", Pair.killed, (0, 0, 4)),
    ("cut off from Patroni only", Pair.without_patroni, (None, None, 5)),
    ("the same, and the leader changes", Pair.misled, (10, 10, 10)),
    ("cut off from the database's net", Pair.without_database, (13, 13, 15)),
    ("cut off from clients only", Pair.without_clients, (8, 8, 8)),
    ("both upgraded in turn", Pair.upgraded, (0, 0, 5)),
)
ROOM_S = 6


def main():
    # The first process of its namespace gets no signal that it has no handler for; with it all others end.
    for number in signal.SIGINT, signal.SIGTERM:
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--rounds", type=int, default=1)
    arguments.add_argument("--write", action="store_true")
    arguments = arguments.parse_args()
    prepare()
    try:
        pair = Pair()
        pair.start()
        for _ in range(arguments.rounds):
            for title, event, bounds in EVENTS:
                pair.play(title, event, bounds)
        pair.count_lost_writes()
    except Exception:
        tell_the_logs()
        raise
    if arguments.write:
        measured.write(DOCUMENT, pair.rows)


def tell_the_logs():
    for log in sorted(LOGS.glob("*.log")):
        print(f"--- the end of {log.name}", *log.read_text(errors="replace").splitlines()[-LOG_LINES:], sep="\n")


main()
