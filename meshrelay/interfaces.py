"""The public zope interfaces, in the order in which a message meets them.

::

    transport --IUplink--> session --ISession--> components --IFanout--> sessions (ISubscriber) --IDownlink--> transport

What flows back goes through one of these, never through an import. Nothing here may block; nothing raises across an
interface but the errors that a docstring names.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from twisted.internet.defer import Deferred
from twisted.plugin import IPlugin
from zope.interface import Attribute, Interface

from meshrelay.model import CloseReason, Group, User

if TYPE_CHECKING:  # annotations only: an interface must not pull in what implements it
    from meshrelay.wire.prepared import Batch

__all__ = [
    "CommandHandler",
    "Hook",
    "IComponent",
    "IConnection",
    "IDirectMessages",
    "IDownlink",
    "IFanout",
    "IGroups",
    "IMeshRelay",
    "IMeshRelayApp",
    "INodeObserver",
    "INodes",
    "ISession",
    "ISessionObserver",
    "ISessions",
    "IStreamWriter",
    "ISubscriber",
    "IUplink",
    "MessageCallback",
    "MessageMaker",
    "ReceiveCallback",
]

#: ``callback(ver, cmd, payload, user)``; may be a coroutine function. Raising refuses the command.
Hook: TypeAlias = Callable[[int, int, bytes, User], "Awaitable[object] | object"]

#: ``handler(ver, cmd, payload, user)`` -> payload of the OK response, None = empty; may be a coroutine function.
CommandHandler: TypeAlias = Callable[[int, int, bytes, User], "Awaitable[bytes | None] | bytes | None"]

#: ``make(group_id, user_id, sid)`` -> message, None or empty = none; may be a coroutine function.
MessageMaker: TypeAlias = Callable[[str, str, str], "Awaitable[bytes | None] | bytes | None"]

#: ``callback(ver, cmd, message, sender_id, receiver)`` -> False declines; may be a coroutine function.
ReceiveCallback: TypeAlias = Callable[[int, int, bytes, str, User], "Awaitable[bool] | bool"]

#: ``callback(ver, cmd, message, sender_id, receiver)`` -> the message instead, None = as it is; likewise.
MessageCallback: TypeAlias = Callable[[int, int, bytes, str, User], "Awaitable[bytes | None] | bytes | None"]


class IUplink(Interface):
    """What a transport tells the session layer. Given by the session layer for each connection."""

    def heard() -> None:
        """Something arrived, whatever it was. Call once for each read, before its frames."""

    def frame_received(frame: Any) -> None:
        """Take one `meshrelay.wire.frame.Frame`. Never raises."""

    def read_ended() -> None:
        """All frames of one read were given: what was kept to be done together is done now."""

    def protocol_broken(error: Any) -> None:
        """The peer's bytes raised this `meshrelay.errors.RemoteProtocolError`. The connection is closed."""

    def outbox_overflowed(queued_bytes: int) -> None:
        """More waits for the client than outbox_bytes, and no policy could help. The connection is closed."""

    def pushes_dropped(count: int) -> None:
        """The policy dropped `count` frames on their way to the client."""

    def failed() -> None:
        """An unexpected error: our bug, which the caller has logged. Costs this connection alone."""

    def connection_lost(detail: str) -> None:
        """The transport is gone. Called once, last; also after `IDownlink.close`."""


