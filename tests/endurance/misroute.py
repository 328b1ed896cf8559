"""Real failovers, and which writer sessions were on the wrong node: pilotfish, and HAProxy twice, on the same ones.

Behind each balancer new writer sessions come at a rate, and some stay. The kernel tells what each balancer was answered by
Patroni and when it dialled (wire.py); each session tells where it is. evidence.py says what counts as misrouted and stale.

To be reached by pilotfish, over all failovers:
  - no new session misrouted: none on a node whose last answer that it knew was negative, or while another was verified
  - each open session of an ex-leader ended within one interval + 100 ms of the first denial or another's verification that it
    knew; of a node that says nothing, within `leader_grace` (the cluster's ttl) + one interval of its last answer
    (a session has ended when the balancer's first packet of the end is on its way to the client)
Beside it, by what the nodes say themselves: sessions that found a node in recovery, or one on an older timeline than the
oracle had written on; read-only errors; failed connects; sessions that ended before they could say where they were.
"""
from __future__ import annotations

import os
import sys
import time
from argparse import Namespace
from collections import Counter
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path
from statistics import median

import blows
import firewall
import results
from blows import BLOWS, Blow
from child import Failure, Teller, wait_for
from cluster import Cluster
from contenders import MAKERS, Contender, Field
from ledger import SPREAD, Book, Ledger, spread, told
from machine import Load, facts
from options import parser_of
from pilotfish import place_of
from terminal import conclude, one_of, say

HERE = Path(__file__).resolve().parent
FAILOVER = HERE.parents[1] / "benches/failover"
SUBJECT = "pilotfish"
WARM_UP_TIMEOUT_S = 60
LATE_S = 3  # until what happened has been told by all
BLIND_S = 6


def switch_over_unseen(cluster: Cluster, leader: str) -> None:
    """The balancers cannot reach Patroni, and the lead is handed over meanwhile."""
    with firewall.Cut(cluster.name, cluster.net):
        cluster.call("switchover")
        time.sleep(BLIND_S)


KINDS = {**BLOWS, "blind": Blow("blind", "switchover while no balancer reaches Patroni", switch_over_unseen)}
# What goes by itself is quick; what waits for the lock to run out takes half a minute, so it comes less often.
ROUND = ("switchover", "stop", "postmaster", "switchover", "kill", "postmaster", "switchover", "freeze", "stop", "switchover",
         "patroni-killed", "postmaster", "switchover", "stop", "blind", "patroni-frozen", "switchover", "postmaster", "etcd",
         "switchover")


