"""How a benchmark is talked to: what it says, what may be asked of it, and how it is ended."""
from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import NoReturn

from child import Failure


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


def one_of(known: dict):
    def names(text: str) -> list[str]:
        for name in text.split(","):
            if name not in known:
                raise argparse.ArgumentTypeError(f"'{name}' is unknown: expected some of {', '.join(known)}")
        return text.split(",")
    return names


def end_by(number: int, _frame) -> NoReturn:
    say(f"ended by {signal.Signals(number).name}")
    sys.exit(128 + number)


def conclude(name: str, run: Callable[[], None], report: Callable[[], None]) -> int:
    """Runs to the end or to a signal, and reports what is known then. The exit code."""
    os.umask(0o022)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end_by)
    try:
        run()
        return 0
    except KeyboardInterrupt:
        say("ended by Ctrl-C")
        return 130
    except Failure as failure:
        print(f"{name}: {failure}", file=sys.stderr)
        return 1
    finally:
        report()
