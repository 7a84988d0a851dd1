"""What the application gets: `IMeshRelay`, over the tables of this node."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from inspect import isawaitable
from typing import NamedTuple

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from meshrelay.background import result_of, start
from meshrelay.components.hooks import Command
from meshrelay.errors import MessageTooLarge
from meshrelay.interfaces import (
    CommandHandler,
    Hook,
    IDirectMessages,
    IGroups,
    IMeshRelay,
    IPeerLinks,
    IRooms,
    ISession,
    ISessionObserver,
)
from meshrelay.model import CloseReason, User
from meshrelay.session.dispatch import Dispatcher
from meshrelay.session.registry import SessionRegistry
from meshrelay.wire.commands import BUILT_IN_VER, FIRST_APPLICATION_VER

__all__ = ["Application", "Components"]


class Components(NamedTuple):
    """What the application gets as attributes of `IMeshRelay`."""

    groups: IGroups
    rooms: IRooms
    links: IPeerLinks
    direct: IDirectMessages


@implementer(IMeshRelay, ISessionObserver)
class Application:
    """See `IMeshRelay`.

    :param max_payload_bytes: longest answer of a command, and longest push.
    """

    _log = Logger()

    def __init__(
        self,
        node_id: str,
        clock: IReactorTime,
        components: Components,
        registry: SessionRegistry,
        dispatcher: Dispatcher,
        max_payload_bytes: int = 65536,
    ) -> None:
        self.node_id = node_id
        self.clock = clock
        self.groups = components.groups
        self.rooms = components.rooms
        self.links = components.links
        self.direct = components.direct
        self._registry = registry
        self._dispatcher = dispatcher
        self._max_payload_bytes = max_payload_bytes
        self._sign_in_callbacks: list[Callable[[User], object]] = []
        self._sign_out_callbacks: list[Callable[[User], object]] = []

    def command(self, ver: int, cmd: int, handler: CommandHandler) -> None:
        """See `IMeshRelay`."""
        if not FIRST_APPLICATION_VER <= ver <= 255 or not 0 <= cmd <= 65535:
            raise ValueError(f"ver {ver} cmd {cmd}: an application has ver 2 to 255 and cmd 0 to 65535")

        def run(session: ISession, payload: bytes, reliable: bool) -> bytes | Awaitable[bytes]:
            result = handler(ver, cmd, payload, session.user)
            return self._later_answer(result, ver, cmd) if isawaitable(result) else self._answer(result, ver, cmd)

        self._dispatcher.register({(ver, cmd): Command(ver, cmd, run)})

    def _answer(self, result: object, ver: int, cmd: int) -> bytes:
        if result is None:
            return b""
        if not isinstance(result, bytes):
            raise TypeError(f"the handler of ver {ver} cmd {cmd} returned {type(result).__name__}, not bytes or None")
        self._check_size(result)
        return result

    async def _later_answer(self, result: Awaitable[object], ver: int, cmd: int) -> bytes:
        return self._answer(await result, ver, cmd)

    def _check_size(self, payload: bytes) -> None:
        if len(payload) > self._max_payload_bytes:
            raise MessageTooLarge(f"{len(payload)} bytes, max_payload_bytes is {self._max_payload_bytes}")

    def before(self, ver: int, cmd: int, hook: Hook) -> None:
        """See `IMeshRelay`."""
        self._command_of(ver, cmd).add_before(hook)

    def after(self, ver: int, cmd: int, hook: Hook) -> None:
        """See `IMeshRelay`."""
        self._command_of(ver, cmd).add_after(hook)

    def _command_of(self, ver: int, cmd: int) -> Command:
        command = self._dispatcher.find(ver, cmd)
        if command is None:
            raise ValueError(f"ver {ver} cmd {cmd}: no such command; register it before its hooks")
        return command

    def push(self, user_id: str, ver: int, cmd: int, message: bytes, reliable: bool) -> bool:
        """See `IMeshRelay`."""
        if ver < BUILT_IN_VER:
            raise ValueError("ver 0 is the node's own, pushes have 1 to 255")
        self._check_size(message)
        session = self._registry.find_user(user_id)
        if session is None:
            return False
        session.push(ver, cmd, message, reliable)
        return True

    def kick(self, user_id: str, text: str) -> bool:
        """See `IMeshRelay`."""
        return self._registry.kick(user_id, text)

    def find_user(self, user_id: str) -> User | None:
        """See `IMeshRelay`."""
        session = self._registry.find_user(user_id)
        return session.user if session is not None else None

    def on_sign_in(self, callback: Callable[[User], object]) -> None:
        """See `IMeshRelay`."""
        self._sign_in_callbacks.append(callback)

    def on_sign_out(self, callback: Callable[[User], object]) -> None:
        """See `IMeshRelay`."""
        self._sign_out_callbacks.append(callback)

    def session_opened(self, session: ISession) -> None:
        """See `ISessionObserver`."""
        self._tell(self._sign_in_callbacks, session)

    def session_away(self, session: ISession) -> None:
        """See `ISessionObserver`."""

    def session_back(self, session: ISession) -> None:
        """See `ISessionObserver`."""

    def session_closed(self, session: ISession, reason: CloseReason | None) -> None:
        """See `ISessionObserver`."""
        self._tell(self._sign_out_callbacks, session)

    def session_moved(self, session: ISession) -> None:
        """See `ISessionObserver`: the user has not signed out."""

    def session_adopted(self, session: ISession, group_ids: list[str]) -> None:
        """See `ISessionObserver`: the user signed in elsewhere, where the callbacks were called."""

    def _tell(self, callbacks: list[Callable[[User], object]], session: ISession) -> None:
        for callback in callbacks:
            start(_call(callback, session.user), self._log, "a callback of the application")


async def _call(callback: Callable[[User], object], user: User) -> None:
    await result_of(callback(user))
