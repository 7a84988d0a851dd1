"""What the directory may answer instead of an answer: each error says whether trying again can help.

They are caught where a command or a renewal is handled; none of them ends a connection of a client.
"""

from __future__ import annotations

from meshrelay.directory.records import UserRecord
from meshrelay.errors import MeshError

__all__ = ["DirectoryFull", "DirectoryUnavailable", "NodeIdInUse", "NodeUnknown", "UserTakenOver"]


class DirectoryUnavailable(MeshError):
    """The directory did not answer in time, or cannot be reached: nobody's fault who called.

    Whether the call had an effect is not known.

    :param detail: for the log: what happened.
    """

    retryable = True

    def __init__(self, detail: str) -> None:
        self.detail = detail
        super().__init__(f"the directory is away: {detail}")


class DirectoryFull(MeshError):
    """A bound of the directory is reached; the operator's matter.

    :param what: "nodes", "users" or "groups".
    :param limit: how many of them fit.
    """

    retryable = True

    def __init__(self, what: str, limit: int) -> None:
        self.what = what
        self.limit = limit
        super().__init__(f"the directory is full: {limit} {what}")


class NodeIdInUse(MeshError):
    """Another living node has this ID: two nodes are configured alike, or this one came back before its lease ended.

    :param node_id: the ID that is taken.
    """

    retryable = True

    def __init__(self, node_id: str) -> None:
        self.node_id = node_id
        super().__init__(f"node ID {node_id} is in use by another living node")


class NodeUnknown(MeshError):
    """The node has no lease (any more): register it, then say everything again by ``refresh``.

    :param node_id: the node that the call was for.
    """

    retryable = True

    def __init__(self, node_id: str) -> None:
        self.node_id = node_id
        super().__init__(f"node {node_id} is not registered")


class UserTakenOver(MeshError):
    """A newer sign-in of the user is elsewhere: this session has to end.

    :param current: where the user is.
    """

    def __init__(self, current: UserRecord) -> None:
        self.current = current
        super().__init__(f"a newer sign-in of the user is on node {current.node_id}")
