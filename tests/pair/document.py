"""docs/two-of-them.md, whose configuration is the one that is tried."""

import reader

DOCUMENT = reader.PROJECT / "docs/two-of-them.md"
WAYS = ("libpq", "DNS", "VIP")
SHARED = "10.0.0.10"
NAME = "pilotfish.example.org"
# By host name: where clients find it, and how the servers see it.
PAIR = {"pilotfish1": ("10.0.0.11", "10.0.1.1"), "pilotfish2": ("10.0.0.12", "10.0.1.2")}


def links():
    """The document's connection strings, by way: the one for writers."""
    lines = [line for block in reader.blocks([DOCUMENT]) for line in block.text.splitlines() if line.startswith("host=")]
    assert len(lines) == len(WAYS), lines
    assert all(address in lines[0] for address, _ in PAIR.values()) and NAME in lines[1] and SHARED in lines[2], lines
    return dict(zip(WAYS, lines))


def for_readers(link):
    return link.replace("port=5000", "port=5001").replace("target_session_attrs=read-write ", "")


def configuration():
    """Of pilotfish, on both machines."""
    [block] = [block for block in reader.blocks([DOCUMENT]) if block.language == "yaml"]
    return block.text