class Misroute:
    def __init__(self, options: Namespace):
        self.options = options
        self.cluster = Cluster(options.name, options.net)
        self.place = place_of(options.name)
        self.contenders: list[Contender] = []
        self.tellers: list[Teller] = []
        self.ledgers: dict[str, Ledger] = {}
        self.played: Counter = Counter()
        self.moved = 0
        self.took_s: list[float] = []
        self.complaints: list[str] = []
        self.is_whole = False
        self.load = Load()

    def run(self) -> None:
        if os.getuid() != 0:
            raise Failure("it takes root: to see the packets of loopback, and to cut balancers off")
        with ExitStack() as stack:
            say("bringing the cluster up")
            stack.callback(self.cluster.wipe)
            # A leader whose PostgreSQL crashed hands over at once, in place of being restarted where it is.
            blows.up(self.cluster, "primary_start_timeout=0")
            self.cluster.clear()
            self.begin(stack)
            kinds = cycle(self.options.kinds)
            while self.played.total() < self.options.failovers:
                self.failover(KINDS[next(kinds)])
            time.sleep(LATE_S)
            self.close_tellers()
            self.book.digest()
            self.judge()

    def begin(self, stack: ExitStack) -> None:
        self.field = Field(self.cluster.environment(), self.options.net, self.place, "disable", firewall.USER)
        stack.callback(self.close_tellers)
        self.wire = self.start(HERE / "wire.py", self.options.net)
        for key in self.options.contenders:
            contender = MAKERS[key](self.field)
            stack.callback(contender.service.close)
            self.contenders.append(contender)
        self.oracle = self.start(FAILOVER / "oracle.py", *self.field.direct(), "--every", "0.1")
        rate = str(self.options.rate / len(self.contenders))
        for each in self.contenders:
            clients = self.start(HERE / "sessions.py", each.conninfo, "--rate", rate)
            self.ledgers[each.key] = Ledger(each, clients)
        self.book = Book(self.wire, self.oracle, self.ledgers)
        wait_for(lambda: all(any(record.get("wrote") for record in ledger.clients.told) for ledger in self.ledgers.values()),
                 WARM_UP_TIMEOUT_S, "a writer session through each balancer")

    def start(self, program: Path, *arguments: str) -> Teller:
        self.tellers.append(Teller(sys.executable, str(program), *arguments))
        return self.tellers[-1]

    def close_tellers(self) -> None:
        while self.tellers:
            self.tellers.pop().close()

    def failover(self, blow: Blow) -> None:
        """One that does not come about as meant is not counted; what sessions lived through in it is."""
        begun = time.monotonic()
        self.book.blows.append((time.time(), blow.key))
        try:
            self.moved += blows.play(blow, self.cluster)
            self.played[blow.key] += 1
        except Failure as failure:
            blows.recover(self.cluster, failure, say)
        for each in [*self.contenders, *self.tellers]:
            each.check()
        took = time.monotonic() - begun
        self.took_s.append(took)
        self.book.digest(time.time() - LATE_S)
        say(f"{self.played.total()} {blow.title}, {took:.1f} s; misrouted so far: "
            + ", ".join(f"{key} {len(ledger.misrouted)}" for key, ledger in self.ledgers.items()))

    def judge(self) -> None:
        if self.book.dropped != 0:
            self.complaints.append(f"{self.book.dropped} packets were not seen: the rest is not to be trusted")
        for key, ledger in self.ledgers.items():
            if ledger.undialled:
                self.complaints.append(f"{key}: {ledger.undialled} sessions whose dial was not seen")
        subject = self.ledgers.get(SUBJECT)
        if subject:
            self.complaints += subject.complaints()
        self.is_whole = True
        if self.complaints:
            raise Failure("not reached:\n  " + "\n  ".join(self.complaints))

    def report(self) -> None:
        if not self.took_s:
            return  # nothing has happened yet
        document = self.document()
        print(results.text_of(document))
        if self.options.save:
            results.save("misroute", document)

    def document(self) -> dict:
        verdict = "reached" if self.is_whole and not self.complaints else "not reached" if self.is_whole else "not whole"
        ledgers = self.ledgers.values()
        return {
            "title": f"Misroute: {self.played.total()} failovers, {self.moved} of them to another node",
            "verdict": verdict, "complaints": self.complaints,
            "tables": {
                "New writer sessions": {"columns": ["", *Ledger.COUNTED], "rows": [each.counted_row() for each in ledgers]},
                "Misrouted, by what was done": {
                    "columns": ["", *self.played],
                    "rows": [[each.title, *(each.by_kind[kind] for kind in self.played)] for each in ledgers]},
                "Found a node in recovery, by what was done": {
                    "columns": ["", *self.played],
                    "rows": [[each.title, *(each.in_recovery[kind] for kind in self.played)] for each in ledgers]},
                "Open writer sessions of an ex-leader: ended after it was known, ms": {
                    "columns": ["", *SPREAD], "rows": [[each.title, *spread(each.stale_s)] for each in ledgers]},
                "the same by the first answer that was not good, ms": {
                    "columns": ["", *SPREAD], "rows": [[each.title, *spread(each.after_doubt_s)] for each in ledgers]},
                "Ended while their node said nothing, ms after its last answer": {
                    "columns": ["", *SPREAD],
                    "rows": [[each.title, *spread(each.silent_s)] for key, each in self.ledgers.items() if key == SUBJECT]}},
            "figures": {
                "failovers": dict(self.played), "median_failover_s": round(median(self.took_s), 1),
                "longest_failover_s": round(max(self.took_s), 1), "patroni": " ".join(blows.QUICK),
                "new_sessions_a_second": self.options.rate,
                "errors": {each.contender.key: dict(each.errors.most_common(8)) for each in ledgers},
                "examples": {each.contender.key: [told(session) for session in each.misrouted[:5]] for each in ledgers},
                "machine": self.load.shares(), "versions": self.field.versions(), **facts()}}


def parse() -> Namespace:
    kinds = [key for key in ROUND if key != "blind" or firewall.is_possible()]
    parser = parser_of("misroute", __doc__, "127.0.62")
    parser.add_argument("--failovers", type=int, default=200, help="(200)")
    parser.add_argument("--kinds", type=one_of(KINDS), default=kinds, metavar="A,B", help=f"of {', '.join(KINDS)}, in turn (a round of all)")
    parser.add_argument("--contenders", type=one_of({key: None for key in MAKERS if key != "libpq"}),
                        default=["pilotfish", "tuned", "template"], metavar="A,B", help="(pilotfish,tuned,template)")
    parser.add_argument("--rate", type=float, default=24, help="new sessions a second, over all balancers (24)")
    return parser.parse_args()


def main() -> int:
    misroute = Misroute(parse())
    return conclude("misroute", misroute.run, misroute.report)
