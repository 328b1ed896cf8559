"""What the kernel knows of a running relay: its time, its memory, its sockets, its system calls."""
from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path
from signal import SIGINT

from child import Failure, end, wait_for

ATTACH_TIMEOUT_S = 10


def tree(pid: int) -> list[int]:
    """The process and its children: nginx works in one of those."""
    children = [int(each) for path in Path(f"/proc/{pid}/task").glob("*/children") for each in path.read_text().split()]
    return [pid, *(below for child in children for below in tree(child))]


def cpu_s(pid: int) -> float:
    """Processor time of all its threads and children, to the nanosecond (the clock of a process, see clock_gettime)."""
    return sum(time.clock_gettime(~each << 3 | 2) for each in tree(pid))


def pss_bytes(pid: int) -> int:
    """What it holds of memory, shared pages by share. Sockets are the kernel's and not among it."""
    text = "".join(Path(f"/proc/{each}/smaps_rollup").read_text() for each in tree(pid))
    return 1024 * sum(int(each) for each in re.findall(r"^Pss: +(\d+) kB", text, re.MULTILINE))


def time_waits(backend: str) -> int:
    """Sockets that wait out their time on the side that dialled `backend`."""
    listed = subprocess.run(["ss", "-Htn", "state", "time-wait", "dst", backend], capture_output=True, text=True, check=True)
    return len(listed.stdout.splitlines())


def epolls(pid: int) -> dict[str, int]:
    """How many descriptors each event loop of the process watches."""
    watched = {}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            if entry.readlink().name.endswith("[eventpoll]"):
                watched[entry.name] = Path(f"/proc/{pid}/fdinfo/{entry.name}").read_text().count("tfd:")
        except FileNotFoundError:
            pass  # closed meanwhile
    return watched


class Trace:
    """Counts the system calls of a process while it lives."""

    def __init__(self, pid: int, place: Path):
        self.table, errors = place / "strace.txt", place / "strace.log"
        pids = [argument for each in tree(pid) for argument in ("-p", str(each))]
        with errors.open("w") as output:
            self.process = subprocess.Popen(["strace", "-f", "-c", "-o", str(self.table), *pids], stderr=output,
                                            start_new_session=True)
        try:
            wait_for(lambda: "attached" in errors.read_text() or self.process.poll() is not None, ATTACH_TIMEOUT_S, "strace")
            if self.process.poll() is not None:
                raise Failure(f"strace: {errors.read_text().strip()}")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(SIGINT)
        end(self.process)

    def calls(self) -> dict[str, int]:
        """By name, once closed: `% time, seconds, usecs/call, calls, [errors,] syscall`."""
        rows = (line.split() for line in self.table.read_text().splitlines())
        return {row[-1]: int(row[3]) for row in rows if len(row) >= 5 and row[3].isdigit() and row[-1] != "total"}
