"""What is shipped beside the program: the unit, the packages, the container file, the manifests, and how releases are made.

Run by `make test-packages` with the Python of deploy/setup packages; PILOTFISH_BINARY is the program to pack.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import unittest

import yaml
from cloudcoil.models.prometheus_operator.v1 import ServiceMonitor

PROJECT = pathlib.Path(__file__).resolve().parents[2]
UNIT = "deploy/systemd/pilotfish.service"
BINARY = os.environ.get("PILOTFISH_BINARY", "target/debug/pilotfish")
MANIFESTS = sorted((PROJECT / "deploy/kubernetes").glob("*.yaml"))
WORKFLOWS = sorted((PROJECT / ".github/workflows").glob("*.yml"))
# Tools of the same environment.
BIN = pathlib.Path(sys.executable).parent


def run(*words):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, cwd=PROJECT, timeout=300)
    return done.returncode, done.stdout + done.stderr


def documents():
    texts = [path.read_text() for path in MANIFESTS]
    return {(doc["kind"], doc["metadata"]["name"]): doc for text in texts for doc in yaml.safe_load_all(text)}


def aslist(value):
    return value if isinstance(value, list) else [value]


class Checked(unittest.TestCase):
    def succeeds(self, *words):
        code, said = run(*words)
        self.assertEqual(code, 0, f"{words}\n{said}")
        return said


class Systemd(Checked):
    def test_the_unit_gives_little_away(self):
        # In tenths: an exposure of 2.0.
        said = self.succeeds("systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", UNIT)
        self.assertIn("Overall exposure level", said)

    def test_the_unit_asks_for_what_the_program_needs(self):
        text = (PROJECT / UNIT).read_text()
        types = re.findall("^Type=(.*)$", text, re.M)
        self.assertEqual(types, ["notify", "notify-reload"], "the last one that systemd knows counts")
        score = int(re.search("^OOMScoreAdjust=(.*)$", text, re.M).group(1))
        self.assertTrue(-900 < score < 0, "after the applications, before PostgreSQL and the system")
        families = re.search("^RestrictAddressFamilies=(.*)$", text, re.M).group(1).split()
        self.assertLessEqual({"AF_INET", "AF_INET6", "AF_UNIX"}, set(families))
        allowed = self.allowed_calls(re.findall("^SystemCallFilter=(.*)$", text, re.M))
        # Relaying, its limits, threads; setsockopt is how SO_RCVLOWAT is set.
        needed = {"epoll_create1", "epoll_ctl", "epoll_wait", "eventfd2", "splice", "pipe2", "accept4", "connect",
                  "sendto", "recvfrom", "setsockopt", "prlimit64", "clone3", "sched_getaffinity", "futex", "execve", "dup2", "kill"}
        self.assertEqual(needed - allowed, set())
        self.assertNotIn("ptrace", allowed)
        self.assertNotIn("setuid", allowed)

    def test_the_socket_unit_has_the_addresses_that_are_the_default(self):
        self.succeeds("systemd-analyze", "verify", "--man=no", "deploy/systemd/pilotfish.socket")
        text = (PROJECT / "deploy/systemd/pilotfish.socket").read_text()
        listen = re.findall("^ListenStream=(.*)$", text, re.M)
        shown = yaml.safe_load(self.succeeds(BINARY, "check", "--patroni", "10.0.0.1:8008"))["clusters"][0]
        wanted = [address for pool in (shown["primary"], *aslist(shown["replicas"])) for address in aslist(pool["listen"])]
        self.assertEqual(listen, wanted, "an address is known by how it is written")

    def allowed_calls(self, filters):
        """As systemd reads several lines: added and taken away in their order."""
        sets, calls = {}, set()
        for line in self.succeeds("systemd-analyze", "syscall-filter", "--no-pager").splitlines():
            word = line.strip()
            if line.startswith("@"):
                current = sets.setdefault(word, [])
            elif word and not word.startswith("#"):
                current.append(word)
        def expand(name):
            return {call for part in sets[name] for call in expand(part)} if name.startswith("@") else {name}
        for words in filters:
            named = {call for word in words.lstrip("~").split() for call in expand(word)}
            calls = calls - named if words.startswith("~") else calls | named
        # Always allowed.
        return calls | expand("@default")


class Packages(Checked):
    def package(self, kind, folder):
        return self.succeeds("deploy/packages/build", kind, BINARY, folder).splitlines()[-1]

    def lives(self, kind):
        with tempfile.TemporaryDirectory(dir=PROJECT / "target") as folder:
            package = self.package(kind, folder)
            self.succeeds("tests/packages/sandbox", "python3", "-B", "tests/packages/life.py", kind, package)
            first = pathlib.Path(package).read_bytes()
            again = pathlib.Path(self.package(kind, folder)).read_bytes()
            self.assertEqual(first, again, "the same sources and the same binary give the same package")

    def test_a_deb_is_installed_runs_and_is_purged_without_a_trace(self):
        self.lives("deb")

    def test_an_rpm_is_installed_runs_and_is_removed(self):
        self.lives("rpm")


class Containers(Checked):
    def test_the_container_file_and_the_compose_file(self):
        self.succeeds(BIN / "hadolint", "deploy/container/Containerfile")
        self.succeeds(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", "deploy/container/compose.yaml")

    def test_the_manifests_follow_their_schemas(self):
        monitor = "deploy/kubernetes/monitor.yaml"
        known = [path for path in MANIFESTS if path.name != "monitor.yaml"]
        said = self.succeeds(BIN / "kubernetes-validate", "--strict", *known)
        self.assertEqual(said.count(" passed for resource "), 5, said)
        document = yaml.safe_load((PROJECT / monitor).read_text())
        read = ServiceMonitor.model_validate(document).model_dump(by_alias=True, exclude_none=True, mode="json")
        self.assertEqual(read["spec"], document["spec"], "a key that the schema does not know would be lost")

    def test_the_manifests_fit_each_other(self):
        docs = documents()
        pod = docs["Deployment", "pilotfish"]["spec"]["template"]
        labels, container = pod["metadata"]["labels"], pod["spec"]["containers"][0]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        self.assertEqual(ports, {"primary": 5000, "replicas": 5001, "admin": 7000})
        budget = docs["PodDisruptionBudget", "pilotfish"]["spec"]
        self.assertLess(budget["minAvailable"], docs["Deployment", "pilotfish"]["spec"]["replicas"])
        for selector in budget["selector"]["matchLabels"], docs["Service", "pilotfish"]["spec"]["selector"]:
            self.assertLessEqual(selector.items(), labels.items())
        for name in "pilotfish", "pilotfish-admin":
            for port in docs["Service", name]["spec"]["ports"]:
                self.assertEqual(ports[port["targetPort"]], port["port"])
        monitor = docs["ServiceMonitor", "pilotfish"]["spec"]
        admin = docs["Service", "pilotfish-admin"]
        self.assertLessEqual(monitor["selector"]["matchLabels"].items(), admin["metadata"]["labels"].items())
        self.assertEqual([point["port"] for point in monitor["endpoints"]], ["admin"])
        probes = [container[probe]["httpGet"] for probe in ("livenessProbe", "readinessProbe")]
        self.assertEqual([(probe["path"], probe["port"]) for probe in probes], [("/livez", "admin"), ("/readyz", "admin")])

    def test_pilotfish_takes_the_configuration_of_the_manifests(self):
        text = documents()["ConfigMap", "pilotfish"]["data"]["config.yaml"]
        with tempfile.TemporaryDirectory() as folder:
            mount = "/run/secrets/pilotfish"
            self.assertIn(f"file:{mount}/prometheus.token", text)
            (pathlib.Path(folder) / "prometheus.token").write_text("a-token-as-long-as-one-should-be-at-least\n")
            config = pathlib.Path(folder) / "config.yaml"
            config.write_text(text.replace(mount, folder))
            shown = self.succeeds(BINARY, "check", "--config", config)
        read = yaml.safe_load(shown)
        grace = documents()["Deployment", "pilotfish"]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        self.assertLess(int(read["drain_timeout"].removesuffix("s")), grace)
        self.assertTrue(read["admin"]["listen"].endswith(":7000"), read["admin"])


class Workflows(Checked):
    """The files for a public forge: they can be tried in full only there."""

    def steps(self):
        for path in WORKFLOWS:
            for name, job in yaml.safe_load(path.read_text())["jobs"].items():
                for step in job.get("steps", []):
                    yield f"{path.name}: {name}", step

    def test_they_follow_their_schema(self):
        self.assertEqual([path.name for path in WORKFLOWS], ["ci.yml", "nightly.yml", "release.yml"])
        self.succeeds(BIN / "check-jsonschema", "--builtin-schema", "vendor.github-workflows", *WORKFLOWS)

    def test_they_run_what_a_developer_runs(self):
        targets = set(re.findall(r"^([a-z-]+(?: [a-z-]+)*):", (PROJECT / "Makefile").read_text(), re.M))
        targets = {target for line in targets for target in line.split()}
        called = set()
        for where, step in self.steps():
            for command in step.get("run", "").splitlines():
                # The name of a Debian package, not a call.
                calls = [] if "apt-get" in command else re.findall(r"\bmake((?: --?[a-z-]+| [A-Z]+=\S+)*) ([a-z-]+)", command)
                called |= {target for _, target in calls}
                if command.startswith(".ci/"):
                    called.add(command)
                    self.assertTrue(os.access(PROJECT / command, os.X_OK), where)
        self.assertEqual({name for name in called if not name.startswith(".ci/")} - targets, set())
        self.assertLessEqual({".ci/run", "deny", "reproduce", "test-image"}, called)
        self.assertIn("exec make test\n", (PROJECT / ".ci/run").read_text())

    def test_they_trust_as_little_as_they_can(self):
        for where, step in self.steps():
            if "uses" in step:
                self.assertRegex(step["uses"], r"@[0-9a-f]{40}$", where)
            # What somebody else may name would be run as a command.
            self.assertNotIn("${{", step.get("run", ""), where)
        for path in WORKFLOWS:
            document = yaml.safe_load(path.read_text())
            self.assertEqual(document["permissions"], {"contents": "read"}, path.name)
            writing = {name for name, job in document["jobs"].items() if job.get("permissions", {}).get("contents") == "write"}
            self.assertLessEqual(writing, {"publish"}, path.name)


class Releases(Checked):
    def test_the_list_of_what_is_inside_has_what_cargo_lock_says(self):
        with tempfile.TemporaryDirectory() as folder:
            text = pathlib.Path(self.succeeds("deploy/release/sbom", folder).splitlines()[-1]).read_text()
        self.assertNotIn(str(PROJECT), text)
        listed = {(part["name"], part["version"]): part for part in json.loads(text)["components"]}
        locked = tomllib.loads((PROJECT / "Cargo.lock").read_text())["package"]
        checksums = {(package["name"], package["version"]): package.get("checksum") for package in locked}
        for key, part in listed.items():
            self.assertEqual([checksums[key]], [item["content"] for item in part["hashes"]], key)
            self.assertTrue(part["licenses"], key)
        host = re.search("^host: (.*)$", self.succeeds("rustc", "-vV"), re.M).group(1)
        tree = self.succeeds("cargo", "tree", "--locked", "--target", host, "--edges", "normal,build", "--prefix", "none")
        linked = set(re.findall(r"^(\S+) v(\S+)", tree, re.M)) - {("pilotfish", listed_version(text))}
        self.assertGreater(len(linked), 100)
        self.assertEqual(linked - set(listed), set())

    def test_the_folder_of_a_build_leaves_no_trace(self):
        made = []
        for name in "a", "longer/and/deeper":
            with tempfile.TemporaryDirectory() as top:
                folder = pathlib.Path(top, name)
                folder.mkdir(parents=True)
                source = folder / "part.rs"
                source.write_text("pub fn fail(text: &str) -> u32 { text.parse().expect(file!()) }\n")
                environment = {"PILOTFISH_PROJECT": str(folder), "PILOTFISH_CRATES": "/none", "PILOTFISH_STANDARD": "/none=/std"}
                words = ["deploy/release/remap", shutil.which("rustc"), "--crate-type=lib", "-Cdebuginfo=2", "-Cmetadata=same",
                         str(source), "-o", str(folder / "part.rlib")]
                self.succeeds("env", *(f"{key}={value}" for key, value in environment.items()), *words)
                made.append((folder / "part.rlib").read_bytes())
                self.assertNotIn(top.encode(), made[-1])
        self.assertEqual(made[0], made[1])


def listed_version(text):
    return json.loads(text)["metadata"]["component"]["version"]


if __name__ == "__main__":
    unittest.main(verbosity=2)
