"""The documentation against the program: every command that it shows is one, and does what it is there for.

Run by `make test-docs` with the Python of deploy/setup packages; PILOTFISH_BINARY is the program.
"""

import os
import pathlib
import re
import subprocess
import tempfile
import unittest

import yaml

import exceptions
import reader

BINARY = str(reader.PROJECT / os.environ.get("PILOTFISH_BINARY", "target/debug/pilotfish"))
MINIMAL = "clusters: [{patroni: '10.0.0.1:8008'}]\n"
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)")


def run(*words, **options):
    done = subprocess.run(words, capture_output=True, text=True, cwd=reader.PROJECT, timeout=300, **options)
    return done.returncode, done.stdout + done.stderr


class Commands(unittest.TestCase):
    def test_every_command_in_a_sentence_is_one(self):
        targets = set(re.findall(r"^([a-z-]+):", (reader.PROJECT / "Makefile").read_text(), re.M))
        seen = 0
        lines = [(block.page, line.split()) for block in reader.blocks() for line in block.commands.splitlines()]
        made = [(page, words) for page, words in lines if words[:1] == ["make"]]
        self.assertGreater(len(made), 2)
        for page, words in [*made, *reader.inline()]:
            with self.subTest(page=page, command=" ".join(words)):
                if words[0] == "make":
                    self.assertLessEqual(set(words[1:2]), targets)
                else:
                    code, said = run(BINARY, *words[1:], "--help")
                    self.assertEqual(code, 0, said)
                seen += 1
        self.assertGreater(seen, 40)

    def test_the_readme_names_every_subcommand(self):
        _, said = run(BINARY, "--help")
        section = said.split("Commands:\n")[1].split("\n\n")[0]
        names = set(re.findall(r"^  ([a-z-]+) ", section, re.M)) - {"help"}
        self.assertGreater(len(names), 10)
        readme = (reader.PROJECT / "README.md").read_text()
        self.assertEqual({name for name in names if not re.search(f"`(pilotfish )?{name}[` ]", readme)}, set())

    def test_blocks_of_commands_say_that_they_are(self):
        for block in reader.blocks():
            first = block.text.split(maxsplit=1)[0]
            if first in reader.PROGRAMS:
                self.assertEqual(block.language, "sh", block.place)
            self.assertIn(block.language, ("", "text", "sh", "yaml", "ini"), f"{block.place}: a language that nobody checks")

    def test_the_exceptions_are_of_blocks_that_are_there(self):
        there = {block.key for block in reader.blocks()}
        for named in exceptions.NOT_RUN, exceptions.EXIT_CODES, exceptions.OTHER_YAML:
            self.assertEqual(set(named) - there, set())
        for reason in exceptions.NOT_RUN.values():
            self.assertGreater(len(reason), 15)

    def test_every_command_in_a_block_runs(self):
        with tempfile.TemporaryDirectory(dir=reader.PROJECT / "target") as folder:
            code, said = run("deploy/packages/build", "deb", BINARY, folder)
            self.assertEqual(code, 0, said)
            package = said.splitlines()[-1]
            code, said = run("tests/packages/sandbox", "python3", "-B", "tests/docs/play.py", package)
        self.assertEqual(code, 0, said)
        self.assertGreater(said.count("played "), 8, said)


class Configurations(unittest.TestCase):
    def test_every_configuration_is_taken(self):
        seen = 0
        with tempfile.TemporaryDirectory() as folder:
            self.make_files(pathlib.Path(folder))
            for block in reader.blocks():
                if block.language == "yaml" and block.key not in exceptions.OTHER_YAML:
                    with self.subTest(block=block.place):
                        self.check(block.text, folder)
                        seen += 1
        self.assertGreater(seen, 3)

    def check(self, text, folder):
        # A part of a configuration is shown without its clusters.
        whole = text if "clusters" in yaml.safe_load(text) else MINIMAL + text
        config = pathlib.Path(folder, "config.yaml")
        config.write_text(whole.replace("/etc/pilotfish", folder))
        environment = os.environ | {"CREDENTIALS_DIRECTORY": folder, "PROMETHEUS_TOKEN": "a-token-as-long-as-one-should-be"}
        code, said = run(BINARY, "check", "--config", str(config), env=environment)
        self.assertEqual(code, 0, said)

    def make_files(self, folder):
        """What the examples name: certificates with their keys, and secrets."""
        made = [folder / name for name in ("ca.pem", "ca.key")]
        code, said = run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                         "-days", "3650", "-subj", "/CN=pilotfish.test", "-keyout", str(made[1]), "-out", str(made[0]))
        self.assertEqual(code, 0, said)
        for page in reader.PAGES:
            for name in re.findall(r"/etc/pilotfish/([a-z0-9.-]+)", page.read_text()):
                source = {".pem": made[0], ".crt": made[0], ".key": made[1]}.get(pathlib.Path(name).suffix)
                if source not in (None, folder / name):
                    (folder / name).write_bytes(source.read_bytes())
        for name in "alice.hash", "alice.password", "patroni.password":
            (folder / name).write_text("correct horse battery staple\n")


class Links(unittest.TestCase):
    def test_every_link_leads_somewhere(self):
        anchor = lambda title: re.sub(r"[^\w\- ]", "", title.replace("`", "")).strip().lower().replace(" ", "-")
        for page in [*reader.PAGES, reader.PROJECT / "ARCHITECTURE.md", reader.PROJECT / "CHANGELOG.md"]:
            for path, part in LINK.findall(reader.FENCE.sub("", page.read_text())):
                target = (page.parent / path).resolve() if path else page
                self.assertTrue(target.exists(), f"{page.name}: {path}")
                if part:
                    titles = re.findall(r"^#+ (.*)$", target.read_text(), re.M)
                    self.assertIn(part, [anchor(title) for title in titles], f"{page.name}: {path}#{part}")

    def test_every_page_is_in_the_list_of_pages(self):
        index = (reader.PROJECT / "docs/README.md").read_text()
        linked = {path for path, _ in LINK.findall(index)}
        pages = {page.name for page in (reader.PROJECT / "docs").glob("*.md")} - {"README.md"}
        self.assertEqual(pages - linked, set())


if __name__ == "__main__":
    unittest.main(verbosity=2)
