"""Two workers: what a delivered message costs all processes of a daemon together, next to a daemon of one process.

``python -m benchmarks.workers``; about five minutes. Needs Linux. Writes the figures to results/workers.json and the
table into README.md. ``--table`` only writes what was measured before.

One user broadcasts to a group with 200 members over TCP, who are wherever the kernel puts them: with two workers about
half of all messages cross from one to the other. Processor time is that of the supervisor and both workers. Nobody is
pinned: two workers are there for two processors.
"""

from __future__ import annotations

import argparse
import json
import select
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from benchmarks.page import write_between
from benchmarks.servers import SECRET
from benchmarks.udp_load import PATIENCE_SECONDS, Client, token_of
from tests.integration.daemon import Daemon

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"

MEMBERS = 200
MESSAGE_BYTES = 128
WORKERS = (1, 2)
#: Of each figure the middle one counts; a ratio is that of one run.
RUNS = 5
SECONDS = 4.0
WARM_UP_SECONDS = 1.0

#: What is told of each way: (messages on their way, messages a second).
MODES = {"at 100 a second": (0, 100), "at 1,000 a second": (0, 1000), "as fast as it is taken": (512, 0)}

WANTED = 1.2

_FRAME = struct.Struct("!BBHII")
_CREATE, _JOIN, _BROADCAST = 110, 111, 113

_BEGIN, _END = "<!-- workers: written by workers.py -->", "<!-- workers: end -->"


def processor_seconds(pid: int) -> float:
    """What a process and its children that run have spent, user and system.

    To the nanosecond, as the scheduler counts it: ticks of 10 ms, of which a process that wakes briefly gets too many
    or too few, say little about one at a low rate.
    """
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    own = int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
    return own + sum(processor_seconds(int(child)) for child in children)


class Load:
    """One who broadcasts and those who read.

    :param push_bytes: of one delivery.
    """

    def __init__(self, publisher: socket.socket, members: list[socket.socket], said: bytes, push_bytes: int) -> None:
        self._publisher = publisher
        self._said = said
        self._one = push_bytes * len(members)
        self._members = {member.fileno(): member for member in members}
        self._poll = select.epoll()
        for member in members:
            member.setblocking(False)
            self._poll.register(member.fileno(), select.EPOLLIN)
        self._buffer = bytearray(1 << 20)
        self._sent = 0
        self._came_bytes = 0

    @property
    def came(self) -> float:
        """Messages that came to all members, or as many deliveries."""
        return self._came_bytes / self._one

    def run(self, seconds: float, window: int, per_second: int) -> None:
        """Broadcast for a time, then wait until all has come."""
        start = time.monotonic()
        paced = 0
        while (now := time.monotonic()) < start + seconds:
            count, wait = 0, 0.01
            if per_second:
                count = int((now - start) * per_second) - paced
                paced += count
                wait = max(0.0, start + (paced + 1) / per_second - now)
            elif self._sent - self.came <= window * 3 / 4:
                count = window // 4
            if count:
                self._publisher.sendall(self._said * count)
                self._sent += count
            self._read(wait)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.came < self._sent:
            assert time.monotonic() < deadline, "not everything came"
            self._read(0.01)

    def _read(self, wait: float) -> None:
        for number, _ in self._poll.poll(wait):
            size = self._members[number].recv_into(self._buffer)
            assert size, "the node closed a connection"
            self._came_bytes += size


def load_of(job: dict[str, Any]) -> dict[str, float]:
    """Sign everybody in and do one job: ``tcp``, ``pid``, ``secret``, ``window``, ``per_second``, ``seconds``."""
    names = ["publisher", *(f"m{number:06}" for number in range(MEMBERS))]
    clients = [Client(tuple(job["tcp"]), name, token_of(name, job["secret"])) for name in names]
    nodes = [client.welcome["node"] for client in clients]
    publisher = clients[0]
    group_id = publisher.ask(1, _CREATE, struct.pack("!BIH", 3, 3600, 0))
    for client in clients[1:]:
        client.ask(1, _JOIN, group_id)
    # Until all that was told of joins has come to the other worker.
    time.sleep(1)
    said = _FRAME.pack(1, 0, _BROADCAST, 0, len(group_id) + MESSAGE_BYTES) + group_id + bytes(MESSAGE_BYTES)
    push_bytes = len(said) + 1 + len(names[0])
    load = Load(publisher.socket, [client.socket for client in clients[1:]], said, push_bytes)
    load.run(WARM_UP_SECONDS, job["window"], job["per_second"])
    before, came, began = processor_seconds(job["pid"]), load.came, time.monotonic()
    load.run(job["seconds"], job["window"], job["per_second"])
    seconds = time.monotonic() - began
    deliveries = (load.came - came) * MEMBERS
    return {
        "deliveries_per_second": deliveries / seconds,
        "us": 1e6 * (processor_seconds(job["pid"]) - before) / deliveries,
        "elsewhere": sum(node != nodes[0] for node in nodes[1:]),
    }


