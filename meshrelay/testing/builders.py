"""Users and sessions for tests, made in one call.

::

    session = make_session("ann")
    session.push(2, 1, b"hello", True)
    session.link.received  ->  [Frame(ver=2, ...)]
"""

from __future__ import annotations

from hashlib import sha256

from meshrelay.model import User
from meshrelay.session.session import Session
from meshrelay.testing.link import MemoryConnection, MemoryLink

__all__ = ["make_group_id", "make_session", "make_sid", "make_user"]


def make_sid(name: str) -> str:
    """Return the sid of 32 hex digits that belongs to `name`."""
    return sha256(name.encode("utf-8")).hexdigest()[:32]


def make_group_id(name: str) -> str:
    """Return a group ID of 52 characters that begins with `name` (ASCII, at most 52 characters)."""
    return name.ljust(52, "-")


def make_user(user_id: str = "ann", transport: str = "tcp", **claims: object) -> User:
    """Return a user whose sid depends on the ID alone."""
    return User(user_id, make_sid(user_id), transport, dict(claims))


def make_session(
    user_id: str = "ann", link: MemoryLink | None = None, replay_bytes: int = 65536, acks: bool = False
) -> Session:
    """Return a session that a `MemoryConnection` serves.

    :param link: where its pushes go; None = a new one.
    :param replay_bytes: what it keeps for a resume.
    :param acks: the client acknowledges pushes.
    """
    session = Session(make_user(user_id), replay_bytes, acks)
    session.attach(MemoryConnection(link if link is not None else MemoryLink()))
    return session
