"""What a cluster was made with, and where it is: kept in its directory, so that later commands agree."""
from __future__ import annotations

import json
import os
import pwd
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from .processes import Failure

POSTGRES_PORT, REST_PORT, ETCD_PORT, PEER_PORT = 5432, 8008, 2379, 2380
ETCD_MEMBERS = 3
REST_TLS = ("off", "optional", "required")
LOCK, SETTINGS = "lock", "settings.json"
TAKEN_NAMES = ("venv", "proxy")  # beside the clusters in the same place

# Of the user who called; taken before root becomes the postgres user.
PLACE = Path(f"/var/tmp/pilotfish-{os.getuid()}")
VENV = Path(os.environ.get("PILOTFISH_VENV") or PLACE / "venv")


@dataclass
class Settings:
    name: str = "demo"
    net: str = "127.0.10"
    nodes: int = 3
    ttl: int = 30
    loop_wait: int = 10
    retry_timeout: int = 10
    rest_tls: str = "off"

    @staticmethod
    def read(directory: Path) -> Settings | None:
        try:
            return Settings(**json.loads((directory / SETTINGS).read_text()))
        except FileNotFoundError:
            return None
        except PermissionError as error:
            raise Failure(f"{directory} belongs to another user: run this as the user who made it") from error

    def write(self, directory: Path) -> None:
        draft = directory / "settings.draft"
        draft.write_text(json.dumps(asdict(self), indent=2) + "\n")
        draft.replace(directory / SETTINGS)

    def check(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", self.name) or self.name in TAKEN_NAMES:
            raise Failure(f"--name {self.name}: expected small letters, digits, - and _, but not {' or '.join(TAKEN_NAMES)}")
        octets = re.fullmatch(r"(\d{1,3})\.(\d{1,3})\.(\d{1,3})", self.net)
        if not octets or any(int(octet) > 255 for octet in octets.groups()):
            raise Failure(f"--net {self.net}: expected three octets, such as 127.0.10 of the loopback net")
        if not 1 <= self.nodes <= 9:
            raise Failure(f"--nodes {self.nodes}: expected 1 to 9")
        if self.rest_tls not in REST_TLS:
            raise Failure(f"--rest-tls {self.rest_tls}: expected one of {', '.join(REST_TLS)}")

    def trusted(self) -> list[str]:
        """The nets whose clients need no password: another net than loopback is one that the caller made for this."""
        return ["127.0.0.0/8"] if self.net.startswith("127.") else ["127.0.0.0/8", f"{self.net}.0/24"]

    def etcd_host(self, number: int) -> str:
        return f"{self.net}.{20 + number}"

    def node_host(self, number: int) -> str:
        return f"{self.net}.{10 + number}"


def default_directory(name: str) -> Path:
    """In a place of the caller's own: /var/tmp is everybody's, and a planted directory must not be trusted."""
    PLACE.mkdir(exist_ok=True)
    if PLACE.is_symlink() or PLACE.stat().st_uid != os.getuid():
        raise Failure(f"{PLACE} belongs to another user: name another place with --dir")
    return PLACE / name


def enter(directory: Path) -> None:
    """Makes the directory ours. PostgreSQL refuses to run as root, so root goes on as the postgres user."""
    directory.mkdir(parents=True, exist_ok=True)
    if not (directory / SETTINGS).exists() and any(entry.name != LOCK for entry in directory.iterdir()):
        raise Failure(f"{directory} is not empty and holds no cluster: name another --dir")
    if os.getuid() == 0:
        try:
            runner = pwd.getpwnam("postgres")
        except KeyError:
            raise Failure("there is no user postgres: run deploy/setup cluster") from None
        if directory.stat().st_uid == 0:
            os.chown(directory, runner.pw_uid, runner.pw_gid)
        os.initgroups(runner.pw_name, runner.pw_gid)
        os.setgid(runner.pw_gid)
        os.setuid(runner.pw_uid)
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK) or directory.stat().st_uid != os.getuid():
        who = pwd.getpwuid(os.getuid()).pw_name
        raise Failure(f"the user {who} cannot work in {directory}: run this as the user who made it, or name another --dir")
