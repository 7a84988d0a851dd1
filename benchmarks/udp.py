"""UDP: what a packet costs next to a bare loop that seals and sends, and how many messages one address gets.

``python -m benchmarks.udp``; about two minutes. Needs Linux; as root the members have receive buffers that lose
nothing. Writes the figures to results/udp.json and the table into README.md. ``--table`` only writes what was measured
before.

The node is the whole daemon with one process on one processor, as `run.py` has it; members and publisher are one other
process on another processor (`udp_load`). The bare loop runs where the node runs, in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from benchmarks.page import write_between
from benchmarks.servers import SECRET, SERVER_CPU, on_processor
from tests.integration.daemon import Daemon

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"

#: Of each figure the middle one counts; a ratio is that of one run.
RUNS = 5
SECONDS = 3.0
MEMBERS = (100, 1000)
PER_SECOND = 100
MESSAGE_BYTES = 128
#: Many together are small ones; those of 128 bytes are measured beside them.
PACKED_BYTES = (32, 128)

#: (what, wanted, key)
GOALS = (
    ("single messages to 1,000, packets for each processor second / bare loop", 0.8, "rounds1000_ratio"),
    ("packed to one address, messages of 32 bytes a second", 1_000_000, "packed32_rate"),
)

_BEGIN, _END = "<!-- udp: written by udp.py -->", "<!-- udp: end -->"


def run_load(**job: Any) -> dict[str, float]:
    """Run one job of `udp_load` in a process of its own, on another processor."""
    with on_processor(SERVER_CPU + 1):
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.udp_load", json.dumps(job)],
            cwd=HERE.parent,
            capture_output=True,
            timeout=job["seconds"] + 60,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"the load failed: {done.stderr.decode()[-2000:]}")
    figures: dict[str, float] = json.loads(done.stdout)
    print(job["mode"], job["members"], "bare" if job.get("is_bare") else "", figures, flush=True)
    return figures


def measure_node(**job: Any) -> dict[str, float]:
    """Run one job against a daemon of its own."""
    with tempfile.TemporaryDirectory() as directory:
        secret = Path(directory) / "secret"
        secret.write_text(SECRET)
        # Nobody is asked whether they are there: the members say nothing for longer than clients may.
        daemon = Daemon(
            {
                "auth": {"mode": "token", "secret_file": str(secret)},
                "node": {"drain_seconds": 0.2},
                "session": {
                    "commands_per_second": 1_000_000,
                    "heartbeat_seconds": 3600,
                    "udp_ttl_seconds": 3600,
                },
            }
        )
        with on_processor(SERVER_CPU):
            daemon.__enter__()
        try:
            assert daemon.process is not None
            return run_load(
                tcp=daemon.address("tcp"),
                http=daemon.address("http"),
                pid=daemon.process.pid,
                secret=SECRET,
                **job,
            )
        finally:
            daemon.__exit__(*sys.exc_info())


def measure_bare(**job: Any) -> dict[str, float]:
    """Run one job against the loop that seals and sends."""
    return run_load(is_bare=True, cpu=SERVER_CPU % (os.cpu_count() or 1), **job)


def measure_all(runs: int, seconds: float) -> dict[str, Any]:
    """All figures, and what they were measured on."""
    found: dict[str, list[dict[str, float]]] = {}
    for _ in range(runs):
        for members in MEMBERS:
            job = {"mode": "rounds", "members": members, "message_bytes": MESSAGE_BYTES, "seconds": seconds}
            found.setdefault(f"rounds{members}", []).append(measure_node(**job))
            found.setdefault(f"bare{members}", []).append(measure_bare(**job))
            job |= {"mode": "paced", "per_second": PER_SECOND}
            found.setdefault(f"paced{members}", []).append(measure_node(**job))
        for size in PACKED_BYTES:
            job = {"mode": "packed", "members": 1, "message_bytes": size, "seconds": seconds}
            found.setdefault(f"packed{size}", []).append(measure_node(**job))
    return {"date": time.strftime("%Y-%m-%d"), "machine": machine(), "runs": found}


def _middle(runs: list[dict[str, float]], key: str) -> float:
    return statistics.median(run[key] for run in runs)


def summary(runs: dict[str, list[dict[str, float]]]) -> dict[str, float]:
    """The middle of each figure."""
    found = {f"packed{size}_rate": _middle(runs[f"packed{size}"], "packets_per_second") for size in PACKED_BYTES}
    for members in MEMBERS:
        pairs = zip(runs[f"rounds{members}"], runs[f"bare{members}"], strict=True)
        found[f"rounds{members}_ratio"] = statistics.median(
            node["per_server_second"] / bare["per_server_second"] for node, bare in pairs
        )
    return found


def table(figures: dict[str, Any]) -> str:
    """The figures as tables in Markdown."""
    runs, middles = figures["runs"], summary(figures["runs"])
    lines = [
        f"Measured on {figures['date']}: {figures['machine']}. Messages of {MESSAGE_BYTES} bytes, the middle one of "
        f"{len(runs['packed128'])} runs:",
        "",
        "| one message at a time to | node, packets for each processor second | bare loop | ratio |",
        "|---:|---:|---:|---:|",
    ]
    for members in MEMBERS:
        node, bare = (_middle(runs[f"{kind}{members}"], "per_server_second") for kind in ("rounds", "bare"))
        lines.append(f"| {members:,} | {node:,.0f} | {bare:,.0f} | {middles[f'rounds{members}_ratio']:.2f} |")
    lines += [
        "",
        f"| {PER_SECOND} messages a second to | p50, ms | p99, ms | processor, µs each | lost |",
        "|---:|---:|---:|---:|---:|",
    ]
    for members in MEMBERS:
        p50, p99, cost, lost = (
            _middle(runs[f"paced{members}"], key) for key in ("p50_ms", "p99_ms", "server_us", "lost")
        )
        lines.append(f"| {members:,} | {p50:.2f} | {p99:.2f} | {cost:.2f} | {lost:,.0f} |")
    lines += [
        "",
        "| to one address as fast as it is taken, messages of | a second | in a packet | processor, µs each | lost |",
        "|---:|---:|---:|---:|---:|",
    ]
    for size in PACKED_BYTES:
        keys = ("packets_per_second", "in_packet", "server_us", "lost")
        rate, packed, cost, lost = (_middle(runs[f"packed{size}"], key) for key in keys)
        lines.append(f"| {size} bytes | {rate:,.0f} | {packed:.1f} | {cost:.2f} | {lost:,.0f} |")
    lines += [
        "",
        "| goal | wanted | measured | |",
        "|---|---:|---:|---|",
    ]
    for title, wanted, key in GOALS:
        mark = "reached" if middles[key] >= wanted else "not reached"
        lines.append(f"| {title} | ≥ {wanted:,} | {middles[key]:,.2f} | {mark} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description="UDP next to a bare loop that seals and sends.")
    parser.add_argument("--table", action="store_true", help="only write the table of what was measured before")
    parser.add_argument("--runs", type=int, default=RUNS, help="the middle one counts")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each run")
    parser.add_argument("--print", action="store_true", help="write no file")
    arguments = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    stored = RESULTS / "udp.json"
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    figures = json.loads(stored.read_text()) if arguments.table else measure_all(arguments.runs, arguments.seconds)
    print(table(figures))
    if arguments.print:
        return
    stored.write_text(json.dumps(figures, indent=1) + "\n")
    write_between(HERE / "README.md", _BEGIN, _END, table(figures))


if __name__ == "__main__":
    main()
