"""The other nodes as the rest of this one sees them: links below, `INodes` above.

::

    links --link_up, link_down, link_reset--> Nodes --met, lost, back, gone--> observers (groups, users, directory)
    links --messages, calls-----------------> Nodes --by kind, by name-------> handlers
    links <--send, call---------------------- Nodes <------------------------- components

A link that breaks for a moment is nobody's concern: what is sent waits. A node is lost only when its link was down for
lost_seconds and no other node that is asked has a link to it, and gone when it then stays away: its link is forgotten,
and so is all that waited for it. The other end learns of that from the numbering that began anew.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from math import ceil
from typing import cast

from twisted.internet.defer import Deferred, fail, gatherResults, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from meshrelay.errors import MalformedFrame
from meshrelay.interfaces import INodeObserver, INodes
from meshrelay.mesh.errors import CallFailed, LinkLost
from meshrelay.mesh.interfaces import INodeLinkObserver
from meshrelay.mesh.links import Links
from meshrelay.mesh.presence import Presence, PresenceInput, PresenceState
from meshrelay.wire.node import CallStatus, Message, Refusal

__all__ = ["CallHandler", "MessageHandler", "NodeStatus", "Nodes", "NodesOptions"]

MessageHandler = Callable[[str, bytes], object]
CallHandler = Callable[[str, bytes], "Deferred[bytes] | bytes"]

#: How often nodes that are not linked are looked at.
_TICK_SECONDS = 0.25

#: So many nodes are asked whether they see another one; more would only make a storm of calls in a large cluster.
_MAX_WITNESSES = 16

_SEES = "nodes.sees"
_YES, _NO = b"\x01", b"\x00"

#: Kinds of messages end here; what is above is kept for the links themselves.
_MAX_KIND = 127


@dataclass(frozen=True, slots=True)
class NodesOptions:
    """When a node that is not linked is lost, and when it is gone.

    Each time may be longer by a quarter of a second.
    """

    #: From the end of its link to the question whether others see it.
    lost_seconds: float = 2.0
    #: From the end of its link until it is forgotten, if it is lost then.
    gone_seconds: float = 30.0
    #: Between two such questions, and how long an answer may take.
    probe_seconds: float = 1.0


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One other node, for people."""

    #: linked, cut or lost.
    state: str
    #: Smoothed round trip; None = not known or not linked.
    rtt_seconds: float | None
    endpoint: str
    #: Messages and calls of it that could not be read.
    malformed: int
    #: Counts of its link.
    link: Mapping[str, int]