class IDownlink(Interface):
    """One connection as the session layer sees it. Given by a transport.

    Nothing raises after a close: what comes too late is dropped.
    """

    transport_name = Attribute("str: tcp, websocket or udp.")
    peer = Attribute("str: address of the client, host:port.")
    queued_bytes = Attribute("int: what waits to be written.")

    def send_batch(batch: Batch) -> None:
        """Push the frames of `batch`. Bounded by outbox_bytes; the policy decides what gives."""

    def send_frame(frame: bytes, count: int = 1) -> None:
        """Send a frame, or `count` joined ones, that no policy may drop: answers, PING, GOODBYE."""

    def send_probe(frame: bytes) -> None:
        """Send one frame whose round trip is measured, by the shortest way; it may be lost."""

    def undelivered() -> tuple[int, list[bytes]] | None:
        """What a link that is acknowledged, as RUDP is, still owes the client; None: this one is not.

        :returns: the count of reliable pushes that it has taken, and the frames of those not acknowledged, in order.
        """

    def pause_reading() -> None:
        """Take no more from the client for now. UDP cannot be paused and drops instead."""

    def resume_reading() -> None:
        """The opposite of `pause_reading`."""

    def close(reason: CloseReason | None, text: str) -> None:
        """Send GOODBYE behind what waits, write all of it, and close; abort if that takes too long.

        :param reason: None = the client said GOODBYE itself, so nothing is sent.
        """

    def abort() -> None:
        """Close at once."""


class IConnection(Interface):
    """One connection as its session sees it. Given by `session.connection`."""

    link = Attribute("`IDownlink`")

    def close(reason: CloseReason | None, text: str) -> None:
        """Say GOODBYE and close. Twice does nothing."""


class IStreamWriter(Interface):
    """Takes bytes for one connection; tells its outbox when to wait. Given by `transport.direct_write`."""

    def write(data: bytes) -> None:
        """Write now or buffer. May call the outbox's ``writing_paused`` before it returns."""

    def finish() -> None:
        """Close when everything was written."""


class ISubscriber(Interface):
    """Who a channel delivers to."""

    def deliver(batch: Batch) -> None:
        """Take the frames of one turn. An exception is logged and reaches no other subscriber."""


class ISession(ISubscriber):
    """One sign-in of one user. It outlives its connection by resume_seconds."""

    user = Attribute("`meshrelay.model.User`")
    is_attached = Attribute("bool: a connection serves it now.")
    is_over = Attribute("bool: it has ended for good, and no table may take it in any more.")
    latency_seconds = Attribute("float or None: round trip of the last answered PING.")
    queued_bytes = Attribute("int: what waits in its connection's outbox.")
    replay_bytes = Attribute("int: what is kept for a resume.")

    def push(ver: int, cmd: int, payload: bytes, reliable: bool) -> None:
        """Send one push to this session alone."""

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


class IFanout(Interface):
    """Channels: encoded frames in, one joined blob for each subscriber and turn out."""

    def open_channel(interval_seconds: float) -> Any:
        """Return a new `meshrelay.fanout.hub.Channel`. `interval_seconds` > 0 merges over that time."""

    def flush() -> None:
        """Deliver everything that waits, merging intervals or not."""


class INodes(Interface):
    """The other nodes of the cluster. Given by `mesh.nodes`; a node without links has `mesh.alone`.

    A node is *met* when it is linked for the first time, *lost* when it could not be reached for a while, *back* when a
    lost one is linked again, and *gone* when it stayed lost for too long or began anew: then it is met as a new one.
    """

    node_id = Attribute("str: of this node.")
    mesh_endpoint = Attribute("str: where others link to this node; its ID where it takes no links.")

    def known() -> list[str]:
        """IDs of all nodes that were met and are not gone, lost ones included; sorted, without this one."""

    def is_up(node_id: str) -> bool:
        """Whether there is a link to the node right now."""

    def is_lost(node_id: str) -> bool:
        """Whether the node is known and lost."""

    def endpoint_of(node_id: str) -> str:
        """Where others link to that node; its ID when that is not known. Of this node as well."""

    def send(node_id: str, kind: int, payload: bytes) -> bool:
        """Send one message, in order, exactly once as long as the node is known; it waits while there is no link.

        :param kind: 0 to 127, see `meshrelay.wire.node_kinds`.
        :returns: False: the node is not known, or too much waits for it: the message is dropped and counted.
        """

    def call(node_id: str, name: str, payload: bytes) -> Deferred[bytes]:
        """Ask a node; `name` is "component.verb" of ASCII.

        :returns: fires with the answer within 10 s; fails with a MeshError: there is no link, or the other end failed.
        """

    def handle(kind: int, handler: Callable[[str, bytes], object]) -> None:
        """Call ``handler(node_id, payload)`` for each message of this kind; MalformedFrame = it could not be read."""

    def answer(name: str, handler: Callable[[str, bytes], Deferred[bytes] | bytes]) -> None:
        """Answer calls of this name by ``handler(node_id, payload)``; what it raises is told there as a failure."""

    def add_observer(observer: INodeObserver) -> None:
        """Tell `observer` about nodes from now on."""


