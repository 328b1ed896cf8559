"""A run's outcome: as text on the terminal, as Markdown for people, as JSON for programs, all from one document.

A document is a dictionary: title, verdict, complaints (what was not reached), tables (by their titles, each of columns and
rows), and figures, which are only in the text where they are numbers or short.
"""
from __future__ import annotations

import json
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "results"


def text_of(document: dict) -> str:
    parts = [f"\n{document['title']}: {document['verdict']}"]
    parts += [f"  not reached: {each}" for each in document["complaints"]]
    for title, table in document["tables"].items():
        lines = [table["columns"], *([shown(cell) for cell in row] for row in table["rows"])]
        widths = [max(map(len, column)) for column in zip(*lines)]
        parts += [f"\n{title}"]
        parts += ["  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines]
    parts += ["", *(f"{key}: {shown(value)}" for key, value in document["figures"].items())]
    return "\n".join(parts)


def markdown_of(document: dict) -> str:
    parts = [f"**{document['title']}: {document['verdict']}**", ""]
    parts += [f"- not reached: {each}" for each in document["complaints"]]
    for title, table in document["tables"].items():
        parts += [f"\n{title}\n", row_of(table["columns"]), row_of("---" for _ in table["columns"])]
        parts += [row_of(map(shown, row)) for row in table["rows"]]
    parts += ["", *(f"- {key}: {shown(value)}" for key, value in document["figures"].items())]
    return "\n".join(parts) + "\n"


def save(name: str, document: dict) -> None:
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n")
    (FOLDER / f"{name}.md").write_text(markdown_of(document))
    print(f"saved as {FOLDER / name}.md and .json")


def row_of(cells) -> str:
    return "| " + " | ".join(cells) + " |"


def shown(value) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{key} {shown(each)}" for key, each in value.items()) or "none"
    if isinstance(value, list):
        return "; ".join(map(shown, value)) or "none"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)
