"""How busy the machine was meanwhile: on a saturated one the table is about the machine."""
from __future__ import annotations

import os
from pathlib import Path

IDLE, IOWAIT, STEAL = 3, 4, 7


class Load:
    def __init__(self):
        self.begun = ticks()

    def shares(self) -> dict[str, float]:
        """Of all processors' time since the beginning, in percent."""
        spent = [now - then for now, then in zip(ticks(), self.begun)]
        total = sum(spent) or 1
        return {"busy_percent": round(100 * (1 - (spent[IDLE] + spent[IOWAIT]) / total)),
                "steal_percent": round(100 * spent[STEAL] / total),
                "load_average": round(os.getloadavg()[0], 1)}


def ticks() -> list[int]:
    """user nice system idle iowait irq softirq steal; the rest is contained in these."""
    return [int(each) for each in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
