"""The table: for people on the terminal, as Markdown for the README, as JSON for programs."""
from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from statistics import median

from events import Row
from readme import paste
from tally import Outcome

COLUMNS = {  # measure: heading, divisor, digits
    "added_ms": ("added ms", 1, 0), "failed_connects": ("failed connects", 1, 0), "read_only": ("read-only", 1, 0),
    "broken": ("broken", 1, 0), "broken_most": ("of one client", 1, 0), "early": ("early", 1, 0),
    "wrong_writes": ("wrong node", 1, 0), "longest_pause_ms": ("longest pause s", 1000, 1),
    "longest_gap_ms": ("writer's gap s", 1000, 1), "late_ms": ("late ms", 1, 0)}
ERRORS = {  # measure: what one and several are called
    "failed_connects": ("failed connect", "failed connects"), "read_only": ("read-only error", "read-only errors"),
    "broken": ("broken query", "broken queries"), "wrong_writes": ("write on the wrong node", "writes on the wrong node")}
LEGEND = """\
median (min..max) over the runs. added: first write through it minus the first direct one; never: none at all; -: nobody
else led. early: cut or failed before another node held the lock. wrong node: written to one that was no longer the leader.
late: how late the measuring process itself was."""


class Results:
    """Outcomes of all runs so far, by row and contender."""

    def __init__(self, titles: dict[str, str], facts: dict):
        self.titles, self.facts = titles, facts
        self.outcomes: dict[str, dict[str, list[Outcome]]] = {}
        self.rows: dict[str, Row] = {}
        self.machine: list[dict] = []

    def add(self, row: Row, outcomes: dict[str, Outcome], machine: dict) -> None:
        self.rows[row.key] = row
        for key, outcome in outcomes.items():
            self.outcomes.setdefault(row.key, {}).setdefault(key, []).append(outcome)
        self.machine.append(machine)

    def print(self) -> None:
        for key, by_contender in self.outcomes.items():
            row, runs = self.rows[key], max(map(len, by_contender.values()))
            shown = [measure for measure in COLUMNS if measure != "early" or row.quiet]
            table = [["", *(COLUMNS[measure][0] for measure in shown)]]
            for contender, outcomes in by_contender.items():
                table.append([self.titles[contender], *(spread_text(outcomes, measure) for measure in shown)])
            print(f"\n{row.title} ({runs} run{'s' * (runs != 1)}; to reach: {row.target})")
            widths = [max(map(len, column)) for column in zip(*table)]
            for line in table:
                print("  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())
            for contender, outcomes in by_contender.items():
                for text, count in errors_of(outcomes).most_common():
                    print(f"    {contender} {count}x {text}")
        if self.machine:
            print(f"\n{LEGEND}\n{self.conditions()}")

    def conditions(self) -> str:
        facts, machine = self.facts, self.machine_medians()
        versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
        return (f"All contenders on the same failovers, each with a writer every 10 ms and {facts['clients']} clients that "
                f"connect afresh, each every {facts['pace_s']:g} s, sslmode={facts['sslmode']}. {facts['processors']} processors, "
                f"{machine['busy_percent']:.0f} % busy, {machine['steal_percent']:.0f} % stolen, "
                f"load average {machine['load_average']:g} (medians). {versions}.")

    def machine_medians(self) -> dict[str, float]:
        return {name: median(each[name] for each in self.machine) for name in self.machine[0]}

    def save(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        rows = {key: {contender: summary(outcomes) for contender, outcomes in by_contender.items()}
                for key, by_contender in self.outcomes.items()}
        text = json.dumps({**self.facts, "machine": self.machine_medians(), "rows": rows}, indent=1)
        (folder / "failover.json").write_text(text + "\n")
        shown = folder / "failover.md"
        shown.write_text(self.markdown())
        paste(shown)

    def markdown(self) -> str:
        runs = max((len(outcomes) for each in self.outcomes.values() for outcomes in each.values()), default=0)
        lines = ["| event | " + " | ".join(self.titles.values()) + " |", "|---" * (1 + len(self.titles)) + "|"]
        for key, by_contender in self.outcomes.items():
            cells = [cell(by_contender[each], self.rows[key]) if each in by_contender else "" for each in self.titles]
            lines.append(f"| {self.rows[key].title} | " + " | ".join(cells) + " |")
        return "\n".join([*lines, "", f"Medians of {runs} runs. {self.conditions()}", ""])


def cell(outcomes: list[Outcome], row: Row) -> str:
    """What a reader of the README wants to know: the time added, and every kind of error that clients saw."""
    middle = {measure: median_of([getattr(each, measure) for each in outcomes]) for measure in COLUMNS}
    parts = []
    if row.quiet and middle["early"]:
        parts.append(counted(middle["early"], "early cut or failure", "early cuts or failures"))
    if middle["added_ms"] is not None:
        parts.append("never through" if math.isinf(middle["added_ms"]) else f"**{duration(middle['added_ms'])}**")
    parts += [counted(middle[measure], *names) for measure, names in ERRORS.items() if middle[measure]]
    return "<br>".join(parts) or "nothing"


def counted(number: float, one: str, many: str) -> str:
    return f"{number:g} {one if number == 1 else many}"


def duration(milliseconds: float) -> str:
    return f"{milliseconds / 1000:+.1f} s" if abs(milliseconds) >= 1000 else f"{milliseconds:+.0f} ms"


def median_of(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def spread_text(outcomes: list[Outcome], measure: str) -> str:
    _, divisor, digits = COLUMNS[measure]
    values = [value / divisor for each in outcomes if (value := getattr(each, measure)) is not None]
    if not values:
        return "-"

    def text(value: float) -> str:
        return "never" if math.isinf(value) else f"{value:.{digits}f}"
    shown = text(median(values))
    return shown if len(values) == 1 else f"{shown} ({text(min(values))}..{text(max(values))})"


def errors_of(outcomes: list[Outcome]) -> Counter:
    return sum((each.errors for each in outcomes), Counter())


def summary(outcomes: list[Outcome]) -> dict:
    def spread(measure: str):
        values = [value for each in outcomes if (value := getattr(each, measure)) is not None]
        return [plain(each) for each in (median(values), min(values), max(values))] if values else None
    return {"runs": len(outcomes), **{measure: spread(measure) for measure in outcomes[0].numbers()},
            "errors": dict(errors_of(outcomes).most_common())}


def plain(value: float) -> float | str:
    return "never" if math.isinf(value) else round(value, 1)
