"""What clients noticed, as figures, as lines and as the document's table."""

import os
import re
from dataclasses import dataclass

from clients import KINDS, PAUSE_S

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

    def cell(self):
        """For the document. A pause of the client itself is no gap."""
        if not self.errors and self.gap() < 10 * PAUSE_S:
            return "nothing"
        sessions = max(self.gaps["writer"], self.gaps["reader"])
        lines = [f"**{sessions:.1f} s**, newcomers {self.gaps['newcomer']:.1f} s"]
        lines += [f"{count} {what}" for count, what in ((self.broken, "broken"), (self.failed, "failed connects")) if count]
        return "<br>".join(lines)


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
    ways = list(rows[0].outcomes)
    lines = ["| one of two is … | " + " | ".join(ways) + " |", "|---|" + "---|" * len(ways)]
    lines += [f"| {row.title} | " + " | ".join(found.cell() for found in row.outcomes.values()) + " |" for row in rows]
    return "\n".join(lines)


def machine():
    text = open("/proc/cpuinfo").read()
    model = re.search(r"^model name\s*: (.*)$", text, re.M)
    return f"{model.group(1) if model else os.uname().machine}, {os.cpu_count()} processors, Linux {os.uname().release}"


def write(document, rows):
    text = document.read_text()
    begin, end = (text.index(mark) for mark in MARKS)
    load = f"load average {os.getloadavg()[0]:.1f}"
    text = f"{text[:begin]}{MARKS[0]}\n{table(rows)}\n\n{machine()}, {load}.\n{text[end:]}"
    document.write_text(text)
