"""What is shipped beside the program: the unit, the packages, the container file, the manifests.

Run by `make test-packages` with the Python of deploy/setup packages; PILOTFISH_BINARY is the program to pack.
"""

import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

import yaml
from cloudcoil.models.prometheus_operator.v1 import ServiceMonitor

PROJECT = pathlib.Path(__file__).resolve().parents[2]
UNIT = "deploy/systemd/pilotfish.service"
BINARY = os.environ.get("PILOTFISH_BINARY", "target/debug/pilotfish")
MANIFESTS = sorted((PROJECT / "deploy/kubernetes").glob("*.yaml"))
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


if __name__ == "__main__":
    unittest.main(verbosity=2)
