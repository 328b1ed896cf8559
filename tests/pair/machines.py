"""Machines without hardware: network namespaces, each kept by a process that sleeps in it, and the nets between them.

All of it is inside the namespaces that tests/pair/run has made, and gone with them.
"""

import ctypes
import os
import pathlib
import select
import signal
import subprocess
import time

PATIENCE_S = 60
CLONE_NEWNET = 0x40000000
LOGS = pathlib.Path("/run/pair")
LIBC = ctypes.CDLL(None, use_errno=True)


def run(*words):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def until(condition, what):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"after {PATIENCE_S} s still not: {what() if callable(what) else what}"
        time.sleep(0.02)


class Net:
    """A switch, which is also able to lose what comes from one of its ports without its owner noticing."""

    def __init__(self, name):
        self.name = name
        run("ip", "link", "add", "name", name, "type", "bridge", "mcast_snooping", "0")
        run("ip", "link", "set", name, "up")

    def plug(self, machine, interface, *addresses):
        port = self.port(machine)
        run("ip", "link", "add", "name", port, "type", "veth", "peer", "name", interface, "netns", machine.pid)
        run("ip", "link", "set", port, "master", self.name, "up")
        for address in addresses:
            machine.run("ip", "address", "add", f"{address}/24", "dev", interface)
        machine.run("ip", "link", "set", interface, "up")

    def port(self, machine):
        """At most 15 letters."""
        return f"{self.name[0]}-{machine.name}"

    def cut(self, machine):
        """Nothing passes in either direction; the link stays up."""
        run("ip", "link", "set", self.port(machine), "nomaster")

    def mend(self, machine):
        run("ip", "link", "set", self.port(machine), "master", self.name)


class Machine:
    def __init__(self, name):
        self.name = name
        # A /run/pilotfish of its own; all else of the file system is shared.
        steps = ("mount -t tmpfs -o mode=755 tmpfs /run/pilotfish", "ip link set lo up", f"hostname {name}", "echo made",
                 "exec sleep infinity")
        self.holder = subprocess.Popen(["unshare", "--net", "--mount", "--uts", "sh", "-c", " && ".join(steps)],
                                       stdout=subprocess.PIPE, text=True)
        assert self.holder.stdout.readline() == "made\n", f"no namespaces for {name}"
        self.pid = self.holder.pid

    def run(self, *words):
        return run(*self.inside(words))

    def inside(self, words):
        return ["nsenter", f"--target={self.pid}", "--net", "--mount", "--uts", "--", *map(str, words)]

    def start(self, what, *words, environment=None):
        return Program(f"{self.name}-{what}", self.inside(words), environment or {})

    def drop_from(self, port):
        """Answers from this TCP port of others are lost."""
        self.run("nft", "add table inet lost; add chain inet lost input { type filter hook input priority 0; }; "
                 f"add rule inet lost input tcp sport {port} drop")

    def drop_nothing(self):
        self.run("nft", "delete table inet lost")

    def move_in(self):
        """The calling thread's sockets are this machine's from here on."""
        namespace = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY)
        try:
            if LIBC.setns(namespace, CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), f"cannot move into {self.name}")
        finally:
            os.close(namespace)


class Program:
    """A program that runs on a machine, and its log."""

    def __init__(self, name, words, environment):
        self.name, self.log = name, LOGS / f"{name}.log"
        with open(self.log, "a") as log:
            self.begin = log.tell()
            self.child = subprocess.Popen(words, env=os.environ | environment, stdin=subprocess.DEVNULL,
                                          stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        # Of its main process: the child, or one that has taken its place.
        self.process = os.pidfd_open(self.child.pid)

    def has_ended(self, within=0):
        """Waits for its main process so many seconds at most."""
        return bool(select.select([self.process], [], [], within)[0])

    def end(self, number=signal.SIGTERM):
        """The signal, and its end awaited."""
        assert not self.has_ended(), f"{self.name} had ended by itself: {self.said()[-2000:]}"
        signal.pidfd_send_signal(self.process, number)
        assert self.has_ended(PATIENCE_S), f"{self.name} does not end: {self.said()[-2000:]}"

    def pass_on(self, pid):
        """This process is the main one from now on; the end of the former is awaited."""
        successor = os.pidfd_open(pid)
        assert self.has_ended(PATIENCE_S), f"{self.name}'s former process does not end: {self.said()[-2000:]}"
        os.close(self.process)
        self.process = successor

    def said(self):
        """Not what one before it wrote into the same log."""
        return self.log.read_bytes()[self.begin:].decode(errors="replace")
