"""What the project wants of itself, as ratios of figures of one run, and whether it was reached."""

from __future__ import annotations

from typing import Any, NamedTuple

__all__ = ["GOALS", "Goal", "reached"]

#: With fewer, what the process has anyway weighs too much, and their heartbeats too little.
IDLE_CLIENTS = 10_000

TCP, WEBSOCKET = "meshrelay_tcp", "meshrelay_websocket"


class Goal(NamedTuple):
    """A figure of one server, divided by that of another, is at least, or at most, so much."""

    title: str
    scenario: str
    key: str
    server: str
    #: "" = the figure itself.
    other: str
    wanted: float
    is_at_least: bool = True


def _peers(title: str, scenario: str, key: str, server: str, wanted: dict[str, float], is_at_least: bool) -> list[Goal]:
    return [
        Goal(f"{title} / {other}", scenario, key, server, other, limit, is_at_least) for other, limit in wanted.items()
    ]


_RATE = "deliveries_per_second"

GOALS: list[Goal] = [
    *_peers("saturated to 1,000", "fanout1000", _RATE, TCP, {"nats": 4.0, "coalesce": 0.8}, True),
    *_peers("saturated to 100", "fanout100", _RATE, TCP, {"nats": 2.0}, True),
    *_peers("saturated to 10", "fanout10", _RATE, TCP, {"nats": 0.8}, True),
    *_peers("saturated to 1,000, WebSocket", "fanout1000", _RATE, WEBSOCKET, {"ws": 100.0, "socketio": 100.0}, True),
    *_peers("saturated to 1,000, WebSocket", "fanout1000", _RATE, WEBSOCKET, {TCP: 0.8}, True),
    *_peers("paced, p50", "paced", "p50_ms", TCP, {"coalesce": 1.3}, False),
    *_peers("paced, p99", "paced", "p99_ms", TCP, {"nats": 1.0, "redis": 1.0}, False),
    *_peers("paced, processor time", "paced", "server_us", TCP, {"coalesce": 1.4}, False),
    *_peers("paced, processor time, WebSocket", "paced", "server_us", WEBSOCKET, {"ws": 1.0, "socketio": 1.0}, False),
    Goal("hot, TCP, part sustained", "hot", "is_sustained", TCP, "", 1.0),
    Goal("hot, WebSocket, part sustained", "hot", "is_sustained", WEBSOCKET, "", 1.0),
    *_peers("hot, p99", "hot", "p99_ms", TCP, {"nats": 1.0, "redis": 1.0}, False),
    *_peers("direct, 100 pairs", "pairs100", _RATE, TCP, {"nats": 0.4}, True),
    *_peers("direct, 100 pairs, WebSocket", "pairs100", _RATE, WEBSOCKET, {"ws": 2.0}, True),
    *_peers("direct, 100 pairs, one in flight", "pairs100_one", _RATE, TCP, {"nats": 0.8}, True),
    *_peers("direct, 100 pairs, one in flight, WebSocket", "pairs100_one", _RATE, WEBSOCKET, {"ws": 1.0}, True),
    Goal("KiB of an idle TCP client", "idle", "kib_each", TCP, "", 9.0, False),
    Goal("KiB of an idle WebSocket client", "idle", "kib_each", WEBSOCKET, "", 12.0, False),
    Goal("10,000 idle TCP clients, part of a core", "idle", "server_busy", TCP, "", 0.03, False),
]


def reached(scenarios: dict[str, Any]) -> list[tuple[str, str, float, bool]]:
    """Goals whose figures were measured: title, what is wanted, what was measured, whether that is enough."""
    found = []
    for goal in GOALS:
        by_server = scenarios.get(goal.scenario, {})
        mine = by_server.get(goal.server, {}).get(goal.key)
        other = by_server.get(goal.other, {}).get(goal.key) if goal.other else {"median": 1.0}
        if not mine or not other or not other["median"]:
            continue
        if goal.scenario == "idle" and by_server[goal.server]["clients"]["median"] < IDLE_CLIENTS:
            continue
        measured = float(mine["median"]) / float(other["median"])
        is_met = measured >= goal.wanted if goal.is_at_least else measured <= goal.wanted
        sign = "≥" if goal.is_at_least else "≤"
        found.append((goal.title, f"{sign} {goal.wanted:g}", measured, is_met))
    return found
