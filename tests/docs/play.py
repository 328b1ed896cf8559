"""Plays the commands of the documentation as they stand there, in the sandbox: play.py PACKAGE

The sandbox has the addresses that the documentation names, a cluster behind them, the program as its .deb installs it, and
something in systemd's place. Each page begins with pilotfish running on a configuration with three addresses.
"""

import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import cluster
import exceptions
import reader

CONFIG = pathlib.Path("/etc/pilotfish/config.yaml")
MINIMAL = "clusters:\n  - patroni: [10.0.0.1:8008, 10.0.0.2:8008, 10.0.0.3:8008]\n"
# Where the commands are given: a folder as the project's own, with a package in it.
PLACE = pathlib.Path("/tmp/project")
PATIENCE_S = 60


def run(*words, code=0):
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S)
    said = done.stdout + done.stderr
    assert done.returncode == code, f"{words}: {done.returncode}\n{said}"
    return said


def prepare(package):
    for host in [*cluster.NODES.values(), "10.0.0.9"]:
        run("ip", "address", "add", f"{host}/32", "dev", "lo")
    cluster.start()
    (PLACE / "target/packages").mkdir(parents=True)
    shutil.copy(package, PLACE / "target/packages")
    for part in "deploy", "config":
        (PLACE / part).symlink_to(reader.PROJECT / part)
    shutil.copy(reader.PROJECT / "tests/docs/systemctl", "/usr/local/bin/systemctl")
    # Found before the true one, whatever the caller's order is.
    os.environ["PATH"] = f"/usr/local/bin:{os.environ['PATH']}"
    haproxy = pathlib.Path("/etc/haproxy/haproxy.cfg")
    haproxy.parent.mkdir(exist_ok=True)
    template = (reader.PROJECT / "tests/it/import/patroni-template.cfg").read_text()
    for host, taken in zip(cluster.NODES.values(), ("172.18.0.2", "172.18.0.3", "172.18.0.4"), strict=True):
        template = template.replace(taken, host)
    haproxy.write_text(template)


def settled(text):
    """pilotfish runs on this configuration, and knows its cluster."""
    if not CONFIG.parent.exists():
        return
    run("systemctl", "stop", "pilotfish")
    CONFIG.write_text(text)
    run("systemctl", "start", "pilotfish")
    run("pilotfish", "status", "--wait-writer", "20s")


def other_ports():
    """What step 3 asks the reader to do by hand."""
    run("systemctl", "stop", "pilotfish")
    CONFIG.write_text(CONFIG.read_text().replace(":5000", ":15000").replace(":5001", ":15001"))


def addresses_written():
    CONFIG.write_text(CONFIG.read_text().replace("    # - 10.0.0.", "    - 10.0.0."))


# What the sentences around a block ask of the reader before it.
BEFORE = {
    ("README.md", "pilotfish run --patroni 10.0.0.1:8008,10.0.0.2:8008,10.0.0.3:8008"):
        lambda: run("systemctl", "stop", "pilotfish"),
    ("docs/install.md", "pilotfish check --config /etc/pilotfish/config.yaml && systemctl start pilotfish"): addresses_written,
    ("docs/move-from-haproxy.md", "pilotfish run --config /etc/pilotfish/config.yaml &"): other_ports,
}


def play(block):
    """What it said. A last command that serves is let serve, and then stopped as by Ctrl-C."""
    serves = block.commands.strip().splitlines()[-1].startswith("pilotfish run ")
    words = ["bash", "-eu", "-o", "pipefail", "-c", block.commands]
    with open("/tmp/said", "w+") as said:
        shell = subprocess.Popen(words, cwd=PLACE, stdout=said, stderr=said, stdin=subprocess.DEVNULL, start_new_session=True)
        if serves:
            run("pilotfish", "status", "--wait-writer", "20s")
            os.kill(shell.pid, signal.SIGINT)
        try:
            code = shell.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            code = "no end"
        end_group(shell.pid)
        if serves:
            run("systemctl", "start", "pilotfish")
            run("pilotfish", "status", "--wait-writer", "20s")
        said.seek(0)
        text = said.read()
    wanted = exceptions.EXIT_CODES.get(block.key, 0)
    assert code == wanted, f"{block.place}: exit {code}, not {wanted}\n{block.commands}\n{text}"
    shown = [" ".join(line.split()) for line in text.splitlines()]
    for heading in block.headings:
        assert heading in shown, f"{block.place}: no line {heading}\n{text}"


def end_group(group):
    """What a block has left in the background."""
    try:
        os.killpg(group, signal.SIGTERM)
        while True:
            os.killpg(group, 0)
            time.sleep(0.01)
    except ProcessLookupError:
        pass


def main(package):
    prepare(package)
    played = [block for block in reader.blocks() if block.commands and block.key not in exceptions.NOT_RUN]
    # How to install it stands on one page; the other pages take it for done.
    played.sort(key=lambda block: block.page != "docs/install.md")
    page = None
    for block in played:
        if page != block.page:
            page = block.page
            settled(MINIMAL)
        BEFORE.get(block.key, lambda: None)()
        play(block)
        print("played", block.place)
    unused = set(BEFORE) - {block.key for block in played}
    assert not unused, f"blocks that are gone: {unused}"
    run("systemctl", "stop", "pilotfish")
    # The package disables the service, which is the true one's to do.
    pathlib.Path("/usr/local/bin/systemctl").unlink()
    run("dpkg", "--purge", "pilotfish")


main(*sys.argv[1:])
