"""What is known of one balancer's sessions, and how it gets there from what all who watch have told."""
from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from math import inf
from statistics import median, quantiles

from psycopg.conninfo import conninfo_to_dict

from child import Teller
from client import READ_ONLY
from cluster import monotonic_of
from contenders import Contender
from evidence import History, former

INTERVAL_S, GRACE_S = 1, 20  # pilotfish's default, and the ttl that blows.QUICK sets
STALE_BOUND_S, SILENT_BOUND_S = INTERVAL_S + 0.1, GRACE_S + INTERVAL_S
ERROR_LENGTH = 70
BEFORE = "before the first"


class Ledger:
    """What is known of one balancer's sessions."""

    COUNTED = ("sessions", "misrouted", "denied", "superseded", "dialled under way", "in recovery", "former leader",
               "read-only", "failed connects", "cut before the first answer", "open at the end")

    def __init__(self, contender: Contender, clients: Teller):
        self.contender, self.clients, self.title = contender, clients, contender.title
        self.host = conninfo_to_dict(contender.conninfo)["host"]
        self.history = History()
        self.counted: Counter = Counter()
        self.by_kind: Counter = Counter()
        self.in_recovery: Counter = Counter()
        self.errors: Counter = Counter()
        self.misrouted: list[dict] = []
        self.undialled = 0
        self.stale_s: list[float] = []
        self.after_doubt_s: list[float] = []
        self.silent_s: list[float] = []
        self.read = 0

    def session(self, record: dict, dialled: float, writes: list[tuple[float, int]], blow: str) -> None:
        node = record["node"]
        self.counted["sessions"] += 1
        self.counted["in recovery"] += record["recovery"]
        self.in_recovery[blow] += record["recovery"]
        self.counted["read-only"] += record["code"] == READ_ONLY
        self.counted["former leader"] += former(record["timeline"], dialled, writes)
        self.counted["dialled under way"] += self.history.is_under_way(node, dialled)
        if why := self.history.misroute(node, dialled):
            self.counted["misrouted"] += 1
            self.counted[why] += 1
            self.by_kind[blow] += 1
            known = self.history.last(node if why == "denied" else self.history.verified(dialled), dialled)
            self.misrouted.append({**record, "why": why, "blow": blow, "dialled": dialled,
                                   "after_ms": round(1000 * (dialled - known[1]), 3)})

    def failed(self, record: dict) -> None:
        self.counted["failed connects" if record["step"] == "connect" else "cut before the first answer"] += 1
        self.errors[f"{record['step']}: {record['error'].rpartition('failed: ')[2][:ERROR_LENGTH]}"] += 1

    def ended(self, record: dict, ended: float, is_open: bool = False) -> None:
        """Times are counted from when it was known; a session that ended before has none. `is_open`: the run ended before
        it did, so its times are the least that they may be; that its node is silent means nothing before its time."""
        outlived = self.history.outlived(record["node"], record["since"], ended)
        for times, seconds, least in (
                (self.stale_s, outlived.stale_s, 0), (self.after_doubt_s, outlived.doubted_s, 0),
                (self.silent_s, outlived.silent_s, SILENT_BOUND_S if is_open else INTERVAL_S + STALE_BOUND_S)):
            if seconds is not None and seconds >= least:
                times.append(seconds)
        self.counted["open at the end"] += is_open

    def complaints(self) -> list[str]:
        found = [f"{len(self.misrouted)} sessions misrouted"] if self.misrouted else []
        late = [each for each in self.stale_s if each > STALE_BOUND_S]
        found += [f"{len(late)} stale sessions open for longer than {STALE_BOUND_S:g} s, the longest for {max(late):.3f} s"] if late else []
        late = [each for each in self.silent_s if each > SILENT_BOUND_S]
        return found + ([f"{len(late)} sessions of a silent node open for longer than {SILENT_BOUND_S:g} s, "
                         f"the longest for {max(late):.3f} s"] if late else [])

    def counted_row(self) -> list:
        return [self.title, *(self.counted[name] for name in self.COUNTED)]


class Book:
    """Takes what was told into the ledgers, as far as everybody has had time to tell it."""

    def __init__(self, wire: Teller, oracle: Teller, ledgers: dict[str, Ledger]):
        self.wire, self.oracle, self.ledgers = wire, oracle, ledgers
        self.dials: dict[tuple[str, int], list[float]] = defaultdict(list)
        self.ends: dict[tuple[str, int], list[float]] = defaultdict(list)
        self.writes: list[tuple[float, int]] = []
        self.blows: list[tuple[float, str]] = [(0, BEFORE)]
        self.newest = 0
        self.dropped: int | None = None

    def digest(self, until: float = inf) -> None:
        """Sessions that had told of themselves by then; all of them once nobody has more to tell."""
        self.take_evidence()
        for ledger in self.ledgers.values():
            told = ledger.clients.told
            while ledger.read < len(told) and moment_of(told[ledger.read]) <= until:
                self.take(ledger, told[ledger.read])
                ledger.read += 1

    def take_evidence(self) -> None:
        for record in taken(self.wire):
            if record["kind"] == "dial":
                self.dials[record["node"], record["port"]].append(record["at"])
            elif record["kind"] == "closed":
                self.ends[record["balancer"], record["port"]].append(record["at"])
            elif record["kind"] == "end":
                self.dropped = record["dropped"]
            elif (ledger := self.ledgers.get(record.get("asker"))) and record["status"]:
                ledger.history.take(record)
        skew = monotonic_of(0)  # a moment of Unix time plus this is monotonic
        for record in taken(self.oracle):
            self.newest = max(self.newest, record["timeline"])
            self.writes.append((record["done"] - skew, self.newest))

    def take(self, ledger: Ledger, record: dict) -> None:
        if record["kind"] in ("ended", "open"):
            # Later ones are of another session that has its port.
            ends = [at for at in self.ends[ledger.host, record["client"]] if record["since"] <= at <= record["ended"]]
            ledger.ended(record, min(ends, default=record["ended"]), record["kind"] == "open" and not ends)
        elif record["kind"] == "failed":
            ledger.failed(record)
        else:
            dials = self.dials[record["node"], record["port"]]
            dialled = max((at for at in dials if record["begun"] <= at <= record["done"]), default=None)
            if dialled is None:
                ledger.undialled += 1
            else:
                blow = self.blows[bisect_right(self.blows, (dialled, "")) - 1][1]
                if blow != BEFORE:  # a balancer that has just begun has not been told yet
                    ledger.session(record, dialled, self.writes, blow)


def taken(teller: Teller) -> list[dict]:
    """What it has told since it was asked last; it is kept no longer."""
    news = teller.told[:]
    del teller.told[:len(news)]
    return news


def moment_of(record: dict) -> float:
    return record["ended"] if record["kind"] in ("ended", "open") else record["done"]


def told(session: dict) -> str:
    return (f"{session['node']}, dialled {session['after_ms']:g} ms after it was known, {session['why']}, {session['blow']}, "
            f"{'in recovery' if session['recovery'] else 'took a write' if session['wrote'] else session['code']}")


SPREAD = ("sessions", "median", "90 %", "99 %", "most")


def spread(seconds: list[float]) -> list:
    if len(seconds) < 2:
        return [len(seconds), *[round(1000 * each, 1) for each in seconds], *["-"] * (4 - len(seconds))]
    parts = quantiles(seconds, n=100, method="inclusive")
    return [len(seconds), *(round(1000 * each, 1) for each in (median(seconds), parts[89], parts[98], max(seconds)))]
