"""The whole of it: three etcd members, and nodes that elect a leader among themselves.

Nothing is believed because it was asked for: each change waits until the members' own answers show it.
"""
from __future__ import annotations

import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .etcd import Etcd
from .node import PRIMARY_ROLES, Node
from .processes import Failure, wait_until_none
from .settings import ETCD_MEMBERS, REST_PORT, SETTINGS, Settings

UP_TIMEOUT_S = 90
DOWN_TIMEOUT_S = 8  # without etcd's quorum Patroni takes twice that to give up
CHANGE_TIMEOUT_S = 60
CONFLICT = 409
AUTHORITY = "Patroni's authority"
EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
LOOK_AGAIN_S = 1
APP_SQL = "CREATE ROLE app LOGIN PASSWORD 'app';\nCREATE DATABASE app OWNER app;\n"


class Cluster:
    def __init__(self, directory: Path, settings: Settings):
        self.directory, self.settings = directory, settings
        self.etcds = [Etcd(f"etcd{n}", settings.etcd_host(n), directory, settings) for n in range(1, ETCD_MEMBERS + 1)]
        self.nodes = [Node(f"patroni{n}", settings.node_host(n), directory, settings) for n in range(1, settings.nodes + 1)]

    def find(self, names: list[str]) -> list[Node]:
        return [pick(self.nodes, name, "patroni") for name in names]

    def find_etcds(self, names: list[str]) -> list[Etcd]:
        return [pick(self.etcds, name, "etcd") for name in names]

    # What it is doing

    def answers(self) -> dict[str, dict | None]:
        return dict(zip((node.name for node in self.nodes), at_once(Node.answer, self.nodes)))

    def leader(self, answers: dict | None = None) -> Node | None:
        """The node that holds the lock and runs as primary; of two that say so the one with the higher timeline."""
        answers = answers or self.answers()
        leading = [node for node in self.nodes if is_leading(answers[node.name])]
        return max(leading, key=lambda node: answers[node.name].get("timeline") or 0, default=None)

    def problem(self) -> Failure | None:
        """None when nothing is paused, there is a leader and every other node streams from it."""
        for node in self.nodes:
            if not node.patroni():
                raise Failure(f"{node.name}: Patroni has ended", node.log)
        answers = self.answers()
        leader = self.leader(answers)
        if any(answer and answer.get("pause") for answer in answers.values()):
            return Failure("the cluster is paused", self.nodes[0].log)
        if not leader:
            return Failure("there is no leader", self.nodes[0].log)
        for node in self.nodes:
            if node is not leader and not is_following(answers, leader, node):
                state = (answers[node.name] or {}).get("state") or node.silence()
                return Failure(f"{node.name} does not stream from {leader.name}: {state}", node.log)
        return None

    def rows(self) -> list[dict]:
        answers = self.answers()
        leader = self.leader(answers)
        end = answers[leader.name]["xlog"]["location"] if leader else None
        rows = []
        for node in self.nodes:
            answer = answers[node.name] or {"state": node.silence()}
            replayed = answer.get("xlog", {}).get("replayed_location")
            rows.append({
                "member": node.name, "host": node.host, "role": "leader" if node is leader else answer.get("role"),
                "state": answer.get("replication_state") or answer["state"], "timeline": answer.get("timeline"),
                "lag_bytes": max(0, end - replayed) if end and replayed else None,
                "pause": answer.get("pause", False)})
        return rows

    # Changing it

    def up(self) -> None:
        for member in [*self.etcds, *self.nodes]:
            member.check_ports()
            member.thaw()
        self.settings.write(self.directory)
        self.prepare()
        for etcd in self.etcds:
            etcd.start()
        for etcd in self.etcds:
            etcd.wait("/health")
        for node in self.nodes:
            node.start()
        self.wait_well()

    def wait_well(self) -> None:
        """Asks Patroni to look again every now and then, as its own next look may be `loop_wait` away."""
        asked = time.monotonic()

        def problem():
            nonlocal asked
            found = self.problem()
            if found and time.monotonic() - asked > LOOK_AGAIN_S:
                at_once(Node.resume, self.nodes)
                asked = time.monotonic()
            return found
        wait_until_none(problem, UP_TIMEOUT_S)

    def prepare(self) -> None:
        """What the nodes share: the SQL of the first start, and certificates for all addresses."""
        (self.directory / "app.sql").write_text(APP_SQL)
        tls = self.directory / "tls"
        tls.mkdir(exist_ok=True)
        if (tls / "ready").exists():
            return
        addresses = ["127.0.0.1", *(node.host for node in self.nodes)]
        names = "subjectAltName=" + ",".join(["DNS:localhost", *(f"IP:{address}" for address in addresses)])
        certify(tls / "server", "localhost", "-newkey", "rsa:2048", "-addext", names)
        if self.settings.rest_tls != "off":
            authority = tls / "rest-ca"
            by_authority = ("-CA", f"{authority}.crt", "-CAkey", f"{authority}.key", "-addext", "basicConstraints=CA:FALSE")
            certify(authority, AUTHORITY, *EC)
            certify(tls / "rest-server", "patroni", *EC, *by_authority, "-addext", names)
            certify(tls / "rest-client", "client", *EC, *by_authority)
        (tls / "ready").touch()

    def down(self, wipe: bool) -> None:
        """Everything ends: the nodes gracefully if the data is kept and they follow, else at once."""
        if not wipe:
            at_once(stop_if_it_follows, self.nodes)
        at_once(Node.kill, self.nodes)
        at_once(Etcd.kill, self.etcds)
        if wipe:
            for name in [*(member.name for member in [*self.etcds, *self.nodes]), "log", "tls"]:
                shutil.rmtree(self.directory / name, ignore_errors=True)
            for name in ("app.sql", SETTINGS):
                (self.directory / name).unlink(missing_ok=True)

    def wait_leader(self, other_than: str | None = None, seconds: float | None = None) -> Node:
        found = None

        def problem():
            nonlocal found
            found = self.leader()
            if not found:
                return Failure("there is no leader", self.nodes[0].log)
            return Failure(f"{found.name} still leads", found.log) if found.name == other_than else None
        wait_until_none(problem, seconds or self.settings.ttl + CHANGE_TIMEOUT_S)
        return found

    def wait_running(self, node: Node) -> None:
        def problem():
            if not node.patroni():
                raise Failure(f"{node.name}: Patroni has ended", node.log)
            answers = self.answers()
            answer, leader = answers[node.name], self.leader(answers)
            if not answer or answer["state"] != "running":
                return Failure(f"{node.name} is {answer['state'] if answer else node.silence()}", node.log)
            if leader not in (None, node) and not is_following(answers, leader, node):
                return Failure(f"{node.name} does not stream from {leader.name}", node.log)
            return None
        wait_until_none(problem, UP_TIMEOUT_S)

    def post(self, node: Node, path: str, body: dict) -> None:
        try:
            status, text = node.request(REST_PORT, "POST", path, body, timeout=CHANGE_TIMEOUT_S)
        except OSError as error:
            raise Failure(f"{node.name} did not answer POST {path}: {error}", node.log) from error
        if status != 200:
            raise Failure(f"{node.name} refused {path[1:]}: {text}", node.log)

    def switchover(self, to: str | None) -> tuple[Node, Node]:
        old = self.leader()
        if not old:
            raise Failure("there is no leader to switch over from", self.nodes[0].log)
        candidate = {"candidate": self.find([to])[0].name} if to else {}
        self.post(old, "/switchover", {"leader": old.name, **candidate})
        return old, self.wait_leader(other_than=old.name)

    def configure(self, change: dict) -> None:
        """Sent to every node: each acts at once when it is asked itself, and else in its own time."""
        asked = [node for node in self.nodes if node.answer()]
        if not asked:
            raise Failure("no node answers", self.nodes[0].log)
        for node in asked:
            def problem():
                try:
                    status, text = node.request(REST_PORT, "PATCH", "/config", change, timeout=CHANGE_TIMEOUT_S)
                except OSError as error:
                    raise Failure(f"{node.name} did not answer PATCH /config: {error}", node.log) from error
                if status not in (200, CONFLICT):
                    raise Failure(f"{node.name} refused the change: {status} {text}", node.log)
                return Failure(f"{node.name} knows an older configuration", node.log) if status == CONFLICT else None
            wait_until_none(problem, CHANGE_TIMEOUT_S)

    def pause(self, wanted: bool | None) -> None:
        self.configure({"pause": wanted})

        def problem():
            late = [name for name, answer in self.answers().items() if answer and bool(answer.get("pause")) != bool(wanted)]
            return Failure(f"not yet known to {', '.join(late)}", self.nodes[0].log) if late else None
        wait_until_none(problem, CHANGE_TIMEOUT_S)


