"""What goes wrong between nodes. All of it is told to the caller; none of it reaches a client as it is."""

from __future__ import annotations

from meshrelay.errors import MeshError
from meshrelay.wire.node import CallStatus, Refusal

__all__ = ["CallFailed", "LinkLost", "LinkRefused", "TooManyCalls"]


class LinkRefused(MeshError):
    """One of the two nodes does not want this link.

    :param code: goes over the wire.
    :param text: for the log of both nodes; holds no secret.
    :param is_peers: True: the other node refused.
    """

    def __init__(self, code: Refusal, text: str, is_peers: bool = False) -> None:
        self.code = code
        self.text = text
        self.is_peers = is_peers
        super().__init__(f"{code.name}: {text}" + (" (said the other node)" if is_peers else ""))


class LinkLost(MeshError):
    """The connection ended, or there is none. What was called may have been done or not.

    :param reason: for the log.
    """

    retryable = True

    def __init__(self, node_id: str, reason: str) -> None:
        self.node_id = node_id
        self.reason = reason
        super().__init__(f"link to {node_id or 'a node'}: {reason}")


class CallFailed(MeshError):
    """The other node answered that it could not do it.

    :param status: FAILED, TIMED_OUT or BUSY; BUSY means that it was not begun.
    """

    def __init__(self, status: CallStatus, text: str) -> None:
        self.status = status
        self.text = text
        super().__init__(f"{status.name}: {text}")


class TooManyCalls(MeshError):
    """As many calls of this link wait for an answer as may. Nothing was sent.

    :param limit: max_calls.
    """

    retryable = True

    def __init__(self, node_id: str, limit: int) -> None:
        self.node_id = node_id
        self.limit = limit
        super().__init__(f"link to {node_id}: {limit} calls wait for an answer")
