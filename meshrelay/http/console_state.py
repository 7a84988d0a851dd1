"""What a console shows of a node at this moment, as one JSON object with a bounded number of rows.

What is known here is read when it is asked for; what other nodes have to be asked is what `ConsoleView` found last.
Each list stands beside the number of all there are: ``{"count": 812, "rows": [...]}``. IDs are what users chose, and
nothing is done to them here: a page must show them as text.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from meshrelay.components.group_table import LiveGroup
from meshrelay.counters import NodeCounters
from meshrelay.errors import CommandError, MeshRelayError
from meshrelay.http.admin_links import LinkPages
from meshrelay.http.admin_local import LocalParts
from meshrelay.http.admin_overlay import OverlayPages
from meshrelay.http.console_history import History
from meshrelay.http.console_rates import GroupRate, GroupRates
from meshrelay.http.console_tickets import USER_PREFIX
from meshrelay.http.relay_metrics import RelaySource
from meshrelay.interfaces import ISession
from meshrelay.model import CloseReason

__all__ = ["MAX_ENDED", "MAX_LOOKED_AT", "MAX_ROWS", "MAX_STATE_BYTES", "ConsoleView", "StateSources", "encode_state"]

#: Rows of each list.
MAX_ROWS = 100

#: Of groups and rooms that nobody spoke in, so many are looked at to find the largest.
MAX_LOOKED_AT = 1000

#: Sessions that ended, the latest of them.
MAX_ENDED = 50

#: Rooms whose P2P pairs are looked at.
MAX_LINK_ROOMS = 20

#: Longer JSON is made again with fewer rows, until it fits or has ten of each.
MAX_STATE_BYTES = 128 * 1024

_FEWER_ROWS = (MAX_ROWS, 30, 10)

#: Names of lists in the object: of those that stand beside their number, and of the others.
_COUNTED_LISTS = ("users", "groups", "rooms", "pairs")
_PLAIN_LISTS = ("closes", "ended")


class StateSources(NamedTuple):
    """Where the facts of the node are.

    :ivar local: its clock is of Unix seconds, as reactors have them.
    :ivar read_cluster: see `meshrelay.http.cluster.ClusterStatus.read`; None = the process is a part of a node, and
        another one tells of the cluster.
    :ivar links: None = the node has no P2P links.
    :ivar relay: what it shows when it listens; None = there is none.
    :ivar overlay: None = the node is no peer of the overlay.
    """

    local: LocalParts
    version: str
    counters: NodeCounters
    read_cluster: Callable[[], Awaitable[Mapping[str, Any]]] | None
    links: LinkPages | None = None
    relay: RelaySource | None = None
    overlay: OverlayPages | None = None


class ConsoleView:
    """Makes the object.

    :param history: of the same node.
    """

    def __init__(self, sources: StateSources, history: History, rates: GroupRates) -> None:
        self._sources = sources
        self._history = history
        self._rates = rates
        self._clock = sources.local.clock
        self._started_at = self._clock.seconds()
        self._cluster: Mapping[str, Any] | None = None
        self._pairs: dict[str, Any] = {"count": 0, "rows": []}
        self._ended: deque[dict[str, Any]] = deque(maxlen=MAX_ENDED)

    def session_ended(self, session: ISession, reason: CloseReason | None) -> None:
        """Remember why a session is over; consoles come and go as people look."""
        if session.user.user_id.startswith(USER_PREFIX):
            return
        self._ended.append(
            {
                "at": round(self._clock.seconds(), 1),
                "user": session.user.user_id,
                "transport": session.user.transport,
                "reason": reason.name.lower() if reason is not None else "left",
                "text": reason.text if reason is not None else "it said goodbye, or did not come back in time",
            }
        )

    async def look_around(self) -> int:
        """Ask the other nodes, and for P2P pairs. Returns how many nodes were asked."""
        self._pairs = await self._relayed_pairs()
        if self._sources.read_cluster is None:
            return 0
        document = await self._sources.read_cluster()
        self._cluster = _bounded_cluster(document)
        return len(document["nodes"])

    async def _relayed_pairs(self) -> dict[str, Any]:
        links = self._sources.links
        if links is None:
            return {"count": 0, "rows": []}
        rows: list[dict[str, str]] = []
        for room_id, _, _ in links.rooms()[1][:MAX_LINK_ROOMS]:
            try:
                _, pairs = await links.pairs(room_id)
            except (CommandError, MeshRelayError):
                # The room went while it was looked at.
                continue
            rows += [
                {"room": room_id, "user": each.user_id, "peer": each.peer_id, "state": each.state, "why": each.reason}
                for each in pairs
                if each.state != "direct"
            ]
        return {"count": len(rows), "rows": rows[:MAX_ROWS]}

    def read(self, consoles: int) -> dict[str, Any]:
        """Return the object, with the rates since the last call.

        :param consoles: how many watch.
        """
        sources = self._sources
        latest = self._history.latest
        return {
            "node": sources.local.node_id,
            "version": sources.version,
            "at": round(self._clock.seconds(), 3),
            "uptime_seconds": round(self._clock.seconds() - self._started_at, 1),
            "sample": list(latest) if latest is not None else None,
            "connections": {name: each.connections for name, each in sources.counters.transports.items()},
            "users": self._users(),
            "groups": self._groups(self._rates.take()),
            "rooms": self._rooms(),
            "closes": [each._asdict() for each in self._history.closes()[:MAX_ROWS]],
            "ended": list(reversed(self._ended)),
            "pairs": self._pairs,
            "pair_counts": dict(sources.links.counts()) if sources.links is not None else {},
            "relay": self._relay(),
            "overlay": self._overlay(),
            "cluster": self._cluster,
            "consoles": consoles,
        }

    def _users(self) -> dict[str, Any]:
        registry, now = self._sources.local.registry, self._clock.seconds()
        newest = islice(reversed(list(registry)), MAX_ROWS)
        return {
            "count": len(registry),
            "away": registry.away_count,
            "rows": [
                {
                    "id": session.user.user_id,
                    "transport": session.user.transport,
                    "away": not session.is_attached,
                    "seconds": round(max(0.0, now - session.since), 1),
                    "queued_bytes": session.queued_bytes,
                    "latency_ms": round(session.latency_seconds * 1000, 1) if session.latency_seconds else None,
                }
                for session in newest
            ],
        }

    def _groups(self, rates: Mapping[str, GroupRate]) -> dict[str, Any]:
        table = self._sources.local.groups.table
        shown = {group.id: group for group in _first(map(table.find, rates), MAX_ROWS)}
        for group in sorted(islice(table, MAX_LOOKED_AT), key=lambda each: -len(each.members)):
            if len(shown) >= MAX_ROWS:
                break
            shown.setdefault(group.id, group)
        quiet = GroupRate(0.0, 0.0)
        return {
            "count": len(table),
            "rows": [
                {
                    "id": group.id,
                    "members": group.member_count,
                    "nodes": group.node_count,
                    "static": group.settings.is_static,
                    "messages": rates.get(group.id, quiet).messages,
                    "bytes": rates.get(group.id, quiet).bytes,
                }
                for group in shown.values()
            ],
        }

    def _rooms(self) -> dict[str, Any]:
        table = self._sources.local.rooms.table
        largest = sorted(islice(table, MAX_LOOKED_AT), key=lambda room: -len(room.members))[:MAX_ROWS]
        return {
            "count": len(table),
            "rows": [
                {
                    "id": room.id,
                    "members": len(room.members),
                    "max_members": room.settings.max_members,
                    "owner": room.owner,
                }
                for room in largest
            ],
        }

    def _relay(self) -> dict[str, Any] | None:
        relay = self._sources.relay
        if relay is None:
            return None
        counters = relay.counters
        return {
            "listens": sorted(relay.transports()),
            "peers": dict(counters.peers),
            "active": relay.active_count(),
            "messages": counters.messages_sent,
            "bytes": counters.sent_bytes,
            "dropped": sum(counters.dropped.values()),
        }

    def _overlay(self) -> dict[str, Any] | None:
        overlay = self._sources.overlay
        if overlay is None:
            return None
        count, peers = overlay.peers()
        return {
            "id": overlay.peer_id,
            "url": overlay.url(),
            "peers": {"count": count, "rows": [peer._asdict() for peer in islice(peers, MAX_ROWS)]},
        }


def encode_state(state: Mapping[str, Any]) -> bytes:
    """Return the object as JSON, with as many rows of each list as fit.

    :param state: see `ConsoleView.read`.
    """
    encoded = b""
    for rows in _FEWER_ROWS:
        encoded = msgspec.json.encode(_with_rows(state, rows))
        if len(encoded) <= MAX_STATE_BYTES:
            break
    return encoded


def _with_rows(state: Mapping[str, Any], rows: int) -> dict[str, Any]:
    shown = dict(state)
    for name in _COUNTED_LISTS:
        shown[name] = _first_rows(state[name], rows)
    for name in _PLAIN_LISTS:
        shown[name] = state[name][:rows]
    if state["overlay"] is not None:
        shown["overlay"] = {**state["overlay"], "peers": _first_rows(state["overlay"]["peers"], rows)}
    return shown


def _first_rows(counted: Mapping[str, Any], rows: int) -> dict[str, Any]:
    return {**counted, "rows": counted["rows"][:rows]}


def _first(found: Iterable[LiveGroup | None], count: int) -> Iterator[LiveGroup]:
    return islice((group for group in found if group is not None), count)


def _bounded_cluster(document: Mapping[str, Any]) -> dict[str, Any]:
    """The cluster page with at most `MAX_ROWS` nodes, the asked one first, then those that are not well."""
    asked = document["asked"]
    nodes = sorted(document["nodes"], key=lambda node: (node["id"] != asked, node["state"] == "ready", node["id"]))
    shown = nodes[:MAX_ROWS]
    names = {node["id"] for node in shown}
    kept = ("id", "state", "load", "version", "users", "groups", "uptime_seconds")
    rows = []
    for node in shown:
        links = [
            {"to": link["to"], "state": link["state"], "rtt_ms": link["rtt_ms"], "queued_bytes": link["queued_bytes"]}
            for link in node["links"]
            if link["to"] in names
        ]
        rows.append({**{name: node[name] for name in kept}, "links": links[:MAX_ROWS]})
    return {"count": len(nodes), "rows": rows, "directory": document["directory"]}