def certify(place: Path, name: str, *options: str) -> None:
    """A certificate and its key, PLACE.crt and PLACE.key; self-signed unless the options say otherwise."""
    made = subprocess.run(
        ["openssl", "req", "-x509", "-nodes", "-days", "3650", "-subj", f"/CN={name}", *options,
         "-keyout", f"{place}.key", "-out", f"{place}.crt"], capture_output=True, text=True)
    if made.returncode != 0:
        raise Failure(f"openssl made no certificate: {made.stderr.strip()}")
    Path(f"{place}.key").chmod(0o600)


def is_leading(answer: dict | None) -> bool:
    return bool(answer) and answer["lock"] and answer.get("role") in PRIMARY_ROLES and answer.get("state") == "running"


def is_following(answers: dict, leader: Node, node: Node) -> bool:
    """By the leader's own list of its followers: a replica's word of its timeline can be `loop_wait` old."""
    followers = {each["application_name"]: each["state"] for each in answers[leader.name].get("replication", [])}
    answer = answers[node.name]
    return bool(answer) and answer["state"] == "running" and followers.get(node.name) == "streaming"


def pick(members: list, name: str, prefix: str):
    for member in members:
        if name in (member.name, member.name[len(prefix):]):
            return member
    raise Failure(f"no member {name}: expected one of {', '.join(member.name for member in members)}, or its number")


def at_once(action, members: list) -> list:
    with ThreadPoolExecutor(max_workers=len(members) or 1) as pool:
        return list(pool.map(action, members))


def stop_if_it_follows(node: Node) -> None:
    try:
        node.stop(DOWN_TIMEOUT_S)
    except Failure:
        pass
