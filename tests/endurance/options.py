"""The options that the long runs have in common."""
from __future__ import annotations

from argparse import ArgumentParser


def parser_of(name: str, about: str, net: str | None = None, minutes: float | None = None) -> ArgumentParser:
    """For a run with a cluster of this name, on this net and for so long, unless they are asked for otherwise; None: it is not
    asked. Minutes are whole where these are."""
    parser = ArgumentParser(description=about.splitlines()[0])
    if minutes is not None:
        parser.add_argument("--minutes", type=type(minutes), default=minutes, help=f"how long it goes on ({minutes:g})")
    parser.add_argument("--no-save", dest="save", action="store_false", help="leave the saved result as it is")
    parser.add_argument("--name", default=name, help=f"of the cluster ({name})")
    if net is not None:
        parser.add_argument("--net", default=net, help=f"its net, see deploy/demo/cluster ({net})")
    return parser
