"""What came of a run of ``meshrelay bench`` -> lines for people, JSON for programs, a picture."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from meshrelay.cli.bench_run import BenchPlan, BenchResult

__all__ = ["PERCENTILES", "can_plot", "draw", "report_lines", "report_values"]

PERCENTILES: Mapping[str, float] = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}

#: Shares of deliveries in the picture, from the half to one in ten thousand.
_SHARES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999)


def report_values(plan: BenchPlan, result: BenchResult) -> dict[str, Any]:
    """Return what programs read: plain numbers, times in milliseconds."""
    latencies = result.latencies
    return {
        "mode": plan.mode,
        "clients": plan.clients,
        "size_bytes": plan.size,
        "rate_per_second": plan.rate,
        "seconds": round(result.seconds, 3),
        "sent": result.sent,
        "deliveries": latencies.count,
        "deliveries_per_second": round(result.deliveries_per_second, 1),
        "lost": result.lost,
        "latency_ms": {
            **{name: _milliseconds(latencies.percentile(share)) for name, share in PERCENTILES.items()},
            "max": _milliseconds(latencies.longest),
        },
        "errors": dict(result.errors),
    }


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)


def report_lines(plan: BenchPlan, result: BenchResult) -> list[str]:
    """Return what people read."""
    values = report_values(plan, result)
    times = ", ".join(f"{name} {value:.2f}" for name, value in values["latency_ms"].items())
    errors = ", ".join(f"{name} {count}" for name, count in sorted(result.errors.items())) or "none"
    return [
        f"{values['deliveries']:,} deliveries of {result.sent:,} messages in {result.seconds:.1f} s",
        f"deliveries/s  {values['deliveries_per_second']:,.0f}",
        f"latency in ms {times}",
        f"lost          {result.lost:,}",
        f"errors        {errors}",
    ]


def can_plot() -> bool:
    """Tell whether `draw` has what it needs."""
    return find_spec("matplotlib") is not None


def draw(plan: BenchPlan, result: BenchResult, path: Path) -> None:
    """Draw latencies by share, and over time.

    :param path: its ending says the format, .png, .svg or .pdf.
    :raises ValueError: no such format.
    :raises OSError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    shares, seconds = figure.subplots(1, 2)
    shares.plot(_SHARES, [_milliseconds(result.latencies.percentile(share)) for share in _SHARES], marker=".")
    shares.set_xscale("logit")
    shares.set_xticks([0.5, 0.9, 0.99, 0.999], ["50 %", "90 %", "99 %", "99.9 %"], minor=False)
    shares.set_xticks([], minor=True)
    shares.set_xlabel("deliveries that came within")
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        over_time = [_milliseconds(each.percentile(share)) for each in result.by_second if each.count]
        seconds.plot(range(len(over_time)), over_time, label=name)
    seconds.set_xlabel("second of the run")
    seconds.legend()
    for axes in (shares, seconds):
        axes.set_ylabel("latency in ms")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    rate = f"{result.deliveries_per_second:,.0f} deliveries/s"
    figure.suptitle(f"{plan.mode}: {plan.clients} clients, {plan.size} bytes, {plan.rate:g} messages/s: {rate}")
    figure.savefig(path)
