"""Direct messages: how many a second go through one node, next to nats-server, and how late they are across two nodes.

``python -m benchmarks.direct``; about three minutes. Needs Linux and, to compare, Debian's nats-server, found in PATH
or named by ``--nats``. Writes the figures to results/direct.json and the table into README.md.

The users are raw sockets in one process of their own (`direct_load`), the node is a daemon with one process. A message
has 64 bytes; each goes to one user, and its sender is answered. nats-server is measured with an answer to each message,
as it is here, and without.
"""

from __future__ import annotations

import argparse
import json
import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.direct_load import MESSAGE_BYTES, PATIENCE_SECONDS
from benchmarks.machine import machine
from benchmarks.page import write_between
from tests.integration.cluster import Node, cluster_config
from tests.integration.daemon import Daemon

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"

PAIRS = (1, 100)
SECONDS = 6.0
#: Of runs at full speed the middle one counts.
RUNS = 3
PER_SECOND = 1000
STEADY_PAIRS = 10
STEADY_SECONDS = 10.0

_BEGIN, _END = "<!-- direct: written by direct.py -->", "<!-- direct: end -->"


def run_load(**job: Any) -> dict[str, float]:
    """Run one job of `direct_load` in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.direct_load", json.dumps(job)],
        cwd=HERE.parent,
        capture_output=True,
        timeout=job["seconds"] + 6 * PATIENCE_SECONDS,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the load failed: {done.stderr.decode()[-2000:]}")
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def _middle(runs: list[dict[str, float]]) -> dict[str, float]:
    return sorted(runs, key=lambda run: run["messages_per_second"])[len(runs) // 2]


def measure_node() -> dict[str, dict[str, float]]:
    """Pairs at full speed through one node: number of pairs -> figures."""
    found = {}
    for pairs in PAIRS:
        with Daemon({"node": {"drain_seconds": 0.2}}) as node:
            runs = [
                run_load(mode="relay", address=node.address("tcp"), pairs=pairs, seconds=SECONDS) for _ in range(RUNS)
            ]
        found[str(pairs)] = _middle(runs)
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def measure_nats(program: str) -> dict[str, dict[str, float]]:
    """The same through nats-server, with an answer to each message and without."""
    port = _free_port()
    server = subprocess.Popen(
        [program, "-a", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        found = {}
        for pairs in PAIRS:
            for is_answered in (True, False):
                job = {"mode": "nats", "address": ("127.0.0.1", port), "is_answered": is_answered}
                runs = [run_load(**job, pairs=pairs, seconds=SECONDS) for _ in range(RUNS)]
                found[f"{pairs}{' answered' if is_answered else ''}"] = _middle(runs)
        return found
    finally:
        server.kill()
        server.wait()


def measure_steady() -> dict[str, float]:
    """A steady rate from the users of one node to those of another."""
    with ExitStack() as stack:
        first = stack.enter_context(Node(cluster_config("a")))
        second = stack.enter_context(Node(cluster_config("b", "pb:" + first.places["mesh"])))
        for node in (first, second):
            node.wait_linked(1)
        return run_load(
            mode="steady",
            address=first.address("tcp"),
            peer_address=second.address("tcp"),
            pairs=STEADY_PAIRS,
            per_second=PER_SECOND,
            seconds=STEADY_SECONDS,
        )


def measure_all(nats: str | None) -> dict[str, Any]:
    """All figures, and what they were measured on."""
    figures: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "node": measure_node(),
        "steady": measure_steady(),
    }
    if nats is None:
        figures["nats_missing"] = "nats-server is not installed"
    else:
        figures["nats"] = measure_nats(nats)
    return figures


def table(figures: dict[str, Any]) -> str:
    """The figures as a table in Markdown."""
    lines = [
        f"Measured on {figures['date']}: {figures['machine']}. Messages of {MESSAGE_BYTES} bytes a second, the middle "
        f"one of {RUNS} runs of {SECONDS:.0f} seconds:",
        "",
        "| pairs | meshrelay | nats-server, answering | ratio | nats-server, not answering | ratio |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    for pairs in PAIRS:
        own = figures["node"][str(pairs)]["messages_per_second"]
        cells = [str(pairs), f"{own:,.0f}"]
        for suffix in (" answered", ""):
            if "nats" in figures:
                other = figures["nats"][f"{pairs}{suffix}"]["messages_per_second"]
                cells += [f"{other:,.0f}", f"{own / other:.2f}"]
            else:
                cells += ["-", "-"]
        lines.append(f"| {' | '.join(cells)} |")
    if "nats" not in figures:
        lines += ["", f"Not compared: {figures['nats_missing']}."]
    steady = figures["steady"]
    lines += [
        "",
        f"Across two nodes on loopback, {PER_SECOND:,} messages a second of {STEADY_PAIRS} pairs for "
        f"{STEADY_SECONDS:.0f} seconds: p50 {steady['p50']:.2f} ms, p99 {steady['p99']:.2f} ms from due to received.",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description="Direct messages through one node and across two.")
    parser.add_argument("--nats", default=shutil.which("nats-server"), help="path of nats-server")
    parser.add_argument("--table", action="store_true", help="only write the table of what was measured before")
    arguments = parser.parse_args()
    RESULTS.mkdir(exist_ok=True)
    stored = RESULTS / "direct.json"
    if not arguments.table:
        stored.write_text(json.dumps(measure_all(arguments.nats), indent=1) + "\n")
    figures = json.loads(stored.read_text())
    write_between(HERE / "README.md", _BEGIN, _END, table(figures))
    print(table(figures))


if __name__ == "__main__":
    main()
