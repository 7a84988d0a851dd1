"""What one node tells of itself and its links, as the answer to the call "node.status" of another one.

::

    record, sessions, links of this node --own_status--> NodeStatus --msgpack--> the node that was asked by a person

Fields that a later version adds are passed over by this one. The asking node says how many links it has room for, so
that the status of a thousand nodes, with half a million links, stays small. Those that are down come first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, NamedTuple, TypeVar

import msgspec

from meshrelay.directory.records import NodeRecord
from meshrelay.errors import MalformedFrame
from meshrelay.mesh.link import LinkState, NodeLink

__all__ = [
    "MAX_LINKS",
    "NO_ANSWER",
    "STATUS_CALL",
    "LinkStatus",
    "NodeStatus",
    "StatusSources",
    "answer_status",
    "decode_status",
    "encode_question",
    "own_status",
    "unanswered_status",
]

_T = TypeVar("_T")

STATUS_CALL = "node.status"

#: Links in the status of a whole cluster; of one node no more are asked for or told.
MAX_LINKS = 10_000

#: About that many fit a call.
_MAX_LINKS_OF_A_NODE = 2_000

#: State of a node that could not be asked.
NO_ANSWER = "no answer"


class LinkStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One link, as the node at this end sees it."""

    #: ID of the other node.
    to: str
    #: "up"; everything else is down: "idle", "waiting", "dialing".
    state: str
    #: Smoothed round trip; None = not measured.
    rtt_ms: float | None = None
    queued_bytes: int = 0
    queued_messages: int = 0
    dropped_messages: int = 0
    resent_batches: int = 0


class NodeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One node. What is None is not known, because the node did not answer."""

    id: str
    #: "ready", "starting", "draining" or "no answer".
    state: str
    #: Where other nodes link to; "" = it takes no links.
    mesh_endpoint: str = ""
    #: Kind of place -> host:port.
    places: Mapping[str, str] = {}
    #: 0 = idle, 1 = takes no more.
    load: float | None = None
    version: str | None = None
    #: Sessions, those that are away included.
    users: int | None = None
    #: Groups that the node holds.
    groups: int | None = None
    uptime_seconds: float | None = None
    links: tuple[LinkStatus, ...] = ()
    #: Links that are up and for which there was no room.
    links_left_out: int = 0


class _Question(msgspec.Struct, frozen=True):
    max_links: Annotated[int, msgspec.Meta(ge=0, le=MAX_LINKS)] = 0


class StatusSources(NamedTuple):
    """Where the own status is read.

    :ivar record: what this node tells the directory.
    :ivar phase: "ready", "starting" or "draining".
    :ivar links: `meshrelay.mesh.links.Links`, or nothing.
    """

    record: Callable[[], NodeRecord]
    phase: Callable[[], str]
    version: str
    users: Callable[[], int]
    groups: Callable[[], int]
    uptime_seconds: Callable[[], float]
    links: Iterable[NodeLink] = ()


def own_status(sources: StatusSources, max_links: int) -> NodeStatus:
    """Return the status of this node.

    :param max_links: that many links at most, those that are down first.
    """
    record = sources.record()
    # False sorts first.
    links = sorted(sources.links, key=lambda link: (link.state is LinkState.UP, link.node_id))
    shown = links[: min(max_links, _MAX_LINKS_OF_A_NODE)]
    return NodeStatus(
        id=record.node_id,
        state=sources.phase(),
        mesh_endpoint=record.mesh_endpoint,
        places=dict(record.places),
        load=record.load,
        version=sources.version,
        users=sources.users(),
        groups=sources.groups(),
        uptime_seconds=round(sources.uptime_seconds(), 1),
        links=tuple(_link_status(link) for link in shown),
        links_left_out=len(links) - len(shown),
    )


def _link_status(link: NodeLink) -> LinkStatus:
    counts = link.statistics()
    rtt = link.rtt_seconds
    return LinkStatus(
        to=link.node_id,
        state=link.state.value,
        rtt_ms=round(rtt * 1e3, 3) if rtt is not None else None,
        queued_bytes=counts["queued_bytes"],
        queued_messages=counts["queued_messages"],
        dropped_messages=counts["dropped_messages"],
        resent_batches=counts["resent_batches"],
    )


def unanswered_status(node_id: str, record: NodeRecord | None) -> NodeStatus:
    """Return what is known of a node that did not answer.

    :param record: from the directory; None: it is not there.
    """
    if record is None:
        return NodeStatus(id=node_id, state=NO_ANSWER)
    return NodeStatus(
        id=node_id,
        state=NO_ANSWER,
        mesh_endpoint=record.mesh_endpoint,
        places=dict(record.places),
        load=record.load,
    )


def encode_question(max_links: int) -> bytes:
    """Return what another node is asked.

    :param max_links: 0 to `MAX_LINKS`.
    """
    return msgspec.msgpack.encode(_Question(max_links))


def answer_status(sources: StatusSources) -> Callable[[str, bytes], bytes]:
    """Return what answers "node.status" on this node."""

    def answer(node_id: str, payload: bytes) -> bytes:
        question = _decode(payload, _Question)
        return msgspec.msgpack.encode(own_status(sources, question.max_links))

    return answer


def decode_status(node_id: str, payload: bytes) -> NodeStatus:
    """Read the answer of a node.

    :raises MalformedFrame: it is none, or names another node; the other node's fault.
    """
    status = _decode(payload, NodeStatus)
    if status.id != node_id:
        raise MalformedFrame(f"the status is of another node than {node_id}")
    return status


def _decode(payload: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.msgpack.decode(payload, type=kind)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise MalformedFrame(f"{STATUS_CALL}: {error}") from error
