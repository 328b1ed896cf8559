#!/usr/bin/env python3
"""The judgements of the long runs, on stories that are made up: what is to be found in each is found, and nothing else.

Takes a second and no cluster; needs the Python environment of deploy/setup cluster.
"""
import sys
import unittest
from collections import Counter
from dataclasses import replace
from math import inf
from pathlib import Path
from types import SimpleNamespace

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
for beside in ("benches/failover", "benches/common"):
    sys.path.insert(1, str(HERE.parents[1] / beside))

import soak
from account import Account
from evidence import Check, History, Outlived, former
from ledger import SILENT_BOUND_S, Book, Ledger
from pilotfish import Figures
from tally import Tally
from wire import Question

A, B = "10.0.0.1", "10.0.0.2"


def check(at: float, node: str, status: int, role="primary", state="running", timeline=1, has_body=True) -> Check:
    """Read a hundredth of a second after it was delivered."""
    return Check(node, at - 0.01, at, status, has_body, role, state, timeline)


def history(*checks: Check) -> History:
    story = History()
    for each in sorted(checks, key=lambda check: check.taken):
        story.add(each)
    return story


class Answers(unittest.TestCase):
    def test_which_are_good(self):
        for good, answer in (
                (True, check(0, A, 200)), (True, check(0, A, 200, role="master")),
                (True, check(0, A, 200, state="starting")), (False, check(0, A, 200, state="starting", timeline=None)),
                (False, check(0, A, 200, role="replica")), (False, check(0, A, 200, state="stopping", timeline=None)),
                (False, check(0, A, 503)), (False, check(0, A, 503, role="replica")),
                (True, check(0, A, 200, None, None, None, has_body=False)),
                (False, check(0, A, 503, None, None, None, has_body=False))):
            self.assertEqual(answer.is_good, good, answer)


class Wire(unittest.TestCase):
    pilotfish = b"GET /leader HTTP/1.1\r\nUser-Agent: pilotfish/0.1.0\r\n\r\n"

    def test_who_asks_for_what(self):
        for asked, known in (
                (self.pilotfish, ("pilotfish", "check")), (self.pilotfish.replace(b"leader", b"cluster"), ("pilotfish", "members")),
                (b"GET /leader HTTP/1.1\r\n\r\n", None), (b"GET /primary HTTP/1.0\r\n\r\n", ("tuned", "check")),
                (b"HEAD /primary HTTP/1.0\r\n\r\n", ("template", "check")), (b"HEAD /replica HTTP/1.0\r\n\r\n", None)):
            self.assertEqual(Question(0, asked).asker(), known, asked)

    def test_an_answer_that_was_broken_off_is_none(self):
        head = b"HTTP/1.0 503 Service Unavailable\r\nContent-Type: application/json\r\n\r\n"
        for asked, answer, status in (
                (self.pilotfish, head + b'{"state": "running", "role": "replica"}', 503), (self.pilotfish, head + b'{"sta', None),
                (self.pilotfish, head, None), (self.pilotfish, b"HTTP/1.0 5", None), (self.pilotfish, b"", None),
                (b"HEAD /primary HTTP/1.0\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n", 200)):
            self.assertEqual(Question(0, asked, answer).content()["status"], status, answer)


