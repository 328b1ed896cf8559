"""What the documentation shows: fenced blocks, and commands within its sentences."""

import dataclasses
import pathlib
import re

PROJECT = pathlib.Path(__file__).resolve().parents[2]
PAGES = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted((PROJECT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\S*)\n(.*?)^```$", re.M | re.S)
# In sentences a command stands between backticks; these words in it are for the reader to fill in.
INLINE = re.compile(r"`((?:pilotfish|make)(?: [^`\n]*)?)`")
FILLED_IN = {"MEMBER": "patroni1", "FILE": "config.yaml", "HOST:7000": "127.0.0.1:7000", "SHELL": "bash", "FOLDER": "man"}
# With one of these in front it is a command, and its block is to say so.
PROGRAMS = ("pilotfish", "make", "systemctl", "curl", "apt", "psql", "kubectl", "podman", "docker", "journalctl")


@dataclasses.dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    text: str

    @property
    def place(self):
        return f"{self.page}:{self.line}"

    @property
    def key(self):
        """How a list of exceptions names it: lines move, first lines stay."""
        return self.page, self.text.splitlines()[0]

    @property
    def commands(self):
        """As a shell takes them; of a transcript what stands behind the prompts."""
        if self.language == "sh":
            return self.text
        return "".join(line[2:] + "\n" for line in self.text.splitlines() if line.startswith("$ "))

    @property
    def headings(self):
        """Lines of a transcript that are the same at any time: the heads of its tables."""
        words = [" ".join(line.split()) for line in self.text.splitlines() if not line.startswith("$ ")]
        return [line for line in words if re.fullmatch(r"[A-Z]{2,}( [A-Z]+)+", line)]


def blocks(pages=PAGES):
    for page in pages:
        text = page.read_text()
        for found in FENCE.finditer(text):
            line = text[: found.start()].count("\n") + 1
            yield Block(str(page.relative_to(PROJECT)), line, found[1], found[2])


def inline(pages=PAGES):
    """Each command within a sentence, with its page and what the reader fills in filled in."""
    for page in pages:
        text = FENCE.sub("", page.read_text())
        for found in INLINE.finditer(text):
            words = [FILLED_IN.get(word, word) for word in found[1].split()]
            yield str(page.relative_to(PROJECT)), words
