"""A Patroni node that leads, and the server that it speaks of: enough for one pilotfish and one session."""

import http.server
import json
import socketserver
import threading

HOST = "127.0.0.1"
# AuthenticationOk, as PostgreSQL's protocol has it.
WELCOME = b"R\x00\x00\x00\x08\x00\x00\x00\x00"


class Patroni(http.server.BaseHTTPRequestHandler):
    port = None

    def do_GET(self):
        member = {"name": "pg1", "role": "leader", "state": "running", "timeline": 1, "host": HOST,
                  "port": self.port, "api_url": f"http://{HOST}:8008/patroni"}
        report = {"state": "running", "role": "primary", "server_version": 150018, "timeline": 1,
                  "xlog": {"location": 67108864}, "dcs_last_seen": 1795437839,
                  "database_system_identifier": "7711346798149882415",
                  "patroni": {"version": "4.1.5", "scope": "demo", "name": "pg1"}}
        answers = {"/leader": report, "/cluster": {"members": [member], "scope": "demo"}, "/config": {"ttl": 30}}
        body = json.dumps(answers.get(self.path, {})).encode()
        self.send_response(200 if self.path in answers else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.recv(1024)
        self.request.sendall(WELCOME)
        self.request.recv(1024)


def start(server):
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def cluster():
    """One node; Patroni answers at 127.0.0.1:8008."""
    postgres = start(socketserver.ThreadingTCPServer((HOST, 0), Server))
    Patroni.port = postgres.server_address[1]
    start(http.server.ThreadingHTTPServer((HOST, 8008), Patroni))
