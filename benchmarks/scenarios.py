"""What is measured: one table of jobs for `load`, and what of their figures is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["SCENARIOS", "Metric", "Scenario"]

ALL = ("meshrelay_tcp", "coalesce", "nats", "redis", "crossbar", "meshrelay_websocket", "ws", "socketio")


@dataclass(frozen=True)
class Metric:
    """One figure of a job.

    :ivar key: its name in the load's answer.
    :ivar title: the head of its column.
    :ivar form: how a number is written.
    :ivar is_more_better: of two servers, the one with more is the better one.
    """

    key: str
    title: str
    form: str = ",.0f"
    is_more_better: bool = True


RATE = Metric("deliveries_per_second", "deliveries/s")
COST = Metric("server_us", "processor, µs each", ".2f", False)
SERVER_BUSY = Metric("server_busy", "server busy", ".0%", False)
LOAD_BUSY = Metric("load_busy", "load busy", ".0%", False)
P50 = Metric("p50_ms", "p50, ms", ".2f", False)
P99 = Metric("p99_ms", "p99, ms", ".2f", False)

_SATURATED = (RATE, COST, SERVER_BUSY, LOAD_BUSY)


@dataclass(frozen=True)
class Scenario:
    """One job for each of some servers.

    :ivar title: what it is, for the table.
    :ivar job: ``mode`` and what the mode needs, see `benchmarks.load.Load`.
    :ivar metrics: the first one is compared.
    :ivar servers: those that it makes sense for.
    :ivar quick: what of the job is different with ``--quick``.
    :ivar max_runs: so many runs are enough.
    """

    title: str
    job: Mapping[str, Any]
    metrics: tuple[Metric, ...]
    servers: tuple[str, ...] = ALL
    quick: Mapping[str, Any] = field(default_factory=dict)
    max_runs: int = 100


def _saturated(members: int, window: int) -> Scenario:
    return Scenario(
        f"Fan-out as fast as it is taken, {members:,} members, at most {window:,} messages on their way",
        {"mode": "cast", "members": members, "window": window, "warm_seconds": 1.5, "seconds": 3.5},
        _SATURATED,
        quick={"warm_seconds": 0.5, "seconds": 1.0},
    )


def _pairs(pairs: int, window: int, metrics: tuple[Metric, ...]) -> Scenario:
    who = "1 pair" if pairs == 1 else f"{pairs} pairs"
    how = f"at most {window} messages of each on their way" if window > 1 else "one message of each on its way"
    return Scenario(
        f"Direct messages, {who}, {how}",
        {"mode": "pairs", "pairs": pairs, "window": window, "warm_seconds": 1.5, "seconds": 3.5},
        metrics,
        quick={"warm_seconds": 0.5, "seconds": 1.5},
    )


def _paced(title: str, per_second: int, metrics: tuple[Metric, ...]) -> Scenario:
    return Scenario(
        title,
        {"mode": "cast", "members": 1000, "per_second": per_second, "warm_seconds": 1.5, "seconds": 4.0},
        metrics,
        quick={"warm_seconds": 0.5, "seconds": 1.5},
    )


_TALK = {"warm_seconds": 1.5, "seconds": 3.5}
_QUICK_TALK = {"warm_seconds": 0.5, "seconds": 1.0}
_PER_SECOND = Metric("per_second", "a second")

SCENARIOS: dict[str, Scenario] = {
    "fanout10": _saturated(10, 4096),
    "fanout100": _saturated(100, 1024),
    "fanout1000": _saturated(1000, 256),
    "paced": _paced("Fan-out at 100 messages a second to 1,000 members", 100, (P50, P99, COST, RATE, LOAD_BUSY)),
    "hot": _paced("Fan-out at 1,000 messages a second to 1,000 members", 1000, (RATE, P50, P99, COST, LOAD_BUSY)),
    "pairs1": _pairs(1, 32, _SATURATED),
    "pairs100": _pairs(100, 32, _SATURATED),
    "pairs100_one": _pairs(100, 1, (RATE, P50, P99, COST, SERVER_BUSY, LOAD_BUSY)),
    "signins": Scenario(
        "Sign-ins: connect, sign in, leave; 256 at once",
        {"mode": "sign_ins", **_TALK},
        (_PER_SECOND, COST, LOAD_BUSY),
        quick=_QUICK_TALK,
    ),
    "joins": Scenario(
        "Joins: join and leave one group, the two together counted as one; 256 clients at once",
        {"mode": "joins", **_TALK},
        (_PER_SECOND, COST, LOAD_BUSY),
        servers=("meshrelay_tcp", "nats", "redis", "crossbar", "meshrelay_websocket", "socketio"),
        quick=_QUICK_TALK,
    ),
    "idle": Scenario(
        "Clients that say nothing: memory of the process for each, and the part of a core for all",
        # More than the 25 seconds after which a node asks a silent client.
        {"mode": "idle", "clients": 10_000, "warm_seconds": 0, "seconds": 27.0},
        (Metric("kib_each", "KiB each", ".1f", False), Metric("server_busy", "of a core", ".1%", False)),
        servers=("meshrelay_tcp", "nats", "redis", "crossbar", "meshrelay_websocket", "ws", "socketio"),
        quick={"clients": 4_000, "seconds": 2.0},
        max_runs=2,
    ),
}
