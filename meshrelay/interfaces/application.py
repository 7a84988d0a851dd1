"""The node as the application sees it, and applications as the node sees them."""

from __future__ import annotations

from collections.abc import Callable

from twisted.plugin import IPlugin
from zope.interface import Attribute, Interface

from meshrelay.interfaces.callbacks import CommandHandler, Hook
from meshrelay.model import User

__all__ = ["IMeshRelay", "IMeshRelayApp"]


class IMeshRelay(Interface):
    """What an application gets: ``setup(relay)`` of the module that [app] names, before the node listens."""

    groups = Attribute("`IGroups`")
    rooms = Attribute("`IRooms`")
    links = Attribute("`IPeerLinks`")
    direct = Attribute("`IDirectMessages`")
    node_id = Attribute("str: ID of this node.")
    clock = Attribute("Twisted's IReactorTime, for timers of the application.")

    def command(ver: int, cmd: int, handler: CommandHandler) -> None:
        """Let clients call ``handler(ver, cmd, payload, user)`` by (ver, cmd); ver is 2 to 255, cmd 0 to 65,535.

        The bytes it returns are the OK response. It may raise a CommandError, which becomes the response; anything else
        is logged and becomes code 7. Taken twice is a ValueError.
        """

    def before(ver: int, cmd: int, hook: Hook) -> None:
        """Run `hook` before a command of the application; in order of registration, raising refuses it."""

    def after(ver: int, cmd: int, hook: Hook) -> None:
        """Run `hook` after a command of the application, before its response."""

    def push(user_id: str, ver: int, cmd: int, message: bytes, reliable: bool) -> bool:
        """Push to one user of this node. False: not signed in here.

        :raises ValueError: ver is 0, which is the node's own.
        :raises MessageTooLarge: longer than max_payload_bytes.
        """

    def kick(user_id: str, text: str) -> bool:
        """Close the user's session with KICKED. False: not signed in here."""

    def find_user(user_id: str) -> User | None:
        """The signed-in user of this node."""

    def on_sign_in(callback: Callable[[User], object]) -> None:
        """Call ``callback(user)`` when a user has signed in, not when one resumes."""

    def on_sign_out(callback: Callable[[User], object]) -> None:
        """Call ``callback(user)`` when a session is over for good."""


class IMeshRelayApp(IPlugin):
    """A Twisted plugin that is set up with each node, like the module that [app] names."""

    def setup(relay: IMeshRelay) -> None:
        """Register hooks, callbacks and commands. What it raises keeps the node from starting."""