@implementer(INodes, INodeLinkObserver)
class Nodes:
    """All nodes that were met and are not gone.

    The links are given by `attach` before the first of them comes up: they need their observer first.

    :param mesh_endpoint: where others link to this node; empty = it takes no links.
    :ivar unknown_calls: calls by a name that nobody answers here.
    """

    _log = Logger()

    def __init__(
        self,
        node_id: str,
        mesh_endpoint: str,
        clock: IReactorTime,
        options: NodesOptions = NodesOptions(),
    ) -> None:
        self.node_id = node_id
        self.mesh_endpoint = mesh_endpoint or node_id
        self._clock = clock
        self._lost_ticks = _ticks(options.lost_seconds)
        self._gone_ticks = _ticks(options.gone_seconds)
        self._probe_ticks = _ticks(options.probe_seconds)
        self._probe_seconds = options.probe_seconds
        self._links: Links
        self._known: dict[str, Presence] = {}
        #: Those that are not linked.
        self._down: dict[str, Presence] = {}
        self._endpoints: Mapping[str, str] = {}
        self._timer: IDelayedCall | None = None
        self._is_stopped = False
        self._observers: list[INodeObserver] = []
        self._watchers: list[Callable[[str, bool], object]] = []
        self._handlers: dict[int, MessageHandler] = {}
        self._answers: dict[str, CallHandler] = {}
        self._malformed = 0
        self.unknown_calls = 0
        self.answer(_SEES, self._is_seen)

    def attach(self, links: Links) -> None:
        """Use `links`, whose observer this is."""
        self._links = links

    @property
    def kinds(self) -> Container[int]:
        """Kinds of messages that are handled here; grows with `handle`."""
        return self._handlers

    def stop(self) -> None:
        """This node goes down: from now on nobody is told anything. Call it before `Links.stop`."""
        self._is_stopped = True
        self._known.clear()
        self._down.clear()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def known(self) -> list[str]:
        """See `INodes`."""
        return sorted(self._known)

    def is_up(self, node_id: str) -> bool:
        """See `INodes`."""
        return node_id in self._known and node_id not in self._down

    def is_lost(self, node_id: str) -> bool:
        """See `INodes`."""
        presence = self._known.get(node_id)
        return presence is not None and presence.state is PresenceState.LOST

    def endpoint_of(self, node_id: str) -> str:
        """See `INodes`."""
        if node_id == self.node_id:
            return self.mesh_endpoint
        return self._endpoints.get(node_id) or node_id

    def set_endpoints(self, endpoints: Mapping[str, str]) -> None:
        """Say where nodes are: ID -> mesh endpoint, empty = it takes no links. Replaces what was said before."""
        self._endpoints = endpoints

    def send(self, node_id: str, kind: int, payload: bytes) -> bool:
        """See `INodes`."""
        if node_id not in self._known:
            return False
        link = self._links.find(node_id)
        return link is not None and link.send(kind, payload)

    def call(self, node_id: str, name: str, payload: bytes) -> Deferred[bytes]:
        """See `INodes`."""
        link = self._links.find(node_id) if node_id in self._known else None
        if link is None:
            return fail(LinkLost(node_id, "the node is not known"))
        return link.call(name, payload)

    def handle(self, kind: int, handler: MessageHandler) -> None:
        """See `INodes`."""
        if not 0 <= kind <= _MAX_KIND or kind in self._handlers:
            raise ValueError(f"messages of kind {kind} have a handler already, or are not from 0 to {_MAX_KIND}")
        self._handlers[kind] = handler

    def answer(self, name: str, handler: CallHandler) -> None:
        """See `INodes`."""
        if not name.isascii() or name in self._answers:
            raise ValueError(f"calls {name!r} are answered already, or the name is not ASCII")
        self._answers[name] = handler

    def add_observer(self, observer: INodeObserver) -> None:
        """See `INodes`."""
        self._observers.append(observer)

    def watch_links(self, callback: Callable[[str, bool], object]) -> None:
        """Call ``callback(node_id, is_up)`` each time a link comes up or breaks, after the observers were told."""
        self._watchers.append(callback)

    def link_up(self, node_id: str) -> None:
        """See `INodeLinkObserver`."""
        if self._is_stopped:
            return
        presence = self._known.get(node_id)
        if presence is None:
            self._known[node_id] = Presence(node_id)
            self._tell("node_met", node_id)
        else:
            before = presence.move(PresenceInput.UP)
            self._down.pop(node_id, None)
            if before is PresenceState.LOST:
                self._log.info("node {node} is back", node=node_id)
                self._tell("node_back", node_id)
        self._tell_watchers(node_id, is_up=True)

    def link_down(self, node_id: str, reason: str) -> None:
        """See `INodeLinkObserver`."""
        presence = self._known.get(node_id)
        if presence is not None:
            link = self._links.find(node_id)
            refused = link.refused if link is not None else None
            is_goodbye = refused is not None and refused.is_peers and refused.code is Refusal.CLOSED
            presence.cut(is_goodbye, self._lost_ticks)
            self._down[node_id] = presence
            self._tick_later()
            if is_goodbye:
                self._lost(presence, "it said goodbye")
        self._tell_watchers(node_id, is_up=False)

    def link_reset(self, node_id: str, dropped_messages: int) -> None:
        """See `INodeLinkObserver`."""
        presence = self._known.get(node_id)
        if presence is not None:
            self._remove(presence, f"it began anew, {dropped_messages} messages to it are dropped")

    def messages_received(self, node_id: str, messages: list[Message]) -> None:
        """See `INodeLinkObserver`."""
        for kind, payload in messages:
            handler = self._handlers.get(kind)
            if handler is None:
                continue
            try:
                handler(node_id, payload)
            except MalformedFrame as error:
                self._count_malformed(node_id, f"message of kind {kind}", error)
            except Exception:  # one message that cannot be handled must not take those behind it along
                self._log.failure("a message of kind {kind} of node {node} failed", kind=kind, node=node_id)

    def call_received(self, node_id: str, name: str, payload: bytes) -> Deferred[bytes]:
        """See `INodeLinkObserver`."""
        handler = self._answers.get(name)
        if handler is None:
            self.unknown_calls += 1
            return fail(CallFailed(CallStatus.FAILED, f"nobody answers {name!r} here"))
        # For the type checker: maybeDeferred knows functions of either kind, not of both.
        answered = maybeDeferred(cast("Callable[[str, bytes], bytes]", handler), node_id, payload)
        return answered.addErrback(self._answer_failed, node_id, name)

    def _answer_failed(self, failure: Failure, node_id: str, name: str) -> Failure:
        error = failure.value
        if not isinstance(error, MalformedFrame):
            return failure
        self._count_malformed(node_id, f"call {name}", error)
        return Failure(CallFailed(CallStatus.FAILED, str(error)))

    def _count_malformed(self, node_id: str, what: str, error: MalformedFrame) -> None:
        self._malformed += 1
        presence = self._known.get(node_id)
        count = 1
        if presence is not None:
            count = presence.malformed = presence.malformed + 1
        # A node of another version may send thousands: the log gets the 1st, 2nd, 4th, 8th, ...
        if count & (count - 1) == 0:
            self._log.warn(
                "{what} of node {node} cannot be read ({count} so far): {error}",
                what=what,
                node=node_id,
                count=count,
                error=str(error),
            )

    def _tick_later(self) -> None:
        if self._timer is None and self._down and not self._is_stopped:
            self._timer = self._clock.callLater(_TICK_SECONDS, self._tick)

    def _tick(self) -> None:
        self._timer = None
        for presence in list(self._down.values()):
            presence.down_ticks += 1
            if presence.state is PresenceState.LOST:
                if presence.down_ticks >= self._gone_ticks:
                    self._remove(presence, "it stayed away")
                    self._links.forget(presence.node_id)
            elif presence.is_question_due():
                self._ask_for(presence)
        self._tick_later()

    def _ask_for(self, presence: Presence) -> None:
        presence.question_tick = None
        asked = presence.node_id.encode()
        answers = [
            self.call(witness, _SEES, asked)
            .addTimeout(self._probe_seconds, self._clock)
            .addCallbacks(lambda answer: answer == _YES, lambda _: False)
            for witness in self._witnesses()
        ]
        gatherResults(answers).addCallback(self._asked, presence, presence.down_count)

    def _witnesses(self) -> list[str]:
        """Linked nodes, beginning behind our own ID, so that not all nodes ask the same few."""
        linked = sorted(self._known.keys() - self._down.keys())
        behind = [node_id for node_id in linked if node_id > self.node_id]
        return (behind + linked)[: min(len(linked), _MAX_WITNESSES)]

    def _asked(self, answers: list[bool], presence: Presence, down_count: int) -> None:
        is_current = self._known.get(presence.node_id) is presence and presence.down_count == down_count
        if not is_current or presence.state is not PresenceState.CUT:
            return
        if any(answers):
            presence.question_tick = presence.down_ticks + self._probe_ticks
            return
        presence.move(PresenceInput.UNSEEN)
        self._lost(presence, f"{len(answers)} others do not see it either")

    def _is_seen(self, _: str, payload: bytes) -> bytes:
        return _YES if self.is_up(payload.decode("utf-8", "replace")) else _NO

    def _lost(self, presence: Presence, why: str) -> None:
        self._log.warn("node {node} is lost: {why}", node=presence.node_id, why=why)
        self._tell("node_lost", presence.node_id)

    def _remove(self, presence: Presence, why: str) -> None:
        self._known.pop(presence.node_id, None)
        self._down.pop(presence.node_id, None)
        self._log.info("node {node} is gone: {why}", node=presence.node_id, why=why)
        self._tell("node_gone", presence.node_id)

    def _tell(self, what: str, node_id: str) -> None:
        for observer in tuple(self._observers):
            try:
                getattr(observer, what)(node_id)
            except Exception:  # one observer's bug must not keep the others from knowing
                self._log.failure("{what} of {node} failed in an observer", what=what, node=node_id)

    def _tell_watchers(self, node_id: str, is_up: bool) -> None:
        for callback in tuple(self._watchers):
            try:
                callback(node_id, is_up)
            except Exception:  # as above
                self._log.failure("a watcher of the link to {node} failed", node=node_id)

    def snapshot(self) -> Mapping[str, NodeStatus]:
        """How each known node stands, by ID in order."""
        return {node_id: self._status(self._known[node_id]) for node_id in self.known()}

    def _status(self, presence: Presence) -> NodeStatus:
        link = self._links.find(presence.node_id)
        return NodeStatus(
            presence.state.value,
            link.rtt_seconds if link is not None else None,
            self.endpoint_of(presence.node_id),
            presence.malformed,
            link.statistics() if link is not None else {},
        )

    def statistics(self) -> Mapping[str, int]:
        """Counts for the metrics page; the same keys at each call."""
        return {
            "nodes_known": len(self._known),
            "nodes_linked": len(self._known) - len(self._down),
            "nodes_lost": sum(each.state is PresenceState.LOST for each in self._down.values()),
            "malformed": self._malformed,
            "unknown_calls": self.unknown_calls,
        }


def _ticks(seconds: float) -> int:
    """Ticks in which at least `seconds` pass: the first one may come at once."""
    return ceil(seconds / _TICK_SECONDS) + 1
