#!/usr/bin/env python3
"""What balancers ask, are answered, and dial, as the kernel carries it: taken from the loopback device, past all of them.

Told as lines of JSON, with the kernel's own time of each packet (Unix time, seconds):
  closed a balancer's first packet of an end, FIN or RST, to a client: balancer, the client's port, at
  dial   the first packet of a connection to PostgreSQL: node, the dialler's port, at
  check  one of a balancer's questions to Patroni about who takes writes: who asked (told by its request), node, begun, the
         status and what the body said (no status: no answer came), `answered`, when the answer's last byte was delivered,
         and `taken`, when the asker closed the connection, by which it has read the answer; its decision comes after that
  members  the same for pilotfish's question after all members; a node may be heard of in its answer
  end    how many packets the kernel dropped for want of room: with any the rest is not to be trusted

Root only. Until standard input ends. Formats: packet(7), socket(7), and RFC 9293 for the header of TCP.
"""
from __future__ import annotations

import ctypes
import json
import select
import socket
import struct
import sys
from argparse import ArgumentParser
from dataclasses import dataclass
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(1, str(Path(__file__).resolve().parents[2] / "benches/failover"))

from client import tell

POSTGRES_PORT, REST_PORT, BALANCER_PORT = 5432, 8008, 5000
ETH_P_IP, SOL_PACKET, PACKET_STATISTICS = 0x0800, 263, 6
SO_ATTACH_FILTER, SO_RCVBUFFORCE, SO_TIMESTAMPNS = 26, 33, 35
ROOM_BYTES, LARGEST_PACKET = 64 << 20, 1 << 17
FIN, SYN, RST, ACK = 1, 2, 4, 16
# Classic BPF: load word, half, byte; and; jump if equal, if any bit is set; return.
LDW, LDH, LDB, AND, JEQ, JSET, RET = 0x20, 0x28, 0x30, 0x54, 0x15, 0x45, 0x06
PACKET_TYPE, OUTGOING = 0xFFFFF004, 4  # each packet passes loopback twice: on its way out and on its way in
PROTOCOL, SOURCE, DESTINATION, SOURCE_PORT, DESTINATION_PORT, FLAGS = 9, 12, 16, 20, 22, 33  # without options of IP
ASKERS = (("pilotfish", "check", "GET /leader ", "user-agent: pilotfish/"),
          ("pilotfish", "members", "GET /cluster ", "user-agent: pilotfish/"),
          ("tuned", "check", "GET /primary ", ""), ("template", "check", "HEAD /primary ", ""))


def filter_of(net: str) -> bytes:
    """Packets that come in, of this net: first ones to PostgreSQL, last ones from balancers, all to and from Patroni."""
    wanted = int.from_bytes(socket.inet_aton(f"{net}.0"), "big")
    steps = [  # code, operand, and for a jump where to go: if so, if not; None is the next one
        ("", LDW, PACKET_TYPE), ("", JEQ, OUTGOING, "drop", None),
        ("", LDB, PROTOCOL), ("", JEQ, socket.IPPROTO_TCP, None, "drop"),
        ("", LDW, DESTINATION), ("", AND, 0xFFFFFF00), ("", JEQ, wanted, "ports", None),
        ("", LDW, SOURCE), ("", AND, 0xFFFFFF00), ("", JEQ, wanted, "ports", "drop"),
        ("ports", LDH, SOURCE_PORT), ("", JEQ, REST_PORT, "take", None), ("", JEQ, BALANCER_PORT, "last", None),
        ("", LDH, DESTINATION_PORT), ("", JEQ, REST_PORT, "take", None), ("", JEQ, POSTGRES_PORT, None, "drop"),
        ("", LDB, FLAGS), ("", AND, SYN | ACK), ("", JEQ, SYN, "take", "drop"),
        ("last", LDB, FLAGS), ("", JSET, FIN | RST, "take", "drop"),
        ("take", RET, LARGEST_PACKET), ("drop", RET, 0)]
    places = {step[0]: at for at, step in enumerate(steps) if step[0]}

    def skip(at: int, to: str | None) -> int:
        return places[to] - at - 1 if to else 0
    return b"".join(struct.pack("HBBI", code, *(skip(at, to) for to in (jumps or (None, None))), operand)
                    for at, (_, code, operand, *jumps) in enumerate(steps))


