"""The cluster that the documentation speaks of, on its own addresses: three nodes, patroni1 leads.

Behind each node's Patroni stands a server that speaks as much of PostgreSQL's protocol as psql needs to ask one thing.
"""

import http.server
import json
import socketserver
import struct
import threading

NODES = {"patroni1": "10.0.0.1", "patroni2": "10.0.0.2", "patroni3": "10.0.0.3"}
LEADER = "patroni1"
SSL_REQUEST, GSS_REQUEST, CANCEL_REQUEST = 80877103, 80877104, 80877102


def report(name):
    leads = name == LEADER
    wal = {"location": 67108864} if leads else {"received_location": 67108864, "replayed_location": 67108864}
    return {"state": "running", "role": "primary" if leads else "replica", "server_version": 150018, "timeline": 3,
            "xlog": wal, "dcs_last_seen": 1795437839, "database_system_identifier": "7711346798149882415",
            "patroni": {"version": "4.1.5", "scope": "demo", "name": name}}


def members():
    for name, host in NODES.items():
        member = {"name": name, "role": "leader" if name == LEADER else "replica", "host": host, "port": 5432,
                  "state": "running" if name == LEADER else "streaming", "timeline": 3,
                  "api_url": f"http://{host}:8008/patroni"}
        yield member if name == LEADER else member | {"lag": 0}


class Patroni(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        name = next(name for name, host in NODES.items() if host == self.server.server_address[0])
        answers = {"/leader": report(name), "/cluster": {"members": list(members()), "scope": "demo"}, "/config": {"ttl": 30}}
        body = json.dumps(answers.get(self.path, {})).encode()
        is_no = self.path not in answers or (self.path == "/leader" and name != LEADER)
        self.send_response(503 if is_no else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def message(kind, body):
    return kind + struct.pack("!I", len(body) + 4) + body


class Postgres(socketserver.StreamRequestHandler):
    """Answers every query with one row: whether this node is in recovery."""

    def handle(self):
        while (code := struct.unpack("!I", self.packet()[:4])[0]) in (SSL_REQUEST, GSS_REQUEST):
            self.wfile.write(b"N")
        if code == CANCEL_REQUEST:
            return
        ready = message(b"Z", b"I")
        settings = b"".join(message(b"S", b"%s\0%s\0" % pair) for pair in [
            (b"server_version", b"15.18"), (b"client_encoding", b"UTF8"), (b"standard_conforming_strings", b"on")])
        self.wfile.write(message(b"R", struct.pack("!I", 0)) + settings + ready)
        value = b"f" if self.server.server_address[0] == NODES[LEADER] else b"t"
        column = b"pg_is_in_recovery\0" + struct.pack("!IHIHIH", 0, 0, 16, 1, 0xFFFFFFFF, 0)
        answer = (message(b"T", struct.pack("!H", 1) + column) + message(b"D", struct.pack("!HI", 1, 1) + value)
                  + message(b"C", b"SELECT 1\0") + ready)
        while (kind := self.rfile.read(1)) not in (b"", b"X"):
            self.packet()
            if kind == b"Q":
                self.wfile.write(answer)

    def packet(self):
        """The next one without its length."""
        length = struct.unpack("!I", self.rfile.read(4))[0]
        assert 4 <= length <= 1 << 20, length
        return self.rfile.read(length - 4)


def start():
    socketserver.ThreadingTCPServer.allow_reuse_address = True
    # A client that leaves in the middle is none of the server's business.
    socketserver.BaseServer.handle_error = lambda *_: None
    for host in NODES.values():
        servers = http.server.ThreadingHTTPServer((host, 8008), Patroni), socketserver.ThreadingTCPServer((host, 5432), Postgres)
        for server in servers:
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, daemon=True).start()
