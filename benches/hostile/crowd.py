"""A crowd of clients that mean no good. Keeps so many connections open, and opens the next where one is closed.

    crowd.py KIND HOST:PORT COUNT [--addresses N]

Tells each half second how many are open (established, or still waiting to be), how many it has opened in all and how
many the other side has ended. Ends when its standard input does.
"""
from __future__ import annotations

import argparse
import base64
import errno
import json
import os
import resource
import select
import socket
import struct
import sys
import time
from dataclasses import dataclass
from ipaddress import IPv4Address

FIRST_ADDRESS = IPv4Address("127.200.0.1")
BIND_ADDRESS_NO_PORT = 24  # IP_BIND_ADDRESS_NO_PORT (ip(7)): a port is chosen for the pair of addresses
TELL_S = 0.5
DRIP_S = 1.0
AT_ONCE = 256  # connections begun before answers have their turn
STARTUP = struct.pack("!II", 35, 196608) + b"user\0crowd\0database\0crowd\0\0"
RECORD = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"  # the begin of a ClientHello that never comes to its end


@dataclass
class Kind:
    says: bytes | list[bytes] = b""
    drips: bytes = b""  # once a second
    reads: bool = True  # else what comes stays in the socket
    ends: str = "never"  # or: said (as soon as that is out), answered
    keeps: bool = False  # the connection, for the next request


