"""Reliable UDP against the kernel's TCP over the same bad path: how late messages are, and how many get through.

``python -m benchmarks.rudp`` as root, on Linux; about six minutes. Writes the figures to results/rudp.json, the plot
to results/rudp.png and .svg, and the tables into README.md. ``--plot`` only draws and writes what was measured before.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from benchmarks.page import write_between
from benchmarks.tunnel import Tunnel
from meshrelay.testing.impairment import Impairment

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"

LOSSES = (0.0, 0.01, 0.05, 0.10, 0.20)
#: Name on the command line of `stream_ends` -> name for people.
PROTOCOLS = {"rudp": "reliable UDP", "cubic": "TCP cubic", "bbr": "TCP bbr"}

PER_SECOND = 100.0
PACED_SECONDS = 30.0
BULK_SECONDS = 8.0
#: Runs at full speed of which the middle one counts: at high loss one run is a matter of luck.
BULK_RUNS = 3

#: A line of 20 Mbit/s whose queue holds what is on the way.
RATE_BYTES = 2_500_000.0
QUEUE_BYTES = 250_000

_BEGIN, _END = "<!-- rudp: written by rudp.py -->", "<!-- rudp: end -->"


def path(loss: float) -> Impairment:
    """The path that everything is measured on."""
    return Impairment(
        delay_seconds=0.05,
        jitter_seconds=0.02,
        loss=loss,
        duplication=0.01 if loss else 0.0,
        reordering=0.01 if loss else 0.0,
        rate_bytes=RATE_BYTES,
        queue_bytes=QUEUE_BYTES,
    )


def measure(job: tuple[str, float, float, float, int]) -> dict[str, Any]:
    """Run one stream: protocol, loss, messages per second (0 = as many as can be), seconds, seed."""
    protocol, loss, pace, seconds, seed = job
    arguments = ["-m", "benchmarks.stream_ends", protocol, str(pace), str(seconds)]
    tunnel = Tunnel((arguments, arguments), path(loss), seed)
    output = tunnel.run(seconds + 40)[1]
    return {"protocol": protocol, "loss": loss, **(json.loads(output) if output else {})}


def percentile(values: list[float], share: float) -> float:
    """The value that this share of all values does not go over."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def measure_all() -> dict[str, Any]:
    """Measure everything: streams of few messages beside each other, then those at full speed."""
    began = time.strftime("%Y-%m-%d")
    paced, bulk = [], []
    with ProcessPoolExecutor(len(LOSSES)) as pool:
        for protocol in PROTOCOLS:
            jobs = [(protocol, loss, PER_SECOND, PACED_SECONDS, 0) for loss in LOSSES]
            for result in pool.map(measure, jobs):
                latencies = result.pop("latencies", [])
                result["received"] = len(latencies)
                result["sent"] = int(PER_SECOND * PACED_SECONDS)
                for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)):
                    result[name] = round(1000 * percentile(latencies, share), 1) if latencies else None
                print(result, flush=True)
                paced.append(result)
    # Two cores carry two streams at full speed.
    with ProcessPoolExecutor(2) as pool:
        for protocol in PROTOCOLS:
            for loss in LOSSES:
                jobs = [(protocol, loss, 0.0, BULK_SECONDS, seed) for seed in range(BULK_RUNS)]
                rates = sorted(result.get("bytes_per_second", 0.0) for result in pool.map(measure, jobs))
                result = {
                    "protocol": protocol,
                    "loss": loss,
                    "bytes_per_second": statistics.median(rates),
                    "runs": rates,
                }
                print(result, flush=True)
                bulk.append(result)
    return {"date": began, "machine": machine(), "paced": paced, "bulk": bulk}


def tables(figures: dict[str, Any]) -> str:
    """The figures as two tables in Markdown."""
    lines = [
        f"Measured on {figures['date']}: {figures['machine']}.",
        "",
        f"Latency in milliseconds, {PER_SECOND:.0f} messages of 100 bytes per second for {PACED_SECONDS:.0f} seconds:",
        "",
        "| loss | protocol | p50 | p90 | p99 | max | received |",
        "|---:|---|---:|---:|---:|---:|---:|",
    ]
    for loss in LOSSES:
        for row in figures["paced"]:
            if row["loss"] == loss:
                values = " | ".join(f"{row[name]:.0f}" if row[name] else "-" for name in ("p50", "p90", "p99", "max"))
                name = PROTOCOLS[row["protocol"]]
                lines.append(f"| {loss:.0%} | {name} | {values} | {row['received']} of {row['sent']} |")
    lines += [
        "",
        "Goodput, messages of 100 bytes as fast as they are taken, after two seconds; the middle one of three runs:",
        "",
        "| loss | " + " | ".join(PROTOCOLS.values()) + " |",
        "|---:|" + "---:|" * len(PROTOCOLS),
    ]
    for loss in LOSSES:
        rates = {row["protocol"]: row.get("bytes_per_second", 0) for row in figures["bulk"] if row["loss"] == loss}
        values = " | ".join(f"{rates[protocol] / 1000:,.0f} kB/s" for protocol in PROTOCOLS)
        lines.append(f"| {loss:.0%} | {values} |")
    return "\n".join(lines)


def plot(figures: dict[str, Any]) -> None:
    """Draw latency and goodput over loss."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    plt.rcParams["svg.hashsalt"] = "meshrelay"
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2))
    percents = [100 * loss for loss in LOSSES]
    colors = {"rudp": "#0b6e4f", "cubic": "#c1440e", "bbr": "#3d5a98"}
    for protocol, name in PROTOCOLS.items():
        rows = {row["loss"]: row for row in figures["paced"] if row["protocol"] == protocol}
        for what, style in (("p99", "-"), ("p50", ":")):
            left.plot(
                percents,
                [rows[loss][what] for loss in LOSSES],
                style,
                marker="o",
                color=colors[protocol],
                label=f"{name}, {what}",
            )
        rates = {row["loss"]: row.get("bytes_per_second", 0) for row in figures["bulk"] if row["protocol"] == protocol}
        right.plot(percents, [rates[loss] / 1e6 for loss in LOSSES], marker="o", color=colors[protocol], label=name)
    left.set(xlabel="packets lost, %", ylabel="latency, ms (log)", yscale="log", title="100 messages a second")
    right.set(
        xlabel="packets lost, %", ylabel="goodput, MB/s", ylim=(0, None), title="as fast as possible, 2.5 MB/s line"
    )
    for axes in (left, right):
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(RESULTS / "rudp.png", dpi=110)
    figure.savefig(RESULTS / "rudp.svg", metadata={"Date": None})


def main() -> None:
    """Measure, draw and write."""
    parser = argparse.ArgumentParser(description="Reliable UDP against TCP over the same bad path.")
    parser.add_argument("--plot", action="store_true", help="draw and write what was measured before")
    parser.add_argument("--one", nargs=4, metavar=("PROTOCOL", "LOSS", "PACE", "SECONDS"), help="one run, printed")
    arguments = parser.parse_args()
    if arguments.one:
        protocol, *numbers = arguments.one
        loss, pace, seconds = map(float, numbers)
        print(measure((protocol, loss, pace, seconds, 0)))
        return
    RESULTS.mkdir(exist_ok=True)
    stored = RESULTS / "rudp.json"
    if not arguments.plot:
        stored.write_text(json.dumps(measure_all(), indent=1) + "\n")
    figures = json.loads(stored.read_text())
    plot(figures)
    write_between(HERE / "README.md", _BEGIN, _END, tables(figures))


if __name__ == "__main__":
    main()
