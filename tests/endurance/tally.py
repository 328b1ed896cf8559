"""How often each fault was played, and how often it could not be: such a one is no fault, and is told apart. Pure."""
from __future__ import annotations

from collections import Counter


class Tally:
    COLUMNS = ("fault", "times", "could not be played")

    def __init__(self):
        self.played: Counter = Counter()
        self.failed: Counter = Counter()

    def title(self) -> str:
        failed = self.failed.total()
        return f"{self.played.total()} faults" + (f" and {failed} that could not be played" if failed else "")

    def rows(self) -> list[list]:
        return [[fault, self.played[fault], self.failed[fault]] for fault in sorted(self.played | self.failed)]
