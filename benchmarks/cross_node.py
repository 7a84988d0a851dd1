"""Broadcasts across two nodes: how many a second reach the members of the node that did not take them.

``python -m benchmarks.cross_node``; about two minutes. Needs Linux. Writes the figures to results/cross_node.json and
the table into README.md.

One group has 100 members on each of two daemons, each with one process, linked over loopback without TLS. The members
of the first node broadcast 128 bytes in turns, one each or many at once; every broadcast goes to the other 99 there,
which is not counted, and to the 100 of the second one, which is. All members are raw sockets in one process of their
own (`cross_node_load`).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.cross_node_load import MESSAGE_BYTES, PATIENCE_SECONDS
from benchmarks.machine import machine
from benchmarks.page import write_between
from tests.integration.cluster import Node, cluster_config

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"

MEMBERS = 100
SECONDS = 8.0
#: The middle one counts.
RUNS = 3
#: Broadcasts that one member writes at once.
BURSTS = (1, 100)

_BEGIN, _END = "<!-- cross_node: written by cross_node.py -->", "<!-- cross_node: end -->"


def run_load(first: Node, second: Node, burst: int) -> dict[str, float]:
    """Let the members talk, in a process of their own."""
    assert first.process is not None
    assert second.process is not None
    job = {
        "first": first.address("tcp"),
        "second": second.address("tcp"),
        "pids": [first.process.pid, second.process.pid],
        "members": MEMBERS,
        "burst": burst,
        "seconds": SECONDS,
    }
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.cross_node_load", json.dumps(job)],
        cwd=HERE.parent,
        capture_output=True,
        timeout=SECONDS + 4 * PATIENCE_SECONDS,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the load failed: {done.stderr.decode()[-2000:]}")
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def measure_once(burst: int) -> dict[str, float]:
    """Two new nodes, one run."""
    with Node(cluster_config("a")) as first, Node(cluster_config("b", "pb:" + first.places["mesh"])) as second:
        for node in (first, second):
            node.wait_linked(1)
        return run_load(first, second, burst)


def measure() -> dict[str, Any]:
    """All runs, and what they were measured on."""
    runs = {}
    for burst in BURSTS:
        found = [measure_once(burst) for _ in range(RUNS)]
        runs[str(burst)] = sorted(found, key=lambda run: run["deliveries_per_second"])
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "runs": runs,
    }


def table(figures: dict[str, Any]) -> str:
    """The figures as a table in Markdown."""
    lines = [
        f"Measured on {figures['date']}: {figures['machine']}. Broadcasts of {MESSAGE_BYTES} bytes, {MEMBERS} members "
        f"on each node, the middle one of {RUNS} runs of {SECONDS:.0f} seconds, in brackets the slowest; busy is the "
        "share of one core:",
        "",
        "| broadcasts in one write | deliveries a second at the second node | first node busy | second | members |",
        "|---:|---:|---:|---:|---:|",
    ]
    for burst in BURSTS:
        runs = figures["runs"][str(burst)]
        middle = runs[len(runs) // 2]
        busy = [f"{middle[f'{who}_busy']:.0%}" for who in ("first", "second", "members")]
        rates = f"{middle['deliveries_per_second']:,.0f} ({runs[0]['deliveries_per_second']:,.0f})"
        lines.append(f"| {burst} | {rates} | {' | '.join(busy)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description="Broadcasts across two nodes.")
    parser.add_argument("--once", action="store_true", help="one run of each kind, the figures are only printed")
    parser.add_argument("--table", action="store_true", help="only write the table of what was measured before")
    arguments = parser.parse_args()
    if arguments.once:
        print(json.dumps({burst: measure_once(burst) for burst in BURSTS}, indent=1))
        return
    RESULTS.mkdir(exist_ok=True)
    stored = RESULTS / "cross_node.json"
    if not arguments.table:
        stored.write_text(json.dumps(measure(), indent=1) + "\n")
    figures = json.loads(stored.read_text())
    write_between(HERE / "README.md", _BEGIN, _END, table(figures))
    print(table(figures))


if __name__ == "__main__":
    main()