class INodeObserver(Interface):
    """Who is told about nodes; in the order of registration, what is raised is logged.

    For each node: met, then any number of (lost, back), then gone, perhaps without a lost before it. No message of a
    node comes before it was met or after it is gone.
    """

    def node_met(node_id: str) -> None:
        """The node is linked and begins, for us, with nothing: what was known of it before does not count."""

    def node_lost(node_id: str) -> None:
        """The node could not be reached for a while, by no node that we reach. What is sent to it still waits."""

    def node_back(node_id: str) -> None:
        """A lost node is linked again and is the same as before; nothing that waited for it was lost."""

    def node_gone(node_id: str) -> None:
        """The node will not come back, or has begun anew; nothing that was sent to it waits any more."""


class IGroups(Interface):
    """Groups (seed 001). The methods of clients and of the application are the same.

    Hooks must be registered before `expose_commands`; later is a RuntimeError.
    """

    def create_group(user: User | None, allow_empty: bool, join: bool, ttl_seconds: int, interval_ms: int) -> str:
        """Make a group and return its ID of 52 characters.

        :param user: the first member if `join`; None for a group that the application makes.
        :param ttl_seconds: > 10; an empty group with `allow_empty` lives until this much after its creation.
        :param interval_ms: merging interval; below 100 means 0, no merging.
        :raises GroupNewError: InvalidTTL, EmptyAndNotJoined (the caller's fault), NodeOffline, TooManyGroups.
        :raises NotSignedIn: `user` is to join and is not on this node.
        """

    async def join_group(group_id: str, user: User, ver: int, cmd: int, message: bytes) -> None:
        """Join, and push `message` to the others under (ver, cmd) unless it is empty.

        :raises GroupJoinError: AlreadyMember, GroupNotFound, TooManyGroups, RemoteTimeout.
        :raises NotSignedIn: `user` is not on this node.
        :raises MessageTooLarge: `message` is over max_payload_bytes.
        """

    async def leave_group(group_id: str, user: User, ver: int, cmd: int, message: bytes) -> None:
        """Leave, and push `message` to those who stay under (ver, cmd) unless it is empty.

        :raises GroupLeaveError: NotMember, GroupNotFound.
        :raises NotSignedIn: `user` is not on this node.
        :raises MessageTooLarge: `message` is over max_payload_bytes.
        """

    def broadcast(group_id: str, sender: User, ver: int, cmd: int, message: bytes, reliable: bool) -> None:
        """Push `message` to all members but `sender`. A group that is gone is passed over in silence.

        :raises MessageTooLarge: `message` is over max_payload_bytes.
        :raises ValueError: ver is 0, which is the node's own.
        """

    def announce(group_id: str, ver: int, cmd: int, message: bytes, reliable: bool) -> None:
        """Push `message` to all members; otherwise like `broadcast`. Clients cannot reach it."""

    def expose_commands() -> None:
        """Let clients use the group commands. A second call is a RuntimeError."""

    def before_create(hook: Hook) -> None:
        """Run `hook` before GROUP_CREATE."""

    def after_create(hook: Hook) -> None:
        """Run `hook` after GROUP_CREATE."""

    def before_join(hook: Hook) -> None:
        """Run `hook` before GROUP_JOIN, and before a GROUP_JOIN_RANDOM joins."""

    def after_join(hook: Hook) -> None:
        """Run `hook` after GROUP_JOIN."""

    def before_leave(hook: Hook) -> None:
        """Run `hook` before GROUP_LEAVE."""

    def after_leave(hook: Hook) -> None:
        """Run `hook` after GROUP_LEAVE."""

    def before_broadcast(hook: Hook) -> None:
        """Run `hook` before GROUP_BROADCAST."""

    def after_broadcast(hook: Hook) -> None:
        """Run `hook` after GROUP_BROADCAST."""

    def group_ids(user: User) -> list[str]:
        """IDs of the groups of `user`, newest last."""

    def latest_group_id(user: User) -> str | None:
        """The group that `user` joined or created last; None without any."""

    def member_nodes(group_id: str) -> list[str]:
        """Mesh endpoints of the nodes that hold the group; empty without the group."""

    def get_group(group_id: str) -> Group | None:
        """A snapshot of the group."""

    def on_discard_message(make: MessageMaker) -> None:
        """Make what the others are pushed as GROUP_LOST when a member was lost without leaving."""

    def on_rejoin_message(make: MessageMaker) -> None:
        """Make what the others are pushed as GROUP_BACK when a lost member is back."""

    def on_tick(group_id: str, callback: Callable[[str], object], interval_seconds: float) -> None:
        """Call ``callback(group_id)`` each `interval_seconds`, checked every 2 seconds, while the group exists.

        What it raises is logged and it is called again next time.

        :raises GroupNotFound: no such group.
        """


