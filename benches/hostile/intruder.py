"""Requests that would change something if they were let, none of which has the right to; and ones that are no requests.

Each with the answers that are right: a refusal, or an end without an answer (0).
"""
from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from ipaddress import IPv4Address

CHANGE = '{"state": "drain"}'
JSON = "Content-Type: application/json"
STATE = "/api/v1/clusters/still/members/c0000n1/state"
CLOSE = "/api/v1/clusters/still/members/c0000n1/close-sessions"
PATIENCE_S = 10
FIRST_ADDRESS = IPv4Address("127.198.0.1")
METHODS = ("GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "post", "G\x00T")
REFUSED = {0, 400, 401, 403, 404, 405, 411, 413, 414, 415, 421, 429, 431}


@dataclass
class Attempt:
    what: str
    bytes: bytes
    right: set[int]


def request(line: str, *headers: str, body: str = CHANGE, version: str = "HTTP/1.1") -> bytes:
    lines = [f"{line} {version}", *headers, f"Content-Length: {len(body)}", "Connection: close"]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


def attempts(host: str, viewer: str | None) -> list[Attempt]:
    """`viewer`: a token that may look, where there are users."""
    here, login = f"Host: {host}", f"Authorization: Bearer {viewer}" if viewer else "X-Nobody: 1"
    posts = [STATE, CLOSE, "/api/v1/reload", "/api/v1/upgrade"]
    paths = ["//api/v1/reload", "/api/v1/reload/", "/api/v1/./reload", "/api/v1/../v1/reload", "/%61pi/v1/reload",
             "/api/v1/reload%00", "/api%2fv1%2freload", "/livez/../api/v1/reload", "/livez;/api/v1/reload",
             "/livez?/api/v1/reload", "/readyz/../api/v1/upgrade", "/api/v1/clusters/still/members/..%2fc0000n1/state",
             "/api/v1/clusters/%73till/members/c0000n1/state", "/API/V1/RELOAD", "/;csv?action=drain", "*",
             "/haproxy?stats;s=c0000n1;b=still;action=drain", "http://evil.example/api/v1/reload", "\\api\\v1\\reload"]
    found = [Attempt(f"POST {path} without a login", request(f"POST {path}", here, JSON), {401, 403}) for path in posts]
    found += [Attempt(f"POST {path} by a viewer", request(f"POST {path}", here, JSON, login), {401, 403}) for path in posts]
    found += [Attempt(f"{method} {path}", request(f"{method} {path}", here, JSON, login), REFUSED)
              for path in posts for method in METHODS]
    found += [Attempt(f"POST {path!r}", request(f"POST {path}", here, JSON, login), REFUSED) for path in paths]
    # HAProxy's own page takes changes by a form; these views are for looking.
    found += [Attempt(f"GET {path!r}", request(f"GET {path}", here, login, body=""), REFUSED | {200}) for path in paths]
    strange = {
        "a wrong Host": ["Host: evil.example"], "two Hosts": [here, "Host: evil.example"], "no Host": [],
        "a Host of bytes": ["Host: \x7f\x80"], "an empty Host": ["Host:"],
        "a foreign Origin": [here, "Origin: http://evil.example"], "the Origin null": [here, "Origin: null"],
        "two Origins": [here, f"Origin: http://{host}", "Origin: http://evil.example"],
        "a foreign page": [here, "Sec-Fetch-Site: cross-site"], "a neighbour's page": [here, "Sec-Fetch-Site: same-site"],
        "a claimed address": [here, "X-Forwarded-For: 127.0.0.1", "X-Real-IP: 127.0.0.1", "Forwarded: for=127.0.0.1"],
        "a claimed method": [here, "X-HTTP-Method-Override: POST", "X-Original-URL: /api/v1/reload"],
        "a wrong token": [here, "Authorization: Bearer wrong"], "an empty token": [here, "Authorization: Bearer "],
        "a wrong password": [here, "Authorization: Basic b3A6b3A="], "no base64": [here, "Authorization: Basic !!!"],
        "a long login": [here, "Authorization: Bearer " + "a" * 8192], "two logins": [here, login, "Authorization: Bearer wrong"],
    }
    found += [Attempt(f"POST with {what}", request(f"POST {path}", JSON, *headers), REFUSED)
              for what, headers in strange.items() for path in posts]
    forms = ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a", "application/jsonp", ""]
    found += [Attempt(f"POST as {form!r}", request(f"POST {STATE}", here, f"Content-Type: {form}", login), REFUSED)
              for form in forms]
    post = f"POST {STATE} HTTP/1.1\r\n{here}\r\n{JSON}\r\n"
    garbage = {
        "a header of 1 MB": b"GET /livez HTTP/1.1\r\nX: " + b"a" * (1 << 20) + b"\r\n\r\n",
        "a path of 1 MB": b"GET /" + b"a" * (1 << 20) + b" HTTP/1.1\r\n\r\n",
        "10,000 headers": b"GET /livez HTTP/1.1\r\n" + b"X: a\r\n" * 10_000 + b"\r\n",
        "a body of 1 GB announced": f"{post}Content-Length: 1073741824\r\n\r\n".encode(),
        "a length below nothing": f"{post}Content-Length: -1\r\n\r\n".encode(),
        "two lengths": f"{post}Content-Length: 0\r\nContent-Length: 18\r\n\r\n{CHANGE}".encode(),
        "length and pieces":
            f"{post}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n12\r\n{CHANGE}\r\n0\r\n\r\n".encode(),
        "a request within a body": request("GET /livez", here, body=request(f"POST {STATE}", here, JSON).decode()),
        "two requests at once": f"GET /livez HTTP/1.1\r\n{here}\r\n\r\n".encode() + request(f"POST {STATE}", here, JSON),
        "HTTP/2 at once": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0",
        "an upgrade to h2c": (f"GET /livez HTTP/1.1\r\n{here}\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
                              "HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n").encode(),
        "HTTP/0.9": b"GET /api/v1/reload\r\n", "bytes": bytes(range(256)) * 16, "nothing but lines": b"\r\n" * 10_000,
        "a request for encryption, as PostgreSQL knows it": b"\0\0\0\x08\x04\xd2\x16\x2f",
        "line breaks of another kind": f"{post}Content-Length: 18\r\n\r\n{CHANGE}".replace("\r", "").encode(),
    }
    # What is harmless within them may be answered.
    return found + [Attempt(what, raw, REFUSED | {200}) for what, raw in garbage.items()]


def answers(address: str, attempt: Attempt, context: ssl.SSLContext | None, number: int) -> list[int]:
    """The status of each answer until the other side has had enough; nothing at all is 0. Each comes from an address of its
    own, so that none is refused for the wrong logins of another."""
    host, _, port = address.rpartition(":")
    heard = b""
    try:
        own = str(FIRST_ADDRESS + number), 0
        with socket.create_connection((host, int(port)), timeout=PATIENCE_S, source_address=own) as plain:
            with context.wrap_socket(plain, server_hostname="localhost") if context else plain as sock:
                try:
                    sock.sendall(attempt.bytes)
                except OSError:
                    pass  # whoever has seen enough answers before all is sent
                while piece := sock.recv(1 << 16):
                    heard += piece
    except TimeoutError:
        return [*statuses(heard), -1]
    except OSError:
        pass
    return statuses(heard) or [0]


def statuses(heard: bytes) -> list[int]:
    return [int(line[9:12]) for line in heard.split(b"\r\n") if line.startswith(b"HTTP/1.") and line[9:12].isdigit()]
