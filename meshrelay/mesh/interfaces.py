"""What stands between the links and the rest: connections below, observers above.

::

    pb, memory_mesh --IConnectionUser--> strand --> links --INodeLinkObserver--> directory, groups, ...
    pb, memory_mesh <--INodeConnection-- strand <-- links <------ send, call

The five methods of a connection are all that nodes say to each other; what they carry is in ``wire.node``.
"""

# Methods of a zope interface have no self.
# ruff: noqa: N805

from __future__ import annotations

from typing import Protocol

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from meshrelay.wire.node import Message

__all__ = ["METHODS", "Dial", "IConnectionUser", "INodeConnection", "INodeLinkObserver", "WritesOfTurn"]

#: What one end may call at the other. Each takes bytes and answers with bytes.
METHODS = ("hello", "batch", "call", "ping", "bye")


class INodeConnection(Interface):
    """One connection to another node. Given by `mesh.pb`, and in memory by `meshrelay.testing.memory_mesh`.

    Calls arrive in the order in which they were made.
    """

    peer = Attribute("str: the address of the other end, for the log.")
    names = Attribute("tuple[str, ...] or None: node IDs of the peer's certificate; None = no certificate was asked.")

    def attach(user: IConnectionUser) -> None:
        """From now on `user` is told what arrives. Called once, in the turn in which the connection was given."""

    def call(method: str, data: bytes) -> Deferred[bytes]:
        """Call one of `METHODS` at the other end.

        :returns: fires with the answer; fails with LinkLost when the connection is gone. It has no deadline.
        """

    def finish() -> None:
        """Close when everything was written."""

    def abort(reason: str) -> None:
        """Close at once; `reason` is for our log. The user's ``connection_lost`` is called."""


class IConnectionUser(Interface):
    """Who uses a connection. Given by `mesh.strand`."""

    def heard() -> None:
        """Bytes arrived, whole calls or not. Called once for each read, first."""

    def received(method: str, data: bytes) -> bytes | Deferred[bytes]:
        """The other end called one of `METHODS`. Never raises, and the Deferred never fails.

        :returns: the answer.
        """

    def connection_lost(reason: str) -> None:
        """The connection is gone. Called once, last."""


class INodeLinkObserver(Interface):
    """Who is told about links. What it raises is logged and harms no link.

    ``messages_received`` is called inside the turn in which they arrived; ``link_up`` before the first of them.
    """

    def messages_received(node_id: str, messages: list[Message]) -> None:
        """Messages came: (kind, payload), in the order in which they were sent, each exactly once."""

    def call_received(node_id: str, name: str, payload: bytes) -> Deferred[bytes]:
        """The node asks for an answer. A failure is logged here and told there without its text."""

    def link_up(node_id: str) -> None:
        """The node can be reached. Not called when a newer connection takes over from one that is up."""

    def link_down(node_id: str, reason: str) -> None:
        """The node cannot be reached for now. What is sent meanwhile waits."""

    def link_reset(node_id: str, dropped_messages: int) -> None:
        """The node began anew (another incarnation). Called before ``link_up``.

        :param dropped_messages: what waited, or was on its way, for the old one.
        """


class Flushable(Protocol):
    """Something that has work for the end of the turn."""

    def flush(self) -> None:
        """Do the work."""


class WritesOfTurn(Protocol):
    """Where a link asks to be flushed once, at the end of this turn (`meshrelay.fanout.turn.Turn`)."""

    def write(self, flushable: Flushable) -> None:
        """Flush `flushable` at the end of the turn."""


class Dial(Protocol):
    """Opens a connection to a node; `mesh.pb.dialer` makes such a function."""

    def __call__(self) -> Deferred[INodeConnection]:
        """Return what fires with the connection, or fails. Cancelling it gives up."""