def open_wire(net: str) -> socket.socket:
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
    program = ctypes.create_string_buffer(steps := filter_of(net), len(steps))
    wire.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", len(steps) // 8, ctypes.addressof(program)))
    wire.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM_BYTES)
    wire.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    wire.bind(("lo", ETH_P_IP))
    return wire


@dataclass
class Question:
    """One connection to a node's REST API."""
    begun: float
    asked: bytes = b""
    answer: bytes = b""
    answered: float | None = None

    def asker(self) -> tuple[str, str] | None:
        """Who asks, and for what."""
        said = self.asked.decode(errors="replace")
        return next(((who, what) for who, what, line, header in ASKERS if said.startswith(line) and header in said.lower()), None)

    def content(self) -> dict:
        """An answer that was broken off is none; only one to HEAD has no body."""
        head, _, body = self.answer.partition(b"\r\n\r\n")
        words = head.split()
        if len(words) < 2 or not words[1].isdigit():
            return {"status": None}
        try:
            told = {} if self.asked.startswith(b"HEAD") else json.loads(body)
        except ValueError:
            return {"status": None}
        return {"status": int(words[1]), "has_body": bool(told), "role": told.get("role"), "state": told.get("state"),
                "timeline": told.get("timeline")}


class Watch:
    def __init__(self):
        self.questions: dict[tuple[bytes, int], Question] = {}

    def packet(self, packet: bytes, at: float) -> None:
        start = 4 * (packet[0] & 15)
        length = struct.unpack_from("!H", packet, 2)[0]
        source, destination = struct.unpack_from("!HH", packet, start)
        data = packet[start + 4 * (packet[start + 12] >> 4):length]
        flags = packet[start + 13]
        if destination == POSTGRES_PORT:
            tell(kind="dial", node=socket.inet_ntoa(packet[16:20]), port=source, at=at)
        elif source == BALANCER_PORT:
            tell(kind="closed", balancer=socket.inet_ntoa(packet[12:16]), port=destination, at=at)
        elif destination == REST_PORT:
            self.to_patroni((packet[16:20], source), flags, data, at)
        else:
            self.from_patroni((packet[12:16], destination), flags, data, at)

    def to_patroni(self, key: tuple[bytes, int], flags: int, data: bytes, at: float) -> None:
        if flags & SYN:
            self.questions[key] = Question(at)
        elif question := self.questions.get(key):
            question.asked += data
            if flags & (FIN | RST):
                self.told(key, at)

    def from_patroni(self, key: tuple[bytes, int], flags: int, data: bytes, at: float) -> None:
        if question := self.questions.get(key):
            question.answer += data
            if data:
                question.answered = at
            if flags & RST:
                self.told(key, at)

    def told(self, key: tuple[bytes, int], at: float) -> None:
        question = self.questions.pop(key)
        if known := question.asker():
            tell(kind=known[1], asker=known[0], node=socket.inet_ntoa(key[0]), begun=question.begun, answered=question.answered,
                 taken=at, **question.content())


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("net", help="its first three octets")
    wire, watch = open_wire(parser.parse_args().net), Watch()
    while True:
        ready, _, _ = select.select([wire, sys.stdin], [], [])
        if wire in ready:
            packet, about, _, _ = wire.recvmsg(LARGEST_PACKET, 64)
            seconds, nanoseconds = next(struct.unpack("ll", data) for _, kind, data in about if kind == SO_TIMESTAMPNS)
            watch.packet(packet, seconds + nanoseconds / 1e9)
        elif sys.stdin in ready and not sys.stdin.buffer.read1(1):
            _, dropped = struct.unpack("II", wire.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
            tell(kind="end", dropped=dropped)
            return


if __name__ == "__main__":
    main()
