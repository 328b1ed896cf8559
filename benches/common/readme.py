"""Where a result is shown in the README: between two markers, the first of which names its file.

tests/it/tidy.rs sees that both stay the same.
"""
from __future__ import annotations

from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
END = "<!-- end of bench -->"


def paste(result: Path) -> None:
    """What the file holds, in its place, if the README has one for it."""
    readme = REPOSITORY / "README.md"
    begin = f"<!-- bench: {result.relative_to(REPOSITORY)} -->\n"
    head, found, rest = readme.read_text().partition(begin)
    if found:
        _, _, tail = rest.partition(END)
        readme.write_text(f"{head}{begin}{result.read_text()}{END}{tail}")