class Misroutes(unittest.TestCase):
    # A leads, is denied at 10, and B is verified at 12; A never says anything again.
    handover = history(check(1, A, 200), check(1, B, 503, "replica"), check(10, A, 503), check(11, B, 200, "replica"),
                       check(12, B, 200, timeline=2))
    # A leads and falls silent; B is verified at 12, and A comes back as the leader of a newer timeline.
    silence = history(check(1, A, 200), check(1, B, 503, "replica"), check(12, B, 200, timeline=2), check(20, A, 200, timeline=3))

    def test_of_new_sessions(self):
        for story, node, dialled, why in (
                (self.handover, A, 9.999, None), (self.handover, A, 10.001, "denied"), (self.handover, A, 99, "denied"),
                (self.handover, B, 5, "denied"), (self.handover, B, 11.5, "denied"), (self.handover, B, 12.001, None),
                (self.handover, "10.0.0.3", 12.001, "superseded"),
                (self.silence, A, 11, None), (self.silence, A, 12.001, "superseded"), (self.silence, B, 12.001, None),
                (self.silence, A, 20.001, None), (self.silence, B, 20.001, "superseded")):
            self.assertEqual(story.misroute(node, dialled), why, (node, dialled))

    def test_a_dial_between_the_answer_and_its_reading_is_under_way(self):
        for dialled, expected in ((9.98, False), (9.995, True), (10.001, False)):
            self.assertEqual(self.handover.is_under_way(A, dialled), expected, dialled)

    def test_of_two_on_one_timeline_the_later_one_is_verified(self):
        story = history(check(1, A, 200, None, None, None, False), check(2, B, 200, None, None, None, False),
                        check(3, A, 200, None, None, None, False))
        self.assertEqual((story.verified(1.5), story.verified(4)), (A, B))

    def test_open_sessions(self):
        for story, node, since, ended, stale in (
                (self.handover, A, 2, 30, 10), (self.handover, A, 2, 9, inf), (self.handover, B, 13, 30, inf),
                (self.silence, A, 2, 30, 12), (self.silence, A, 2, 11, inf), (self.silence, B, 13, 30, 20)):
            self.assertEqual(story.stale_since(node, since, ended), stale, (node, since, ended))

    def test_what_open_sessions_outlive(self):
        for story, node, since, ended, outlived in (
                (self.handover, A, 2, 30, Outlived(20, 20, None)), (self.handover, A, 2, 9, Outlived(None, None, 8)),
                (self.silence, A, 2, 30, Outlived(18, None, None)), (self.silence, A, 2, 11, Outlived(None, None, 10))):
            self.assertEqual(story.outlived(node, since, ended), outlived, (node, since, ended))

    def test_silence_counts_from_the_last_answer_or_list(self):
        self.assertEqual(self.silence.silent_for(A, 15), 14)
        story = history(check(1, A, 200))
        story.take({"kind": "members", "status": 200, "taken": 5})
        story.take({"kind": "members", "status": 503, "taken": 9})
        self.assertEqual(story.silent_for(A, 15), 10)

    def test_a_former_leader_is_told_by_its_timeline(self):
        writes = [(1.0, 1), (10.0, 2)]
        for timeline, dialled, expected in ((1, 9, False), (1, 11, True), (2, 11, False), (None, 11, False)):
            self.assertEqual(former(timeline, dialled, writes), expected, (timeline, dialled))


class Ends(unittest.TestCase):
    """What the ledger makes of a session on A that began at 2, as clients and the wire tell of its end."""
    client, balancer = 40001, "10.0.0.9"

    def book_of(self, story: History, kind: str, ended: float, *closed: float) -> Ledger:
        told = [{"kind": kind, "how": "idle", "node": A, "since": 2, "ended": ended, "client": self.client}]
        wire = [{"kind": "closed", "balancer": self.balancer, "port": self.client, "at": at} for at in closed]
        contender = SimpleNamespace(title="made up", conninfo=f"host={self.balancer}")
        ledger = Ledger(contender, SimpleNamespace(told=told))
        ledger.history = story
        book = Book(SimpleNamespace(told=[*wire, {"kind": "end", "dropped": 0}]), SimpleNamespace(told=[]), {"made up": ledger})
        book.digest()
        self.assertEqual((book.dropped, ledger.read), (0, 1))
        return ledger

    def test_stale_sessions(self):
        handover = Misroutes.handover  # A is denied at 10
        for kind, ended, closed, stale_s, is_late, is_open in (
                ("ended", 10.5, [], [0.5], False, 0), ("ended", 30, [10.5], [0.5], False, 0),
                ("ended", 30, [], [20], True, 0), ("ended", 9, [], [], False, 0),
                # It ended by itself, and another had its port soon.
                ("ended", 10.5, [17], [0.5], False, 0), ("ended", 9, [17], [], False, 0),
                # It has never ended, though another that had its port before has, and though it was closed when all was over.
                ("open", 30, [], [20], True, 1), ("open", 30, [1.5, 31], [20], True, 1), ("open", 10.5, [], [0.5], False, 1),
                ("open", 9, [], [], False, 1),
                # The client was not yet told of the end.
                ("open", 10.6, [10.5], [0.5], False, 0)):
            ledger = self.book_of(handover, kind, ended, *closed)
            found = ledger.stale_s, bool(ledger.complaints()), ledger.counted["open at the end"]
            self.assertEqual(found, (stale_s, is_late, is_open), (kind, ended, closed))

    def test_sessions_of_a_silent_node(self):
        silence = history(check(1, A, 200))
        for kind, ended, silent_s, is_late in (
                ("ended", 21, [20], False), ("ended", 41, [40], True), ("ended", 3, [], False),
                ("open", 41, [40], True), ("open", 1 + SILENT_BOUND_S - 1, [], False)):
            ledger = self.book_of(silence, kind, ended)
            self.assertEqual((ledger.silent_s, bool(ledger.complaints())), (silent_s, is_late), (kind, ended))


