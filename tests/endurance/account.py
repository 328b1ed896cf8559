"""What became of the numbers that clients added, as they were told, and what that makes of those that are found. Pure."""
from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

NUMBERS_EACH = 10**9  # of one client: its own number times this, and up


@dataclass(frozen=True)
class Account:
    """What became of one way's numbers."""
    acknowledged: set[int]
    unknown: set[int]
    failed: int
    why: Counter

    @staticmethod
    def of(told: list[dict]) -> Account:
        became = {each: {record["n"] for record in told if record["became"] == each} for each in ("acknowledged", "unknown", "failed")}
        return Account(became["acknowledged"], became["unknown"], len(became["failed"]),
                       Counter(record["why"] for record in told if record.get("why")))

    def lost(self, found: Counter) -> set[int]:
        return self.acknowledged - found.keys()

    def unexpected(self, found: Counter) -> set[int]:
        """`found` counts the numbers of this way only."""
        return {n for n, times in found.items() if times > 1 or n not in self.acknowledged and n not in self.unknown}
