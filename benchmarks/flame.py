"""Where the time goes: flame graphs of the daemon under the loads of `run`, and how much is whose.

``python -m benchmarks.flame`` writes one picture for each of a few scenarios into results/ and a table into
docs/where-the-time-goes.rst. It needs ``pip install py-spy`` (extra ``benchmarks``). A sample belongs to the innermost
of our modules that is on the stack; the kernel's work for a socket is with the module that asked for it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from benchmarks.built import HERE, build
from benchmarks.machine import machine
from benchmarks.page import write_between
from benchmarks.scenarios import SCENARIOS
from benchmarks.servers import SECRET, SERVER_CPU, SERVERS, on_processor

__all__ = ["main"]

#: Scenario and server of each picture.
PICTURES = (
    ("fanout10", "meshrelay_tcp"),
    ("paced", "meshrelay_tcp"),
    ("pairs100", "meshrelay_tcp"),
    ("pairs100", "meshrelay_websocket"),
)

WARM_SECONDS = 2.0
SECONDS = 5.0
SAMPLES_PER_SECOND = 500

RESULTS = HERE / "results"
PAGE = HERE.parent / "docs" / "where-the-time-goes.rst"

_BEGIN, _END = ".. written by benchmarks/flame.py", ".. end of what is written"

#: Frames of one of these lines are the kernel's: nothing but a system call is there.
_SYSTEM_CALLS = (("fanout/turn.py", "_counts_of"), ("transport/direct_write.py", "DirectWriter.write"))


def record(scenario: str, server: str, output: Path, form: str) -> None:
    """Sample the daemon under the load of a scenario."""
    job = {**SCENARIOS[scenario].job, "python": False, "warm_seconds": 0.5, "seconds": WARM_SECONDS + SECONDS + 1}
    job["limit_seconds"] = 60
    with SERVERS[server][1]() as running, on_processor(SERVER_CPU + 1):
        told = {**job, "server": server, "port": running.port, "pid": running.pid, "secret": SECRET}
        load = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.load", json.dumps(told)], cwd=HERE.parent, stdout=subprocess.DEVNULL
        )
        try:
            time.sleep(WARM_SECONDS)
            command = ["py-spy", "record", "--format", form, "--output", str(output), "--pid", str(running.pid)]
            bounds = ["--duration", str(int(SECONDS)), "--rate", str(SAMPLES_PER_SECOND)]
            subprocess.run([*command, *bounds], check=True, capture_output=True, timeout=SECONDS + 30)
            load.wait(60)
        finally:
            load.kill()
            load.wait()


def rooms_of(raw: str) -> Counter[str]:
    """Samples of each of our modules; of Twisted, where none of ours is on the stack; of system calls."""
    found: Counter[str] = Counter()
    for line in raw.splitlines():
        stack, count = line.rsplit(" ", 1)
        frames = [(match[1], match[2]) for match in re.finditer(r"([^;]+) \(([^;:]+):\d+\)", stack)]
        found[_room(frames)] += int(count)
    return found


def _room(frames: list[tuple[str, str]]) -> str:
    name, path = frames[-1] if frames else ("", "")
    if any(path.endswith(end) and name == function for end, function in _SYSTEM_CALLS):
        return "kernel: sending"
    if path.endswith("twisted/internet/tcp.py") and name.endswith("doRead"):
        return "kernel: receiving"
    if path.endswith("epollreactor.py"):
        return "kernel: waiting"
    for _, path in reversed(frames):
        if "meshrelay/" in path and "plugins" not in path:
            return path[path.index("meshrelay/") + len("meshrelay/") :]
    return "Twisted"


def table(title: str, rooms: Counter[str]) -> list[str]:
    """Lines of reStructuredText: the rooms with more than 1 %."""
    total = sum(rooms.values()) or 1
    lines = [f".. list-table:: {title}", "   :widths: 70 30", ""]
    for room, count in rooms.most_common():
        if count >= total / 100:
            name = room if room.startswith(("kernel", "Twisted")) else f"``{room}``"
            lines += [f"   * - {name}", f"     - {count / total:.0%}"]
    return [*lines, ""]


def main() -> None:
    """Sample, draw and write."""
    build("load.c", is_library=True)
    RESULTS.mkdir(exist_ok=True)
    written: list[str] = [f"Measured on {time.strftime('%Y-%m-%d')}: {machine()}.", ""]
    for scenario, server in PICTURES:
        kind = SERVERS[server][0]
        title = f"{SCENARIOS[scenario].title}: {kind}"
        picture = RESULTS / f"flame-{scenario}-{server}.svg"
        record(scenario, server, picture, "flamegraph")
        # The command line of the sampled process stands in it, with the places of this machine.
        picture.write_text(
            re.sub(rf"{re.escape(str(HERE.parent))}/|{re.escape(sys.prefix)}/bin/", "", picture.read_text())
        )
        raw = RESULTS / "flame.raw"
        record(scenario, server, raw, "raw")
        written += table(title, rooms_of(raw.read_text()))
        raw.unlink()
    write_between(PAGE, _BEGIN, _END, "\n".join(["", *written]))


if __name__ == "__main__":
    main()
