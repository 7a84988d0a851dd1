"""Sessions, who is told about them, and the components that serve them."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any

from zope.interface import Attribute, Interface

from meshrelay.interfaces.flow import ISubscriber
from meshrelay.model import CloseReason

__all__ = ["IComponent", "ISession", "ISessionObserver", "ISessions"]


class ISession(ISubscriber):
    """One sign-in of one user. It outlives its connection by resume_seconds."""

    user = Attribute("`meshrelay.model.User`")
    is_attached = Attribute("bool: a connection serves it now.")
    is_over = Attribute("bool: it has ended for good, and no table may take it in any more.")
    latency_seconds = Attribute("float or None: round trip of the last answered PING.")
    queued_bytes = Attribute("int: what waits in its connection's outbox.")
    udp_address = Attribute("(host, port) where its client has shown to be; None: away, unknown, or no UDP client.")
    replay_bytes = Attribute("int: what is kept for a resume.")

    def push(ver: int, cmd: int, payload: bytes, reliable: bool) -> None:
        """Send one push to this session alone."""

    def measure_latency() -> None:
        """Let `latency_seconds` be measured now rather than at the next heartbeat."""

    def reply(request_id: int, status: int, ver: int, cmd: int, payload: bytes) -> None:
        """Answer one request. Dropped when the connection is gone: its client has given up on it."""


class ISessions(Interface):
    """All sessions of this node."""

    def find_session(sid: str) -> ISession | None:
        """The session of this sid."""

    def find_user(user_id: str) -> ISession | None:
        """The session of this user; a user has at most one."""

    def kick(user_id: str, text: str) -> bool:
        """Close the user's session with KICKED. False: no such user on this node."""


class ISessionObserver(Interface):
    """Who is told about sessions. Called in the order of registration; what is raised is logged."""

    def session_opened(session: ISession) -> None:
        """A user signed in."""

    def session_away(session: ISession) -> None:
        """The connection broke; the session may be resumed."""

    def session_back(session: ISession) -> None:
        """The session was resumed. Called before anything new is pushed to it."""

    def session_closed(session: ISession, reason: CloseReason | None) -> None:
        """The session is over. `reason` is None when the client left or stayed away too long."""

    def session_moved(session: ISession) -> None:
        """The session goes on at another node, which was told what it takes along. Its user has not left.

        It is over here, so `session_closed` is not called. What is delivered to it until this returns still goes along.
        """

    def session_adopted(session: ISession, group_ids: list[str]) -> Awaitable[None] | None:
        """The session comes from another node, perhaps one that died, and is away; `session_back` may follow.

        It may end, or move on, at any time: look at `is_over` after each wait.

        :param group_ids: groups it was in, as its node or the others said, in the order in which they were joined.
        :returns: a Deferred or a coroutine that is done when the session is in its groups again; nobody waits longer
            than 3 seconds. None: nothing to wait for. A failure is logged.
        """


class IComponent(ISessionObserver):
    """One capability: its commands, its state, its share of each session."""

    name = Attribute("str: as in the configuration.")

    def command_table() -> Mapping[tuple[int, int], Any]:
        """(ver, cmd) -> `meshrelay.components.hooks.Command`."""

    def statistics() -> Mapping[str, int]:
        """Counts for the metrics page; the same keys at each call."""

    def stop() -> None:
        """The node is going down."""
