"""meshrelay next to its peers: every server alone on one processor, the load on another, medians, ratios of one run.

``python -m benchmarks.run`` takes about an hour on a quiet machine; ``--quick`` takes a few minutes, with one short run
of each, and its figures only show that everything works. ``--scenario`` and ``--server`` choose some of them,
``--table`` writes what was measured before. Results go to results/speed.json, the plots beside it, the tables into
README.md.

Runs go round: each server has its first run before any has its second, so a change of the machine's pace meets all of
them. Everything ends by itself: a job after its time, a server with its job.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from typing import Any

from benchmarks import report
from benchmarks.built import CROSSBAR_VERSION, HERE, build, cache_directory, install_crossbar, install_node_packages
from benchmarks.machine import machine
from benchmarks.page import write_between
from benchmarks.scenarios import SCENARIOS
from benchmarks.servers import SECRET, SERVER_CPU, SERVERS, Missing, on_processor

__all__ = ["main"]

RESULTS = HERE / "results"

RUNS = 5

#: More than any job takes besides the time it is told to.
OVERHEAD_SECONDS = 90

_BEGIN, _END = "<!-- speed: written by run.py -->", "<!-- speed: end -->"


def run_job(server: str, job: dict[str, Any]) -> dict[str, Any]:
    """Start the server, do one job against it, stop it.

    :raises Missing: the server is not installed.
    :raises RuntimeError: the job failed.
    """
    with SERVERS[server][1]() as running, on_processor(SERVER_CPU + 1):
        told = {**job, "server": server, "port": running.port, "pid": running.pid, "secret": SECRET}
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.load", json.dumps(told)],
            cwd=HERE.parent,
            capture_output=True,
            timeout=told["limit_seconds"] + 5,
            check=False,
        )
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or [f"ended with {done.returncode}"]
        raise RuntimeError(last[0])
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


class _TooLong(Exception):
    pass


def _on_alarm(number: int, frame: object) -> None:
    raise _TooLong("took too long")


def run_bounded(server: str, job: dict[str, Any]) -> dict[str, Any]:
    """`run_job` within a time; what goes wrong is a figure too.

    :returns: figures, or ``{"missing": why}``, or ``{"error": why}``.
    """
    limit = int(job["warm_seconds"] + job["seconds"]) + OVERHEAD_SECONDS
    signal.signal(signal.SIGALRM, _on_alarm)
    signal.alarm(limit + 60)
    try:
        return run_job(server, {**job, "limit_seconds": limit})
    except Missing as missing:
        return {"missing": str(missing)}
    except (AssertionError, OSError, RuntimeError, subprocess.TimeoutExpired, _TooLong) as error:
        return {"error": str(error)[:300]}
    finally:
        signal.alarm(0)


def middle(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """For each figure the median of all runs, the least and the most; what went wrong, if anything did."""
    found: dict[str, Any] = {}
    good = [run for run in runs if "error" not in run and "missing" not in run]
    for run in runs:
        found.update({key: run[key] for key in ("error", "missing") if key in run})
    for key in good[0] if good else ():
        values = [run[key] for run in good]
        found[key] = {"median": statistics.median(values), "least": min(values), "most": max(values)}
    return found


def measure(scenarios: list[str], servers: list[str], is_quick: bool, is_python: bool) -> dict[str, Any]:
    """All runs: scenario -> server -> figures."""
    found: dict[str, Any] = {}
    for name in scenarios:
        scenario = SCENARIOS[name]
        job = {**scenario.job, **(scenario.quick if is_quick else {}), "python": is_python}
        chosen = [server for server in scenario.servers if server in servers]
        runs: dict[str, list[dict[str, Any]]] = {server: [] for server in chosen}
        for number in range(1 if is_quick else min(RUNS, scenario.max_runs)):
            for server in chosen:
                figures = run_bounded(server, job)
                runs[server].append(figures)
                told = {key: round(value, 3) for key, value in figures.items() if isinstance(value, float)}
                print(f"{name} {number + 1} {server}: {told or figures}", file=sys.stderr, flush=True)
        found[name] = {server: middle(its_runs) for server, its_runs in runs.items()}
    return found


def versions() -> dict[str, str]:
    """What the measured programs say of themselves."""
    found = {}
    commands = {
        "nats-server": ["nats-server", "--version"],
        "redis": ["redis-server", "--version"],
        "Node": ["node", "-v"],
    }
    path = os.environ.get("PATH", "") + ":/usr/sbin"
    for name, command in commands.items():
        try:
            output = subprocess.run(command, capture_output=True, timeout=10, check=True, env={"PATH": path}).stdout
            match = re.search(r"\d+(\.\d+)+", output.decode())
            found[name] = match[0] if match else "?"
        except (OSError, subprocess.SubprocessError):
            continue
    wanted = json.loads((HERE / "peers" / "package.json").read_text())
    if (cache_directory() / f"crossbar-{CROSSBAR_VERSION}" / "installed").exists():
        found["Crossbar.io"] = CROSSBAR_VERSION
    return {**found, **wanted["dependencies"]}


def prepare(servers: list[str]) -> bool:
    """Build and install before anything is measured.

    :returns: whether the load has to be the one in Python.
    """
    is_python = False
    try:
        build("load.c", is_library=True)
    except (OSError, subprocess.SubprocessError):
        is_python = True
    if {"ws", "socketio"} & set(servers):
        try:
            install_node_packages()
        except (OSError, subprocess.SubprocessError) as error:
            print(f"no packages of Node: {error}", file=sys.stderr)
    if "crossbar" in servers:
        try:
            install_crossbar()
        except (OSError, subprocess.SubprocessError) as error:
            print(f"no Crossbar.io: {error}", file=sys.stderr)
    return is_python


def store(figures: dict[str, Any]) -> None:
    """Write the figures, the tables and the plots."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "speed.json").write_text(json.dumps(figures, indent=1) + "\n")
    report.plot(figures, RESULTS)
    write_between(HERE / "README.md", _BEGIN, _END, report.tables(figures))


def main() -> None:
    """Measure, draw and write."""
    parser = argparse.ArgumentParser(description="meshrelay next to its peers.")
    parser.add_argument("--quick", action="store_true", help="one short run of each; the figures are provisional")
    parser.add_argument("--scenario", action="append", choices=SCENARIOS, help="only this one; may be repeated")
    parser.add_argument("--server", action="append", choices=SERVERS, help="only this one; may be repeated")
    parser.add_argument("--python", action="store_true", help="use the load in Python although there is a compiler")
    parser.add_argument("--print", action="store_true", help="write no file")
    parser.add_argument("--table", action="store_true", help="write what was measured before")
    arguments = parser.parse_args()
    if arguments.table:
        figures = json.loads((RESULTS / "speed.json").read_text())
    else:
        servers = arguments.server or list(SERVERS)
        is_python = prepare(servers) or arguments.python
        figures = {
            "date": time.strftime("%Y-%m-%d"),
            "machine": machine(),
            "versions": versions(),
            "is_quick": arguments.quick,
            "is_python": is_python,
            "runs": 1 if arguments.quick else RUNS,
            "scenarios": measure(arguments.scenario or list(SCENARIOS), servers, arguments.quick, is_python),
        }
    if not arguments.print:
        store(figures)
    print(report.tables(figures))


if __name__ == "__main__":
    main()