class IDirectMessages(Interface):
    """Messages from one user to another, wherever in the cluster the two are (seed 002).

    Callbacks may be coroutine functions; they have lookup_timeout_seconds. One that raises, or takes longer, is logged,
    and the sender is told InternalError or ReliableTimeout.
    """

    async def send_direct(user: User | None, peer_id: str, ver: int, cmd: int, message: bytes) -> None:
        """Push `message` under (ver, cmd) to `peer_id`, reliably. It returns when the peer's node has taken it.

        Messages of one sender to one peer arrive in the order in which they were sent.

        :param user: the sender; None = the server, whose ID the callbacks see as "".
        :raises DirectMessageError: MessageIsEmpty, UserNotFound, NodesNotFound, UserDeclined, ReliableTimeout (it may
            have been delivered).
        :raises MessageTooLarge: `message` is over max_payload_bytes.
        :raises ValueError: ver is 0, which is the node's own.
        """

    async def clear_cache(user: User, peer_id: str, ver: int, cmd: int, message: bytes) -> None:
        """Forget the way between two users, if there is one, and push `message` to the peer unless it is empty.

        :raises MessageTooLarge: `message` is over max_payload_bytes.
        """

    def expose_commands() -> None:
        """Let clients use the commands; once."""

    def on_receive(callback: ReceiveCallback) -> None:
        """Ask `callback` whether a message may be delivered; False declines. All are asked, in order."""

    def on_message(callback: MessageCallback) -> None:
        """Let `callback` change a message before it is delivered: each gets what the one before made of it.

        None changes nothing. When empty bytes are left in the end nothing is delivered, and the sender is told OK.
        """

    def on_clear_cache(callback: Callable[[str, User], object]) -> None:
        """Call ``callback(cleared_user_id, user)`` for the `user` who stayed, unless a last message told it."""

    def on_user_disconnect(callback: Callable[[User, str], Awaitable[bytes | None] | bytes | None]) -> None:
        """Push what ``callback(user, peer_id)`` makes to each peer of a user whose session is over; empty = nothing.

        For a user whose node died, `user` has the ID and the sid only.
        """


class IMeshRelay(Interface):
    """What an application gets: ``setup(relay)`` of the module that [app] names, before the node listens."""

    groups = Attribute("`IGroups`")
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
