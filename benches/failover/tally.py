"""From what the clients and the oracle told to what is in the table."""
from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass, field

from client import READ_ONLY
from cluster import TOOK_THE_LOCK

WRITER = 0
LOGGED_LATE_S = 0.2  # Patroni writes of the lock in its log a moment after it has it


@dataclass
class Reign:
    """A seat that took direct writes: since when, and on which timeline."""
    seat: str
    timeline: int
    since: float
    until: float


def reigns_of(told: list[dict]) -> list[Reign]:
    """In the order in which they began."""
    reigns: dict[str, Reign] = {}
    for record in told:
        reign = reigns.setdefault(record["seat"], Reign(record["seat"], record["timeline"], record["done"], record["done"]))
        reign.until = record["done"]
    return list(reigns.values())


@dataclass
class Outcome:
    """What one contender's clients lived through in one run. Counts, unless the name says a unit."""
    added_ms: float | None = None  # None: nobody else led. Infinite: it never got through.
    writer_added_ms: float | None = None  # the same for the writer alone, over its lasting session
    failed_connects: int = 0
    read_only: int = 0  # on the first write of a session
    broken: int = 0
    broken_most: int = 0  # of any one client
    early: int = 0  # failed connects and broken queries before another node held the lock
    wrong_writes: int = 0  # sent after the first direct write on a newer timeline than that of the seat they reached
    longest_pause_ms: float = 0  # of a fresh client, in one attempt
    longest_gap_ms: float = 0  # between two writes of the writer
    late_ms: float = 0  # the worst lateness of the measuring process itself
    errors: Counter = field(default_factory=Counter)

    def numbers(self) -> dict[str, float | None]:
        return {key: value for key, value in asdict(self).items() if key != "errors"}


@dataclass
class Timeline:
    """When things happened in one run, monotonic."""
    struck: float
    lock_taken: float | None
    first_direct: float | None
    ended: float


def timeline_of(struck: float, ended: float, reigns: list[Reign], seats_before: set[str], patroni: list[tuple[float, str]]):
    took = (when - LOGGED_LATE_S for when, text in patroni if TOOK_THE_LOCK in text)
    new = (reign.since for reign in reigns if reign.seat not in seats_before)
    return Timeline(struck, next(took, None), next(new, None), ended)


def outcome_of(told: list[dict], reigns: list[Reign], seats_before: set[str], times: Timeline) -> Outcome:
    outcome = Outcome()
    told = [record for record in told if record["done"] >= times.struck]
    outcome.late_ms = 1000 * max((record["by"] for record in told if record["step"] == "late"), default=0)
    records = [record for record in told if record["step"] != "late"]
    written = [record for record in records if record.get("seat")]
    if times.first_direct:
        def first(candidates) -> float:
            done = (record["done"] for record in candidates if record["seat"] not in seats_before)
            return 1000 * (min(done, default=math.inf) - times.first_direct)
        outcome.added_ms = first(written)
        outcome.writer_added_ms = first(record for record in written if record["lane"] == WRITER)
    count_errors(outcome, [record for record in records if "error" in record], times)
    outcome.wrong_writes = sum(is_wrong(record, reigns) for record in written)
    attempts = (record["done"] - record["begun"] for record in records if record["lane"] != WRITER)
    outcome.longest_pause_ms = 1000 * max(attempts, default=0)
    outcome.longest_gap_ms = 1000 * gap_of([record["done"] for record in written if record["lane"] == WRITER], times)
    return outcome


def count_errors(outcome: Outcome, failed: list[dict], times: Timeline) -> None:
    broken: Counter = Counter()
    for record in failed:
        if record["step"] == "connect":
            outcome.failed_connects += 1
        elif record["code"] == READ_ONLY and record["new"]:
            outcome.read_only += 1
        else:
            broken[record["lane"]] += 1
        outcome.early += record["done"] < (times.lock_taken or times.ended)
        outcome.errors[f"{record['step']}: {record['error']}"] += 1
    outcome.broken, outcome.broken_most = broken.total(), max(broken.values(), default=0)


def is_wrong(record: dict, reigns: list[Reign]) -> bool:
    own = next((reign.timeline for reign in reigns if reign.seat == record["seat"]), None)
    return own is not None and any(reign.timeline > own and reign.since < record["sent"] for reign in reigns)


def gap_of(done: list[float], times: Timeline) -> float:
    moments = [times.struck, *done, times.ended]
    return max(later - earlier for earlier, later in zip(moments, moments[1:]))
