"""What was to be reached, what was measured, and whether that is so."""
from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import machine
from programs import first_line, pilotfish_program


@dataclass
class Row:
    name: str
    wanted: str
    measured: str
    reached: bool | None  # None: told, and nothing to reach


def verdict(row: Row) -> str:
    return "" if row.reached is None else "yes" if row.reached else "NO"


def conditions(shares: dict) -> str:
    facts = machine.facts()
    return (f"{facts['cpu']}, {facts['processors']} processors, Linux {facts['kernel']}, pilotfish "
            f"{first_line(str(pilotfish_program()), '--version').split()[-1]}; machine {shares['busy_percent']} % busy, "
            f"load average {shares['load_average']}; {facts['date']}.")


def tell(title: str, rows: list[Row], shares: dict) -> None:
    widths = [max(len(getattr(row, column)) for row in rows) for column in ("name", "wanted", "measured")]
    print(f"\n{title}")
    for row in rows:
        print(f"  {row.name:{widths[0]}}  {row.wanted:{widths[1]}}  {row.measured:>{widths[2]}}  {verdict(row)}".rstrip())
    print(conditions(shares))


def save(name: str, title: str, rows: list[Row], shares: dict, figures: dict) -> None:
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    lines = ["| row | to reach | measured | reached |", "|---|---|---|---|"]
    lines += [f"| {row.name} | {row.wanted} | {row.measured} | {verdict(row)} |" for row in rows]
    (folder / f"{name}.md").write_text("\n".join([*lines, "", f"{title} {conditions(shares)}", ""]))
    told = {**machine.facts(), **shares, **figures, "rows": [vars(row) for row in rows]}
    (folder / f"{name}.json").write_text(json.dumps(told, indent=1) + "\n")


def percentile(share: float, values: list[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else float("nan")
