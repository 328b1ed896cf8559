"""The table: ratios of paired blocks and their spread, held against the targets and against chance.

Chance is what two instances of the same HAProxy differ by in the same row: the A/A band. A ratio inside it is a tie,
whichever side of 1 it is on.
"""
from __future__ import annotations

import json
from pathlib import Path
from statistics import median

import machine
from readme import paste
from relays import MAKERS
from rows import PAIR, PEERS, ROWS, Measure, Row, Target, middle

TITLES = {"direct": "direct", **{key: title for key, (title, _) in MAKERS.items()}}
OURS = "pilotfish"
COUNTS = ("sessions", "failed", "counted", "time_wait")  # of which a ratio says nothing
FILE = "dataplane"
LEGEND = """\
Medians. A ratio is pilotfish to the other, the median of paired blocks with (min..max). A/A: how far two instances of one
HAProxy were apart; a ratio inside that is a tie. direct: no relay, its backend on the relay's core."""


class Results:
    def __init__(self, facts: dict):
        self.facts = facts
        #: row, relay, repeat: figures
        self.blocks: dict[str, dict[str, dict[int, dict[str, float]]]] = {}
        self.machine: list[dict] = []

    def add(self, row: Row, key: str, repeat: int, figures: dict[str, float], load: dict) -> None:
        self.blocks.setdefault(row.key, {}).setdefault(key, {})[repeat] = figures
        self.machine.append(load)

    def lines(self) -> list[Line]:
        return [Line(ROWS[key], measure, by_relay) for key, by_relay in self.blocks.items() for measure in ROWS[key].measures]

    def print(self) -> None:
        for key, by_relay in self.blocks.items():
            row = ROWS[key]
            shown = [relay for relay in row.who if relay in by_relay]
            table = [["", *(TITLES[relay] for relay in shown), "to HAProxy", "to splice", "to nginx", "A/A", "to reach"]]
            for measure in row.measures:
                line = Line(row, measure, by_relay)
                table.append([measure.title, *(line.figure(relay) for relay in shown),
                              *(line.ratio_text(peer) for peer in PEERS), line.band_text(), line.verdicts()])
            keep = [n for n in range(len(table[0])) if n == 0 or any(line[n] for line in table[1:])]
            print(f"\n{row.title} ({max(map(len, by_relay.values()))} blocks)")
            widths = [max(len(line[n]) for line in table) for n in keep]
            for line in table:
                print("  " + "  ".join(line[n].ljust(width) for n, width in zip(keep, widths)).rstrip())
        if self.machine:
            print(f"\n{LEGEND}\n{self.conditions()}")

    def conditions(self) -> str:
        facts, busy = self.facts, self.machine_medians()
        versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
        return (f"{facts['cpu']}, {facts['processors']} processors, Linux {facts['kernel']}, {versions}; loopback; one core "
                f"for the relay ({facts['relay_core']}), load and backends on another ({facts['load_core']}); "
                f"{facts['open_files']} open files; COPY of {facts['copy_gb']:g} GB; blocks of {facts['block_s']:g} s in mixed order; machine "
                f"{busy['busy_percent']:.0f} % busy, {busy['steal_percent']:.0f} % stolen, load average {busy['load_average']:g} "
                f"(medians){'; run at idle priority beside other work' if facts['idle_priority'] else ''}; {facts['date']}.")

    def machine_medians(self) -> dict[str, float]:
        return {name: median(each[name] for each in self.machine) for name in self.machine[0]}

    def save(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        rows = {key: {relay: list(by_repeat.values()) for relay, by_repeat in by_relay.items()}
                for key, by_relay in self.blocks.items()}
        text = json.dumps({**self.facts, "machine": self.machine_medians(), "blocks": rows}, indent=1)
        (folder / f"{FILE}.json").write_text(text + "\n")
        shown = folder / f"{FILE}.md"
        shown.write_text(self.markdown())
        paste(shown)

    def markdown(self) -> str:
        columns = ["work", "measure", *(TITLES[peer] for peer in PEERS), TITLES[OURS], "to HAProxy", "to splice", "to nginx", "A/A",
                   "to reach"]
        text = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
        last = None
        for line in self.lines():
            if not (line.measure.targets or line.row.key == "counters"):
                continue
            ours = OURS if OURS in line.by_relay else next(iter(line.by_relay))
            cells = [line.row.title if line.row.key != last else "", line.measure.title, *(line.figure(peer) for peer in PEERS),
                     line.figure(ours), *(line.ratio_text(peer) for peer in PEERS), line.band_text(), line.verdicts()]
            last = line.row.key
            text.append(f"| {' | '.join(cells)} |")
        return "\n".join([*text, "", f"{' '.join(LEGEND.split())} {self.conditions()}", ""])


class Line:
    """One measure of one row."""

    def __init__(self, row: Row, measure: Measure, by_relay: dict[str, dict[int, dict[str, float]]]):
        self.row, self.measure, self.by_relay = row, measure, by_relay

    def figure(self, relay: str) -> str:
        if relay not in self.by_relay:
            return ""
        return f"{self.middle(relay):,.{self.measure.digits}f}"

    def middle(self, relay: str) -> float:
        return middle(list(self.by_relay[relay].values()), self.measure)

    def ratios(self, one: str, other: str) -> list[float]:
        one_blocks, other_blocks = self.by_relay.get(one, {}), self.by_relay.get(other, {})
        pairs = ((one_blocks[n][self.measure.key], other_blocks[n][self.measure.key]) for n in one_blocks if n in other_blocks)
        return [ours / theirs for ours, theirs in pairs if theirs > 0]

    def ratio_text(self, other: str) -> str:
        return "" if self.measure.key in COUNTS else spread_text(self.ratios(OURS, other))

    def band(self) -> float | None:
        """The A/A pair is nowhere further apart than this factor; the ratio itself is one measurement, too."""
        pair = [ratio for ratio in self.ratios(*reversed(PAIR)) if ratio > 0]
        return max((max(ratio, 1 / ratio) for ratio in pair), default=None)

    def band_text(self) -> str:
        band = self.band()
        return "" if band is None or self.measure.key in COUNTS else f"{1 / band:.2f}..{band:.2f}"

    def verdicts(self) -> str:
        if self.row.key == "counters":
            ratios = self.ratios(OURS, "uncounted")
            band = self.band()
            if not ratios or band is None:
                return ""
            inside = 1 / band <= median(ratios) <= band
            return f"with to without {spread_text(ratios)}: {'tie' if inside else 'outside the A/A band'}"
        ours = OURS if OURS in self.by_relay else next(iter(self.by_relay))
        return "; ".join(self.verdict(target, ours) for target in self.measure.targets)

    def verdict(self, target: Target, ours: str) -> str:
        if ours not in self.by_relay:
            return ""
        more, wanted = self.measure.more_is_better, target.text(self.measure.more_is_better, TITLES)
        if not target.against:
            value = self.middle(ours)
            reached = value >= target.factor if more else value <= target.factor
            return f"{wanted}: {'reached' if reached else 'missed'}"
        against = self.best_peer() if target.against == "best" else target.against
        ratios, band = self.ratios(ours, against) if against else [], self.band()
        if not ratios:
            return f"{wanted}: not measured"
        ratio = median(ratios)
        reached = ratio >= target.factor if more else ratio <= target.factor
        tie = band is not None and 1 / band <= ratio <= band
        word = "tie" if tie and not (reached and target.factor != 1) else "reached" if reached else "missed"
        if tie and not reached and target.factor != 1:
            word = "missed, a tie"
        return f"{wanted}: {word}" + (f" ({TITLES[against]})" if target.against == "best" else "")

    def best_peer(self) -> str | None:
        peers = [peer for peer in PEERS if peer in self.by_relay]
        choose = max if self.measure.more_is_better else min
        return choose(peers, key=self.middle, default=None)


def spread_text(ratios: list[float]) -> str:
    if not ratios:
        return ""
    shown = f"{median(ratios):.2f}"
    return shown if len(ratios) == 1 else f"{shown} ({min(ratios):.2f}..{max(ratios):.2f})"


def facts(versions: dict[str, str], **more) -> dict:
    return {**machine.facts(), "versions": versions, **more}
