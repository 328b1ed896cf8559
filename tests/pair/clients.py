"""Clients that go on for ever, and note of each statement when it began, when it was done and who served it."""

import threading
import time
from dataclasses import dataclass

import psycopg

PAUSE_S = 0.05
TABLE = "CREATE TABLE noted (worker text, number int, PRIMARY KEY (worker, number))"
# The server sees the address that the pilotfish has towards it.
WRITE = "INSERT INTO noted VALUES (%s, %s) RETURNING host(inet_client_addr())"
READ = "SELECT host(inet_client_addr()) WHERE %s <> '' AND %s > 0"
# A writer and a reader keep their session as long as it lasts; a newcomer writes each time over a new one.
KINDS = ("writer", "reader", "newcomer")


@dataclass(frozen=True)
class Try:
    began: float
    ended: float
    server: str | None
    broke: str | None  # what failed: "connect" or "query"
    error: str = ""


class Client(threading.Thread):
    """One of a way: `link` is how it reaches the pilotfish, `machine` where it runs."""

    def __init__(self, way, kind, number, link, machine):
        super().__init__(name=f"{way}-{kind}-{number}", daemon=True)
        self.way, self.kind, self.link, self.machine = way, kind, link, machine
        self.tries, self.acknowledged, self.wanted = [], [], None
        self.ended, self.session = threading.Event(), None

    def run(self):
        self.machine.move_in()
        number = 0
        while not self.ended.wait(PAUSE_S):
            number += 1
            done = self.attempt(number)
            self.tries.append(done)
            if done.server and self.kind != "reader":
                self.acknowledged.append(number)
            if done.broke or self.kind == "newcomer" or self.wanted not in (None, done.server):
                self.leave()
        self.leave()

    def attempt(self, number):
        began, step = time.monotonic(), "connect"
        try:
            if not self.session:
                self.session = psycopg.connect(self.link, autocommit=True, prepare_threshold=None)
            step = "query"
            server = self.session.execute(READ if self.kind == "reader" else WRITE, (self.name, number)).fetchone()[0]
            return Try(began, time.monotonic(), server, None)
        except psycopg.Error as error:
            return Try(began, time.monotonic(), None, step, str(error))

    def leave(self):
        if self.session:
            self.session.close()
        self.session = None

    def served_since(self, moment, servers):
        """Something that began after that moment was done by one of these."""
        return any(done.began > moment and done.server in servers for done in self.tries[-100:])

    def stays_at(self, server):
        """Its session is on this pilotfish; brought about by coming again until it is."""
        self.wanted = server
        return bool(self.tries) and self.tries[-1].server == server

    def longest_gap(self, begin, end):
        """The longest time without something done that reaches into this span, seconds."""
        marks = [done.ended for done in self.tries if done.server]
        gaps = [after - before for before, after in zip(marks, marks[1:]) if after > begin and before < end]
        return max(gaps, default=0.0)

    def broken(self, begin, end):
        return [done for done in self.tries if done.broke and begin < done.ended and done.began < end]


def lost(link, clients):
    """Acknowledged writes that are not there."""
    with psycopg.connect(link) as session:
        there = {tuple(row) for row in session.execute("SELECT worker, number FROM noted")}
    noted = [(client.name, number) for client in clients for number in client.acknowledged]
    return [write for write in noted if write not in there]
