"""Does a message cost more than it did? Counts instead of measuring, so the answer is the same on every machine.

For each workload of `guard_workloads`, per delivered message:

* calls: Python functions that were called, as `sys.setprofile` sees them;
* allocations: blocks of memory that were taken, as far as one can see between two calls or returns, of Python or C.

``python -m benchmarks.guard`` compares with ``guard.json`` and fails when one grew by more than 10 %; with ``--write``
the numbers of today become the ones to compare with. Another Python calls and allocates otherwise, so each minor
version has numbers of its own, and one without them is not compared.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from benchmarks.guard_workloads import WORKLOADS, Workload

__all__ = ["complaints", "count", "main", "measure"]

STORED = Path(__file__).resolve().parent / "guard.json"

#: How much more is too much.
TOLERANCE = 0.10

#: Less than this is nothing, however large a share it is.
SLACK = 0.05

#: Name of the count -> how often for each delivered message.
Counts = dict[str, float]


def count(run: Callable[[], int]) -> Counts:
    """Return what `run` costs for each message that it delivers.

    :param run: returns how many those were; called three times, and the last one counts: caches are full by then.
    """
    run()
    run()
    calls = allocations = 0
    blocks = sys.getallocatedblocks()

    def see(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal calls, allocations, blocks
        if event == "call":
            calls += 1
        now = sys.getallocatedblocks()
        if now > blocks:
            allocations += now - blocks
        blocks = now

    gc.collect()
    gc.disable()
    sys.setprofile(see)
    try:
        delivered = run()
    finally:
        sys.setprofile(None)
        gc.enable()
    return {"calls": round(calls / delivered, 3), "allocations": round(allocations / delivered, 3)}


def measure(workloads: Mapping[str, Workload]) -> dict[str, Counts]:
    """Count all workloads."""
    return {name: count(workload()) for name, workload in workloads.items()}


def complaints(stored: Mapping[str, Counts], now: Mapping[str, Counts]) -> list[str]:
    """Say what costs more than it did, or is not known: a line for each."""
    lines = []
    for name, counts in now.items():
        for what, value in counts.items():
            before = stored.get(name, {}).get(what)
            if before is None:
                lines.append(f"{name}: nothing to compare the {what} with; run with --write")
            elif value > before * (1 + TOLERANCE) + SLACK:
                lines.append(f"{name}: {value:.2f} {what} for each message, {value / before - 1:+.0%} ({before:.2f})")
    return lines


def _use_fixed_hashes() -> None:
    """Start anew with fixed hashes of strings: sets and dicts must be the same at each run."""
    if os.environ.get("PYTHONHASHSEED") != "0":
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "benchmarks.guard", *sys.argv[1:]])


def main(arguments: list[str], stored_at: Path = STORED, workloads: Mapping[str, Workload] = WORKLOADS) -> int:
    """Compare or write; return the exit status: 1 = something costs more."""
    parser = argparse.ArgumentParser(description="Count calls and allocations for each delivered message.")
    parser.add_argument("--write", action="store_true", help="keep the numbers of today to compare with")
    is_writing = parser.parse_args(arguments).write
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    stored = json.loads(stored_at.read_text("utf-8")) if stored_at.exists() else {}
    if not is_writing and python not in stored:
        print(f"benchmarks.guard: no numbers for Python {python}, not compared")
        return 0
    now = measure(workloads)
    for name, counts in now.items():
        print(f"{name}: " + ", ".join(f"{value:.2f} {what}" for what, value in counts.items()))
    if is_writing:
        stored[python] = now
        stored_at.write_text(json.dumps(stored, indent=1, sort_keys=True) + "\n", "utf-8")
        return 0
    lines = complaints(stored[python], now)
    for line in lines:
        print(f"costs more than it did: {line}")
    return 1 if lines else 0


if __name__ == "__main__":
    _use_fixed_hashes()
    sys.exit(main(sys.argv[1:]))
