"""The life of an installed package, played in the sandbox: installed, configured, run, upgraded, removed.

life.py deb|rpm PACKAGE
"""

import os
import pathlib
import pwd
import re
import signal
import socket
import struct
import subprocess
import sys
import time

import fakes

CONFIG = pathlib.Path("/etc/pilotfish/config.yaml")
UNIT = pathlib.Path("/usr/lib/systemd/system/pilotfish.service")
ENABLED = pathlib.Path("/etc/systemd/system/multi-user.target.wants/pilotfish.service")
MANAGERS = {
    "deb": {"install": ["dpkg", "-i"], "upgrade": ["dpkg", "-i"], "remove": ["dpkg", "--remove", "pilotfish"],
            "purge": ["dpkg", "--purge", "pilotfish"]},
    # This machine's packages are not rpm's to know.
    "rpm": {"install": ["rpm", "-i", "--nodeps"], "upgrade": ["rpm", "-U", "--force", "--nodeps"],
            "remove": ["rpm", "-e", "--nodeps", "pilotfish"], "purge": None},
}


def run(*words, code=0):
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    said = done.stdout + done.stderr
    assert done.returncode == code, f"{words}: {done.returncode}\n{said}"
    return said


def as_the_service(*words):
    """As the unit starts it, as far as that goes without systemd."""
    user = pwd.getpwnam("pilotfish")
    os.makedirs("/run/pilotfish", mode=0o750, exist_ok=True)
    os.chown("/run/pilotfish", user.pw_uid, user.pw_gid)
    secrets = pathlib.Path("/run/pilotfish/credentials")
    secrets.mkdir(exist_ok=True)
    (secrets / "alice.password").write_text("correct horse battery staple\n")
    return subprocess.Popen(
        ["setpriv", "--reuid=pilotfish", "--regid=pilotfish", "--clear-groups", "--no-new-privs", *words],
        env={"RUNTIME_DIRECTORY": "/run/pilotfish", "CREDENTIALS_DIRECTORY": str(secrets)},
        stderr=subprocess.PIPE, text=True)


def until(condition, service):
    deadline = time.monotonic() + 20
    while not condition():
        assert service.poll() is None and time.monotonic() < deadline, service.poll()
        time.sleep(0.01)


def is_installed():
    assert run("pilotfish", "--version").startswith("pilotfish ")
    config = CONFIG.stat()
    assert (oct(config.st_mode & 0o777), config.st_gid) == ("0o640", pwd.getpwnam("pilotfish").pw_gid)
    assert ENABLED.resolve() == UNIT, ENABLED
    run("systemd-analyze", "verify", "--man=no", str(UNIT))


def refuses_without_endpoints():
    service = as_the_service("/usr/bin/pilotfish", "run", "--config", str(CONFIG))
    _, said = service.communicate(timeout=30)
    assert service.returncode == 78, (service.returncode, said)
    assert "the key patroni is missing or empty; give Patroni's REST addresses" in said, said


def enter():
    client = socket.create_connection((fakes.HOST, 5000), timeout=20)
    startup = struct.pack("!I", 196608) + b"user\0app\0\0"
    client.sendall(struct.pack("!I", len(startup) + 4) + startup)
    assert client.recv(64) == fakes.WELCOME
    return client


def serves():
    text = CONFIG.read_text().replace("    # - 10.0.0.1:8008\n", f"    - {fakes.HOST}:8008\n")
    text += "admin:\n  users:\n    - {name: alice, role: operator, password: 'file:${CREDENTIALS_DIRECTORY}/alice.password'}\n"
    CONFIG.write_text(text)
    service = as_the_service("/usr/bin/pilotfish", "run", "--config", str(CONFIG))
    try:
        # Without an address it finds the socket that the unit's RuntimeDirectory is for.
        until(pathlib.Path("/run/pilotfish/admin.sock").exists, service)
        said = run("pilotfish", "status", "--wait-writer", "20s")
        assert said == "demo: pg1\n", said
        enter().close()
    finally:
        service.terminate()
        _, said = service.communicate(timeout=30)
    assert service.returncode == 0, (service.returncode, said)


def is_upgraded_while_it_runs(install):
    service = as_the_service("/usr/bin/pilotfish", "run", "--config", str(CONFIG))
    admin = pathlib.Path("/run/pilotfish/admin.sock")
    until(admin.exists, service)
    run("pilotfish", "status", "--wait-writer", "20s")
    good = CONFIG.read_text()
    try:
        with enter() as before:
            CONFIG.write_text("clusters: 7\n")
            said = install()
            assert "goes on as before" in said and "expected a list" in said, said
            CONFIG.write_text(good)
            said = install()
            taken = re.search(r"upgraded: process (\d+) .*process (\d+)", said)
            assert taken and int(taken[2]) == service.pid, said
            enter().close()
            assert service.poll() is None, "its session goes on"
            before.sendall(b"x")
            assert before.recv(64) == b"", "the server's own farewell"
        assert service.wait(timeout=30) == 0
        os.kill(int(taken[1]), signal.SIGTERM)
    finally:
        CONFIG.write_text(good)
        service.kill()
        # All who log there have ended when this returns.
        _, said = service.communicate(timeout=30)
    assert not admin.exists(), said


def main(kind, package):
    manager = MANAGERS[kind]
    before = pathlib.Path("/etc/passwd").read_text()
    fakes.cluster()
    run(*manager["install"], package)
    is_installed()
    refuses_without_endpoints()
    serves()
    edited = CONFIG.read_text()
    run(*manager["upgrade"], package)
    is_upgraded_while_it_runs(lambda: run(*manager["upgrade"], package))
    assert CONFIG.read_text() == edited, "an upgrade keeps the configuration"
    run(*manager["remove"])
    assert not pathlib.Path("/usr/bin/pilotfish").exists() and not ENABLED.is_symlink()
    kept = [CONFIG, CONFIG.with_name("config.yaml.rpmsave")]
    assert any(path.exists() and path.read_text() == edited for path in kept), "what was written is not thrown away"
    if manager["purge"]:
        run(*manager["purge"])
    else:
        # rpm has no purge: what it leaves is an operator's to remove.
        run("rm", "-r", "/etc/pilotfish")
        run("userdel", "pilotfish")
    assert pathlib.Path("/etc/passwd").read_text() == before
    assert not CONFIG.parent.exists()


main(*sys.argv[1:])
