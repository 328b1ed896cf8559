"""One run told line by line, in seconds since the blow: to see why a number is what it is."""
from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

from cluster import monotonic_of
from tally import Outcome, Reign, Timeline

ERRORS_TOLD = {"pilotfish": 200}  # of one contender; the rest is counted below
ERRORS_OF_OTHERS = 5
PATRONI_BORES = (
    "no action", "Lock owner:", "Got response from", "heartbeat connection", "restapi connection", "get_postgresql_status",
    "Retrying on", "Reconnection allowed", "Request to server", "Failed to get list of machines", "watchprefix failed")
# A break is told by the client that felt it; the others are fresh clients that are done.
ENDS_THAT_BORE = ("client_closed", "backend_closed")
LINE = 300


def tell(path: Path, title: str, times: Timeline, reigns: list[Reign], loads: dict[str, list[dict]],
         outcomes: dict[str, Outcome], patroni: list[tuple[float, str]], pilotfish_log: Path) -> None:
    lines = [(times.struck, title), (times.ended, "end")]
    for reign in reigns:
        lines.append((reign.since, f"oracle: first direct write on {reign.seat}, timeline {reign.timeline}"))
        lines.append((reign.until, f"oracle: last direct write on {reign.seat}"))
    lines += [(when, text) for when, text in patroni if not any(bore in text for bore in PATRONI_BORES)]
    for key, told in loads.items():
        lines += list(of_contender(key, told, times))
    if pilotfish_log.exists():
        lines += of_pilotfish(pilotfish_log)
    with path.open("w") as file:
        for when, text in sorted(lines):
            if times.struck - 1 <= when <= times.ended:
                file.write(f"{when - times.struck:+9.3f}  {text[:LINE]}\n")
        for key, outcome in outcomes.items():
            file.write(f"\n{key}: {json.dumps(outcome.numbers(), default=str)}\n")
            file.writelines(f"  {count:6} {text}\n" for text, count in outcome.errors.most_common())


def of_contender(key: str, told: list[dict], times: Timeline):
    """Its first errors, and who was the first to write on a new seat, beside the writer."""
    errors, seats = 0, set()
    for record in told:
        who = "late" if record["step"] == "late" else "writer" if record["lane"] == 0 else f"fresh {record['lane']}"
        if "error" in record and record["done"] >= times.struck:
            errors += 1
            if errors <= ERRORS_TOLD.get(key, ERRORS_OF_OTHERS):
                took = record["done"] - record["begun"]
                yield record["done"], f"{key} {who}: {record['step']} failed after {took:.3f} s: {record['error']}"
        elif record.get("seat") and (record["seat"], record["lane"] == 0) not in seats:
            seats.add((record["seat"], record["lane"] == 0))
            yield record["done"], f"{key} {who}: first write on {record['seat']}"
        elif record["step"] == "unfinished":
            yield record["done"], f"{key} {who}: still waits, since {record['done'] - record['begun']:.3f} s"


def of_pilotfish(log: Path) -> list[tuple[float, str]]:
    lines = []
    for line in log.read_text(errors="replace").splitlines():
        try:
            entry = json.loads(line)
            when = datetime.fromisoformat(entry.pop("timestamp").replace("Z", "+00:00")).timestamp()
        except (ValueError, KeyError, AttributeError):
            continue  # not one of its log lines
        level, message = entry.pop("level", ""), entry.pop("message", "")
        if message == "session ended" and entry.get("cause") in ENDS_THAT_BORE and entry.get("phase") == "relaying":
            continue
        lines.append((monotonic_of(when), f"pilotfish says {level}: {message} {json.dumps(entry) if entry else ''}"))
    return lines
