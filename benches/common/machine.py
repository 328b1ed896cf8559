"""How busy the machine was meanwhile: on a saturated one the table is about the machine."""
from __future__ import annotations

import os
import resource
import time
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


def facts() -> dict:
    """What a figure has to be read with."""
    model = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), os.uname().machine)
    return {"cpu": model, "processors": os.cpu_count(), "kernel": os.uname().release,
            "open_files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            "idle_priority": os.sched_getscheduler(0) == os.SCHED_IDLE, "date": time.strftime("%Y-%m-%d")}


def raise_limit() -> None:
    """Open files, as far as allowed; what is started from here on has the same limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
