"""What clients noticed, as figures, as lines and as the document's table."""

import os
import re
from dataclasses import dataclass

import psycopg
from clients import KINDS

NOTICED_S = 0.5
MARKS = "<!-- measured -->", "<!-- end of measured -->"


@dataclass(frozen=True)
class Outcome:
    """Of the clients of one way: the longest gap by kind, in seconds, and what failed."""

    gaps: dict
    broken: int
    failed: int
    errors: tuple

    def gap(self):
        return max(self.gaps.values())

    def __str__(self):
        gaps = ", ".join(f"{kind}s {gap:.1f} s" for kind, gap in self.gaps.items())
        return f"{gaps}; {self.broken} broken, {self.failed} failed connects {'; '.join(self.errors)}"


@dataclass(frozen=True)
class Row:
    title: str
    outcomes: dict

    def said(self):
        return "\n".join([self.title, *(f"  {way:6} {found}" for way, found in self.outcomes.items())])


def outcome(clients, begin, end):
    gaps = {kind: max(client.longest_gap(begin, end) for client in clients if client.kind == kind) for kind in KINDS}
    broken = [done for client in clients for done in client.broken(begin, end)]
    errors = sorted({done.error.strip().splitlines()[0] for done in broken})
    return Outcome(gaps, sum(done.broke == "query" for done in broken),
                   sum(done.broke == "connect" for done in broken), tuple(errors))


def table(rows):
    """The longest gap of all rounds, and from how few to how many failed."""
    ways, titles = list(rows[0].outcomes), list(dict.fromkeys(row.title for row in rows))
    lines = ["| one of two is … | " + " | ".join(ways) + " |", "|---|" + "---|" * len(ways)]
    for title in titles:
        cells = (cell([row.outcomes[way] for row in rows if row.title == title]) for way in ways)
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(found):
    sessions = max(one.gaps[kind] for one in found for kind in ("writer", "reader"))
    newcomers = max(one.gaps["newcomer"] for one in found)
    # A pause of the client itself is no gap.
    if not any(one.errors for one in found) and max(sessions, newcomers) < NOTICED_S:
        return "nothing"
    lines = [f"**{sessions:.1f} s**, newcomers {newcomers:.1f} s"]
    for what, counts in ("broken", [one.broken for one in found]), ("failed connects", [one.failed for one in found]):
        low, high = min(counts), max(counts)
        if high:
            lines.append(f"{what}: {low} to {high}" if low < high else f"{what}: {high}")
    return "<br>".join(lines)


def machine():
    text = open("/proc/cpuinfo").read()
    model = re.search(r"^model name\s*: (.*)$", text, re.M)
    return f"{model.group(1) if model else os.uname().machine}, {os.cpu_count()} processors, Linux {os.uname().release}"


def write(document, rows):
    text = document.read_text()
    begin, end = (text.index(mark) for mark in MARKS)
    rounds = len(rows) // len({row.title for row in rows})
    client = f"psycopg {psycopg.__version__}, libpq {psycopg.pq.version()}"
    how = f"The longest of {rounds} rounds. {client}, {machine()}, load average {os.getloadavg()[0]:.1f}"
    text = f"{text[:begin]}{MARKS[0]}\n{table(rows)}\n\n{how}.\n{text[end:]}"
    document.write_text(text)