def run_load(**job: Any) -> dict[str, float]:
    """Run `load_of` in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.workers", "--load", json.dumps(job)],
        cwd=HERE.parent,
        capture_output=True,
        timeout=job["seconds"] + 6 * PATIENCE_SECONDS,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the load failed: {done.stderr.decode()[-2000:]}")
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def measure(workers: int, seconds: float, window: int, per_second: int) -> dict[str, float]:
    """Run one job against a daemon of its own."""
    with tempfile.TemporaryDirectory() as directory:
        secret = Path(directory) / "secret"
        secret.write_text(SECRET)
        config: dict[str, dict[str, Any]] = {
            "auth": {"mode": "token", "secret_file": str(secret)},
            # A worker joins nothing that comes from the other one, as the other one joins nothing of its own clients.
            "group": {"send_interval_ms": 0},
            "node": {"drain_seconds": 0.2, "workers": workers},
            "session": {"commands_per_second": 1_000_000},
        }
        with Daemon(config) as daemon:
            assert daemon.process is not None
            told = {"tcp": daemon.address("tcp"), "pid": daemon.process.pid, "secret": SECRET}
            figures = run_load(**told, seconds=seconds, window=window, per_second=per_second)
    print(workers, window, per_second, figures, flush=True)
    return figures


def measure_all(runs: int, seconds: float) -> dict[str, Any]:
    """All figures, and what they were measured on."""
    found: dict[str, dict[str, list[dict[str, float]]]] = {mode: {} for mode in MODES}
    for _ in range(runs):
        for mode, (window, per_second) in MODES.items():
            for workers in WORKERS:
                found[mode].setdefault(str(workers), []).append(measure(workers, seconds, window, per_second))
    return {"date": time.strftime("%Y-%m-%d"), "machine": machine(), "runs": found}


def table(figures: dict[str, Any]) -> str:
    """The figures as a table in Markdown."""
    runs = figures["runs"]
    count = len(next(iter(runs.values()))["1"])
    lines = [
        f"Measured on {figures['date']}: {figures['machine']}. Messages of {MESSAGE_BYTES} bytes to {MEMBERS} members, "
        f"the middle one of {count} runs:",
        "",
        "| messages | one process, deliveries/s | processor, µs each | two workers, deliveries/s | processor, µs each "
        "| ratio of processor time | wanted | |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for mode, by_workers in runs.items():
        one, two = by_workers["1"], by_workers["2"]
        ratio = statistics.median(second["us"] / first["us"] for first, second in zip(one, two, strict=True))
        cells = [
            form.format(statistics.median(run[key] for run in kind))
            for kind in (one, two)
            for key, form in (("deliveries_per_second", "{:,.0f}"), ("us", "{:.2f}"))
        ]
        mark = "reached" if ratio <= WANTED else "not reached"
        lines.append(f"| {mode} | {' | '.join(cells)} | {ratio:.2f} | ≤ {WANTED} | {mark} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description="Two workers next to one process.")
    parser.add_argument("--table", action="store_true", help="only write the table of what was measured before")
    parser.add_argument("--runs", type=int, default=RUNS, help="the middle one counts")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each run")
    parser.add_argument("--print", action="store_true", help="write no file")
    parser.add_argument("--load", metavar="JOB", help="be the load of one job")
    arguments = parser.parse_args()
    if arguments.load:
        print(json.dumps(load_of(json.loads(arguments.load))))
        return
    RESULTS.mkdir(exist_ok=True)
    stored = RESULTS / "workers.json"
    figures = json.loads(stored.read_text()) if arguments.table else measure_all(arguments.runs, arguments.seconds)
    print(table(figures))
    if arguments.print:
        return
    stored.write_text(json.dumps(figures, indent=1) + "\n")
    write_between(HERE / "README.md", _BEGIN, _END, table(figures))


if __name__ == "__main__":
    main()