class Faults(unittest.TestCase):
    def test_one_that_could_not_be_played_is_none(self):
        tally = Tally()
        for counts, fault, title, row in (
                (tally.played, "a", "1 faults", ["a", 1, 0]), (tally.failed, "a", "1 faults and 1 that could not be played", ["a", 1, 1]),
                (tally.failed, "b", "1 faults and 2 that could not be played", ["b", 0, 1])):
            counts[fault] += 1
            self.assertEqual(tally.title(), title)
            self.assertIn(row, tally.rows())


class Numbers(unittest.TestCase):
    told = [{"n": 1, "became": "acknowledged"}, {"n": 2, "became": "acknowledged"}, {"n": 3, "became": "unknown", "why": "cut"},
            {"n": 4, "became": "failed", "why": "read-only"}, {"n": 5, "became": "unknown"}]

    def test_what_is_lost_and_what_is_unexpected(self):
        for found, lost, unexpected in (
                ([1, 2], set(), set()), ([1, 2, 3], set(), set()), ([1, 3], {2}, set()), ([], {1, 2}, set()),
                ([1, 2, 4], set(), {4}), ([1, 2, 9], set(), {9}), ([1, 2, 2], set(), {2}), ([1, 2, 3, 3], set(), {3})):
            account = Account.of(self.told)
            self.assertEqual((account.lost(Counter(found)), account.unexpected(Counter(found))), (lost, unexpected), found)


class Soaks(unittest.TestCase):
    start = Figures(27, 4, 26, 5, 13 << 20, 15 << 20, 0, 0, 0)

    def test_what_is_not_back_at_its_start(self):
        for named, end in (
                ([], self.start), ([], replace(self.start, descriptors=26, pipes=8)),
                (["descriptors"], replace(self.start, descriptors=28)), (["watched"], replace(self.start, watched=27)),
                (["threads"], replace(self.start, threads=6)), (["pipes"], replace(self.start, pipes=soak.MOST_PIPES + 2)),
                (["sessions", "clients"], replace(self.start, sessions=1, clients=1)), (["held"], replace(self.start, held=1)),
                ([], replace(self.start, pss_bytes=20 << 20)), (["memory"], replace(self.start, pss_bytes=22 << 20))):
            self.assertEqual([each.partition(":")[0] for each in soak.judged(self.start, end)], named, end)

    def test_slope(self):
        for values, expected in (([5] * 20, 0), (list(range(0, 200, 10)), 10), ([1, 2, 3], None)):
            self.assertEqual(soak.slope_of(values), expected, values)
        self.assertFalse(soak.judged_slope(soak.SLOPE_BOUND))
        self.assertTrue(soak.judged_slope(soak.SLOPE_BOUND + 1))


unittest.main()
