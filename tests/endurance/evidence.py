"""What may be said of writer sessions from what balancers were told and what became of the sessions. Pure.

A balancer *knows* an answer from the moment at which it has closed the connection that brought it: by then it has read it to
its end, and whatever it decides from it comes later. The kernel tells that moment, and the moment of each dial, so no clock
of a client and no word of the balancer's own is needed, and nothing has to be tolerated: a dial after it is after it.

An answer is *good* when it says status 200, role primary (or master), and state running, or starting with a timeline,
which Patroni has from PostgreSQL itself. With the status alone (HEAD) 200 is good. Any other answer is *negative*; one with
another status than 200 is also a *denial*: the node does not hold the leader lock. No answer is neither.
A node is *verified* while its last known answer is good; of two the one with the newer timeline, or else that became so last.

A new session is *misrouted* when, at its dial, the last answer known of its node was negative (`denied`), or that was good
and another node is verified (`superseded`). What the node itself says is counted beside it: sessions that found it in
recovery, and those on an older timeline than one that the oracle has written on before.

An open session is *stale* from the first denial of its node that came after its beginning, or from another's verification.
One that is still open when the run ends is judged by what it has outlived until then.
"""
from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass
from math import inf

PRIMARY = ("primary", "master")


@dataclass(frozen=True)
class Check:
    node: str
    answered: float
    taken: float
    status: int
    has_body: bool
    role: str | None
    state: str | None
    timeline: int | None

    @staticmethod
    def of(record: dict) -> Check:
        return Check(**{name: record[name] for name in Check.__annotations__})

    @property
    def is_good(self) -> bool:
        runs = self.state == "running" or (self.state == "starting" and self.timeline is not None)
        return self.status == 200 and (not self.has_body or (self.role in PRIMARY and runs))


@dataclass(frozen=True)
class Outlived:
    """For how long a session was open, in seconds, after its balancer knew better; None where it did not."""
    stale_s: float | None  # after it was stale
    doubted_s: float | None  # after the first answer that was not good
    silent_s: float | None  # after the last that was heard of its node, where neither came


class History:
    """What one balancer was told, in the order in which it came to know it."""

    def __init__(self):
        self.checks: dict[str, list[Check]] = defaultdict(list)
        self.since: dict[str, list[float]] = defaultdict(list)  # when the node's answers became what they are
        self.moments: dict[str, list[float]] = defaultdict(list)
        self.hearsay: list[float] = []  # when lists of all members were read

    def take(self, record: dict) -> None:
        """An answer as wire.py tells it."""
        if record["kind"] == "check":
            self.add(Check.of(record))
        elif record["status"] == 200:
            self.hearsay.append(record["taken"])

    def add(self, check: Check) -> None:
        """Each node has one question under way at most, so its answers come in order."""
        before = self.checks[check.node][-1] if self.checks[check.node] else None
        is_same = before is not None and before.is_good == check.is_good
        self.since[check.node].append(self.since[check.node][-1] if is_same else check.taken)
        self.checks[check.node].append(check)
        self.moments[check.node].append(check.taken)

    def last(self, node: str, at: float) -> tuple[Check, float] | None:
        """The last answer known of a node, and since when all were like it."""
        found = bisect_right(self.moments[node], at) - 1
        return (self.checks[node][found], self.since[node][found]) if found >= 0 else None

    def verified(self, at: float) -> str | None:
        known = [(each, self.last(each, at)) for each in list(self.checks)]
        good = [(found[0].timeline or 0, found[1], node) for node, found in known if found and found[0].is_good]
        return max(good, default=(0, 0, None))[2]

    def misroute(self, node: str, dialled: float) -> str | None:
        found = self.last(node, dialled)
        if found and not found[0].is_good:
            return "denied"
        verified = self.verified(dialled)
        return "superseded" if verified not in (None, node) else None

    def is_under_way(self, node: str, dialled: float) -> bool:
        """An answer that is negative had been delivered, and was not yet read, when the node was dialled."""
        coming = bisect_right(self.moments[node], dialled)
        if coming == len(self.moments[node]):
            return False
        check = self.checks[node][coming]
        return check.answered is not None and check.answered <= dialled and not check.is_good

    def first(self, node: str, after: float, until: float, which) -> float:
        """When the first answer of a node became known, in this time, for which `which` holds; else never."""
        begin = bisect_right(self.moments[node], after)
        for check in self.checks[node][begin:]:
            if check.taken > until:
                break
            if which(check):
                return check.taken
        return inf

    def stale_since(self, node: str, since: float, ended: float) -> float:
        """When it first knew, while a session that began at `since` was open, that its node leads no more."""
        denied = self.first(node, since, ended, lambda check: check.status != 200)
        moments = (check.taken for other in list(self.checks) if other != node
                   for check in self.between(other, since, min(ended, denied)) if check.is_good)
        superseded = next((moment for moment in sorted(moments) if self.verified(moment) not in (None, node)), inf)
        return min(denied, superseded)

    def outlived(self, node: str, since: float, ended: float) -> Outlived:
        known = self.stale_since(node, since, ended)
        doubted = self.first(node, since, ended, lambda check: not check.is_good)
        return Outlived(ended - known if known <= ended else None, ended - doubted if doubted <= ended else None,
                        self.silent_for(node, ended) if min(known, doubted) > ended else None)

    def between(self, node: str, after: float, until: float) -> list[Check]:
        moments = self.moments[node]
        return self.checks[node][bisect_right(moments, after):bisect_right(moments, until)]

    def silent_for(self, node: str, ended: float) -> float:
        """How long before this moment the last answer of the node was read, or a list of all members, which may name it."""
        found, heard = self.last(node, ended), bisect_right(self.hearsay, ended)
        return ended - max(found[0].taken if found else -inf, self.hearsay[heard - 1] if heard else -inf)


def former(timeline: int | None, dialled: float, writes: list[tuple[float, int]]) -> bool:
    """Whether the oracle had written on a newer timeline before; its writes are in order, each its end and timeline."""
    before = bisect_right(writes, (dialled, -inf))
    return timeline is not None and before > 0 and max(writes[before - 1][1], 0) > timeline
