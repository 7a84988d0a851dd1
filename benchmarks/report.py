"""Figures of `run` -> tables in Markdown, and plots."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.goals import reached
from benchmarks.scenarios import SCENARIOS, Metric, Scenario
from benchmarks.servers import SERVERS

__all__ = ["plot", "tables"]

#: A load that is busier than this may be what bounds the figure.
LOAD_LIMIT = 0.9

#: A server that is less busy than this was not all that bounded it.
SERVER_LIMIT = 0.9

#: What else runs may take so much of a processor before a figure is marked.
FOREIGN_LIMIT = 0.1


def own(server: str) -> str:
    """The own server that this one is compared with."""
    return "meshrelay_websocket" if server in ("ws", "socketio", "meshrelay_websocket") else "meshrelay_tcp"


def _median(figures: dict[str, Any], metric: Metric) -> float | None:
    return figures[metric.key]["median"] if metric.key in figures else None


def _cell(figures: dict[str, Any], metric: Metric) -> str:
    if metric.key not in figures:
        return "-"
    value = figures[metric.key]
    text = format(value["median"], metric.form)
    # A range says more than one number where runs differ by more than a tenth.
    if value["most"] - value["least"] > 0.1 * abs(value["median"]) and value["median"]:
        text += f" ({format(value['least'], metric.form)} to {format(value['most'], metric.form)})"
    return text


def _ratio(server: str, by_server: dict[str, Any], metric: Metric) -> str:
    theirs = _median(by_server[server], metric)
    ours = _median(by_server.get(own(server), {}), metric)
    return "" if server == own(server) or not theirs or not ours else f"{ours / theirs:.2f}"


def _remarks(figures: dict[str, Any], scenario: Scenario) -> str:
    remarks = [figures[key] for key in ("missing", "error") if key in figures]
    counts = {key: figures.get(key, {}).get("most") for key in ("wrong", "closed", "failed")}
    remarks += [f"{count:,.0f} {key}" for key, count in counts.items() if count]
    if figures.get("missing_deliveries", {}).get("most"):
        remarks.append(f"{figures['missing_deliveries']['most']:,.0f} not there 5 s after the end")
    if figures.get("foreign_busy", {}).get("median", 0) > FOREIGN_LIMIT:
        remarks.append(f"disturbed: others took {figures['foreign_busy']['median']:.0%} of a processor")
    if "is_sustained" in figures and scenario.job.get("per_second") and not figures["is_sustained"]["least"]:
        remarks.append("falls behind")
    if figures.get("load_busy", {}).get("median", 0) > LOAD_LIMIT:
        remarks.append("the load is the limit")
    if scenario.job.get("window") and figures.get("server_busy", {}).get("median", 1) < SERVER_LIMIT:
        remarks.append("not the processor alone is the limit")
    return ", ".join(remarks)


def _table(name: str, by_server: dict[str, Any]) -> list[str]:
    scenario = SCENARIOS[name]
    first = scenario.metrics[0]
    heads = ["", *(metric.title for metric in scenario.metrics), f"meshrelay / this, {first.title}", ""]
    lines = [f"**{scenario.title}**", "", f"| {' | '.join(heads)} |", "|---|" + "---:|" * (len(heads) - 2) + "---|"]
    for server, figures in by_server.items():
        cells = [SERVERS[server][0], *(_cell(figures, metric) for metric in scenario.metrics)]
        lines.append(f"| {' | '.join([*cells, _ratio(server, by_server, first), _remarks(figures, scenario)])} |")
    return [*lines, ""]


def tables(figures: dict[str, Any]) -> str:
    """One table for each scenario, and the goals."""
    runs = figures["runs"]
    how = f"medians of {runs} runs, least and most where they differ by more than a tenth"
    if figures["is_quick"]:
        how = "one short run each: provisional"
    versions = ", ".join(f"{name} {version}" for name, version in figures["versions"].items())
    lines = [f"Measured on {figures['date']}: {figures['machine']}; {how}. {versions}.", ""]
    if figures["is_python"]:
        lines += ["The load is the one in Python and bounds most of the figures.", ""]
    for name, by_server in figures["scenarios"].items():
        lines += _table(name, by_server)
    goals = reached(figures["scenarios"])
    if goals:
        lines += ["**Goals**", "", "| goal | wanted | measured | |", "|---|---:|---:|---|"]
        for goal, wanted, measured, is_met in goals:
            verdict = "provisional" if figures["is_quick"] else "reached" if is_met else "not reached"
            lines.append(f"| {goal} | {wanted} | {measured:.2f} | {verdict} |")
    return "\n".join(lines).rstrip()


_COLORS = {
    "meshrelay_tcp": "#0b6e4f",
    "meshrelay_websocket": "#3aa17e",
    "coalesce": "#777777",
    "nats": "#3d5a98",
    "redis": "#c1440e",
    "crossbar": "#b08fc7",
    "ws": "#8a6d3b",
    "socketio": "#444444",
}

_PANELS = (
    (("fanout10", "fanout100", "fanout1000"), "deliveries_per_second", "as fast as it is taken: deliveries/s (log)"),
    (("paced", "hot"), "p99_ms", "100 and 1,000 a second to 1,000: p99, ms (log)"),
    (("paced", "hot"), "server_us", "the same: processor, µs each delivery"),
    (("signins", "joins"), "per_second", "sign-ins, joins a second"),
)


def plot(figures: dict[str, Any], directory: Path) -> None:
    """Draw bars: speed.png and speed.svg. Without matplotlib there are none."""
    try:
        import matplotlib as mpl
    except ImportError:
        return
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    plt.rcParams["svg.hashsalt"] = "meshrelay"
    figure, all_axes = plt.subplots(2, 2, figsize=(12, 8))
    scenarios = figures["scenarios"]
    for axes, (names, key, title) in zip(all_axes.flat, _PANELS, strict=True):
        _bars(axes, {name: scenarios[name] for name in names if name in scenarios}, key)
        axes.set(title=title, yscale="log" if "(log)" in title else "linear")
        axes.grid(alpha=0.3, axis="y")
    handles, labels = all_axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=4, fontsize=9)
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    figure.savefig(directory / "speed.png", dpi=110)
    figure.savefig(directory / "speed.svg", metadata={"Date": None})
    plt.close(figure)


def _bars(axes: Any, chosen: dict[str, Any], key: str) -> None:
    width = 0.8 / len(SERVERS)
    for position, (server, (title, _)) in enumerate(SERVERS.items()):
        values = [by_server.get(server, {}).get(key, {}).get("median", 0) for by_server in chosen.values()]
        places = [index + (position - len(SERVERS) / 2 + 0.5) * width for index in range(len(chosen))]
        axes.bar(places, values, width, color=_COLORS[server], label=title)
    axes.set_xticks(range(len(chosen)), list(chosen))