def request(line: str, *headers: str, host: str = "127.0.0.1", body: str = "") -> bytes:
    lines = [f"{line} HTTP/1.1", f"Host: {host}", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


def client_hello() -> bytes:
    """A whole one: it makes the server answer with keys and a signature."""
    import ssl
    context = ssl.create_default_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    try:
        connection.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


CHANGE = '{"state": "drain"}'
JSON = "Content-Type: application/json"
STATE = "POST /api/v1/clusters/still/members/c0000n1/state"
KINDS = {
    "silent": lambda: Kind(),
    "startup": lambda: Kind(STARTUP),
    "closing": lambda: Kind(ends="said"),
    "slow-headers": lambda: Kind(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ", drips=b"a"),
    "slow-readers": lambda: Kind([request("GET /metrics") * 4, request("GET /") * 4], reads=False),
    "requests": lambda: Kind(request("GET /livez", "Connection: close"), ends="answered"),
    "pages": lambda: Kind([request("GET /"), request("GET /metrics"), request("GET /api/v1/status")], ends="answered",
                          keeps=True),
    "huge-headers": lambda: Kind([b"GET /livez HTTP/1.1\r\nX-Huge: " + b"a" * 262144, b"GET /" + b"a" * 262144,
                                  request("GET /livez", *(f"X-{number}: a" for number in range(10_000)))], ends="answered"),
    "strangers": lambda: Kind([request("GET /", host="evil.example"),
                               request(STATE, JSON, "Origin: http://evil.example", body=CHANGE),
                               request(STATE, JSON, body=CHANGE),
                               request(STATE, JSON, "Authorization: Bearer wrong", body=CHANGE)], ends="answered", keeps=True),
    "logins": lambda: Kind(request("GET /", "Authorization: Basic " + base64.b64encode(b"guest:guess").decode()),
                           ends="answered", keeps=True),
    "handshakes": lambda: Kind(RECORD),
    "hellos": lambda: Kind(client_hello(), ends="answered"),
}


@dataclass
class Client:
    socket: socket.socket
    number: int
    to_say: memoryview
    established: bool = False
    heard: bytes = b""  # of an answer's head
    due: int = 0  # what is still to come of its body


def is_whole(client: Client, heard: bytes) -> bool:
    """Whether the answer is, with what has come now: each has a Content-Length."""
    if client.due:
        client.due -= len(heard)
        return client.due <= 0
    head, end, body = (client.heard + heard).partition(b"\r\n\r\n")
    if not end:
        client.heard = head
        return False
    length = next((line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), b":0")
    client.heard, client.due = b"", max(0, int(length.partition(b":")[2]) - len(body))
    return client.due == 0


class Crowd:
    def __init__(self, kind: Kind, target: tuple[str, int], count: int, addresses: int):
        self.kind, self.target, self.count, self.addresses = kind, target, count, addresses
        self.says = kind.says if isinstance(kind.says, list) else [kind.says]
        self.poll = select.epoll()
        self.clients: dict[int, Client] = {}
        self.opened = self.ended = self.answers = 0

    def run(self) -> None:
        self.poll.register(sys.stdin.fileno(), select.EPOLLIN | select.EPOLLHUP)
        next_tell = next_drip = time.monotonic()
        while True:
            for _ in range(min(AT_ONCE, self.count - len(self.clients))):
                if not self.open():
                    break
            for descriptor, events in self.poll.poll(0 if len(self.clients) < self.count else 0.05, 1024):
                if descriptor == sys.stdin.fileno():
                    return
                client = self.clients.get(descriptor)
                if client and not self.go_on(client, events):
                    self.close(client)
            now = time.monotonic()
            if self.kind.drips and now >= next_drip:
                next_drip = now + DRIP_S
                self.drip()
            if now >= next_tell:
                next_tell = now + TELL_S
                self.tell()

    def open(self) -> bool:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sock.setsockopt(socket.IPPROTO_IP, BIND_ADDRESS_NO_PORT, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if not self.kind.reads:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        sock.bind((str(FIRST_ADDRESS + self.opened % self.addresses), 0))
        outcome = sock.connect_ex(self.target)
        if outcome not in (0, errno.EINPROGRESS):
            sock.close()
            return False
        self.opened += 1
        client = Client(sock, self.opened, memoryview(self.says[self.opened % len(self.says)]))
        self.clients[sock.fileno()] = client
        self.poll.register(sock.fileno(), select.EPOLLOUT | select.EPOLLIN)
        return True

    def close(self, client: Client) -> None:
        del self.clients[client.socket.fileno()]
        client.socket.close()

    def go_on(self, client: Client, events: int) -> bool:
        """Whether it stays."""
        try:
            if events & select.EPOLLOUT:
                client.established = True
                if client.to_say:
                    client.to_say = client.to_say[client.socket.send(client.to_say):]
                if not client.to_say:
                    if self.kind.ends == "said":
                        return False
                    self.poll.modify(client.socket.fileno(), select.EPOLLIN if self.kind.reads else select.EPOLLHUP)
            if events & select.EPOLLIN and self.kind.reads:
                return self.hear(client)
            if events & (select.EPOLLHUP | select.EPOLLERR):
                self.ended += 1
                return False
        except BlockingIOError:
            pass
        except OSError:
            self.ended += 1
            return False
        return True

    def hear(self, client: Client) -> bool:
        heard = client.socket.recv(1 << 16)
        if not heard:
            self.ended += 1
            return False
        if self.kind.ends != "answered":
            return True
        if self.kind.keeps and not is_whole(client, heard):
            return True
        self.answers += 1
        if not self.kind.keeps:
            return False
        client.number += 1
        client.to_say = memoryview(self.says[client.number % len(self.says)])
        self.poll.modify(client.socket.fileno(), select.EPOLLOUT | select.EPOLLIN)
        return True

    def drip(self) -> None:
        for client in list(self.clients.values()):
            if client.established:
                try:
                    client.socket.send(self.kind.drips)
                except BlockingIOError:
                    pass
                except OSError:
                    self.ended += 1
                    self.close(client)

    def tell(self) -> None:
        established = sum(client.established for client in self.clients.values())
        print(json.dumps({"open": established, "waiting": len(self.clients) - established, "opened": self.opened,
                          "ended": self.ended, "answers": self.answers}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("target")
    parser.add_argument("count", type=int)
    parser.add_argument("--addresses", type=int, default=20)
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    host, _, port = options.target.rpartition(":")
    Crowd(KINDS[options.kind](), (host, int(port)), options.count, options.addresses).run()


main()
