"""Gives an open WebSocket's transport another protocol, so that nothing of its opening handshake stays in memory."""

from __future__ import annotations

from typing import Any

__all__ = ["hand_over"]

#: Where a stream keeps the protocol that it calls: ``tcp.Connection``, and the wrappers of TLS and HAProxy.
_PLACES = ("wrappedProtocol", "protocol")


def hand_over(transport: Any, old: object, new: object) -> bool:
    """Let `transport` call `new` from now on.

    :param old: whom it calls, directly or through what an endpoint has put in between while it connected.
    :returns: False: it calls `old` as before, which has to pass everything on.
    """
    for place in _PLACES:
        called = getattr(transport, place, None)
        if called is not None and (called is old or getattr(called, "_wrappedProtocol", None) is old):
            setattr(transport, place, new)
            return True
    return False
