"""What a node may ask of the directory of its cluster, whatever holds it."""

# Methods of a zope interface have no self.
# ruff: noqa: N805

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from meshrelay.directory.records import GroupRecord, NodeRecord, UserRecord

__all__ = ["IDirectory"]


class IDirectory(Interface):
    """Which node has what.

    Every method that returns a Deferred may fail with `DirectoryUnavailable`, and fires within the deadline of the
    directory (``refresh``: within one deadline for each round of batches). Arguments out of their range are a
    ValueError of the same Deferred. Methods that take a node fail with `NodeUnknown` when it has no lease.
    """

    lease_seconds = Attribute("float: how long a node is known after `register_node`; renew it each third of that.")
    refresh_seconds = Attribute("float: call `refresh` at least that often; 0 = only when data were lost.")

    def start() -> None:
        """Begin to look whether data were lost. Before, calls work but watchers hear nothing."""

    def stop() -> Deferred[None]:
        """End: calls in flight fail, later ones as well. Fires when nothing is open any more."""

    def register_node(record: NodeRecord) -> Deferred[bool]:
        """Begin or renew the lease of a node, and store what it says of itself.

        :returns: True: a lease was renewed. False: it is a new one, nothing else of the node is here: `refresh`.
        :raises NodeIdInUse: a living node of this ID has another incarnation.
        :raises DirectoryFull: there are max_nodes living nodes.
        """

    def withdraw_node(node_id: str, incarnation: str) -> Deferred[bool]:
        """End the lease of a node; all its entries are gone with it. False: it was not that incarnation."""

    def nodes() -> Deferred[list[NodeRecord]]:
        """All living nodes, sorted by ID."""

    def claim_user(record: UserRecord) -> Deferred[UserRecord | None]:
        """Say that a user is here. The newest stamp wins; what a dead node holds does not count.

        :returns: the older sign-in that was displaced, for its node to end; None when there was none, or the same one.
        :raises UserTakenOver: a newer sign-in is elsewhere; nothing was changed.
        :raises NodeUnknown: the record's node has no lease.
        :raises DirectoryFull: there are max_users users.
        """

    def release_user(user_id: str, sid: str, node_id: str) -> Deferred[bool]:
        """Say that a session of a node ended.

        False: the user is not there, or by another session, or by this one at another node, where it was resumed;
        nothing was changed.
        """

    def find_user(user_id: str) -> Deferred[UserRecord | None]:
        """Where the user is; never on a node whose lease is gone."""

    def join_group(group_id: str, node_id: str, settings: bytes) -> Deferred[GroupRecord]:
        """Say that a node holds a group. While a living node holds it, the first settings stay.

        :returns: the group with this node.
        :raises NodeUnknown: the node has no lease.
        :raises DirectoryFull: there are max_groups groups.
        """

    def leave_group(group_id: str, node_id: str) -> Deferred[bool]:
        """Say that a node does not hold a group any more. False: it did not."""

    def find_group(group_id: str) -> Deferred[GroupRecord | None]:
        """The group and the living nodes that hold it; None when there is none."""

    def refresh(
        node_id: str, users: Iterable[UserRecord], groups: Iterable[tuple[str, bytes]]
    ) -> Deferred[list[UserRecord]]:
        """Say again all that a node has, in bounded batches. What is not named is left as it is.

        :param users: of this node; consumed as the batches go out.
        :param groups: (group ID, settings).
        :returns: the newer sign-ins that hold some of the users: end those sessions, as with `UserTakenOver`.
        :raises NodeUnknown: the node has no lease; batches before may have been taken.
        """

    def epoch() -> Deferred[str]:
        """Names the life of the stored data: another one means that they may be lost."""

    def loopback(token: str) -> Deferred[None]:
        """Send a token through the directory and wait for it. Fires when it came back: delivery works."""

    def watch_lost(callback: Callable[[], object]) -> None:
        """Call `callback` each time data were lost, or the directory is back after it was away.

        What it raises is logged.
        """

    def statistics() -> dict[str, int]:
        """Counters for the metrics page."""
