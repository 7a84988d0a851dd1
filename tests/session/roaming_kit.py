"""A few nodes with everything that sessions need and nothing else, one directory, and clients frame by frame."""

from __future__ import annotations

from itertools import count
from random import Random

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from meshrelay.background import Alarms
from meshrelay.components.hooks import Command
from meshrelay.config.schema import SessionConfig
from meshrelay.counters import NodeCounters
from meshrelay.directory.errors import UserTakenOver
from meshrelay.directory.interfaces import IDirectory
from meshrelay.directory.memory import MemoryDirectory
from meshrelay.directory.records import NodeRecord, UserRecord
from meshrelay.errors import MeshError
from meshrelay.interfaces import ISession, ISessionObserver
from meshrelay.model import CloseReason, Status
from meshrelay.session.auth import OpenAuthenticator
from meshrelay.session.dispatch import Dispatcher
from meshrelay.session.reception import Reception
from meshrelay.session.registry import RegistryLimits, SessionRegistry
from meshrelay.session.roaming import Memberships, Roaming, RoomMemberships
from meshrelay.session.rules import ConnectionRules
from meshrelay.testing.link import MemoryLink
from meshrelay.testing.paired_nodes import PairedNodes
from meshrelay.wire.commands import CORE_VER, CoreCommand
from meshrelay.wire.frame import Frame
from meshrelay.wire.hello import Hello, Welcome, decode_welcome, encode_hello

__all__ = ["Client", "DirectClaims", "Groups", "RoamingKit", "RoamingNode"]

#: What the HELLO of a client is called.
HELLO_ID = 4711


@implementer(ISessionObserver)
class Groups:
    """Stands for the component that knows memberships.

    :ivar events: what it was told, as "event user".
    :ivar of: session -> its groups.
    :ivar known: (user ID, sid) -> groups of sessions of other nodes.
    :ivar entering: what `session_adopted` returns; None = it is done at once.
    :ivar last_words: pushed to a session that moves, as what waits in a channel is.
    """

    def __init__(self) -> None:
        self.events: list[str] = []
        self.of: dict[ISession, list[str]] = {}
        self.known: dict[tuple[str, str], list[str]] = {}
        self.entering: Deferred[None] | None = None
        self.last_words = b""

    def session_opened(self, session: ISession) -> None:
        """See `ISessionObserver`."""
        self.events.append(f"opened {session.user.user_id}")

    def session_away(self, session: ISession) -> None:
        """See `ISessionObserver`."""
        self.events.append(f"away {session.user.user_id}")

    def session_back(self, session: ISession) -> None:
        """See `ISessionObserver`."""
        self.events.append(f"back {session.user.user_id}")

    def session_closed(self, session: ISession, reason: CloseReason | None) -> None:
        """See `ISessionObserver`."""
        self.of.pop(session, None)
        self.events.append(f"closed {session.user.user_id}")

    def session_moved(self, session: ISession) -> None:
        """See `ISessionObserver`."""
        if self.last_words:
            session.push(1, 113, self.last_words, True)
        self.of.pop(session, None)
        self.events.append(f"moved {session.user.user_id}")

    def session_adopted(self, session: ISession, group_ids: list[str]) -> Deferred[None] | None:
        """See `ISessionObserver`."""
        self.of[session] = group_ids
        self.events.append(f"adopted {session.user.user_id}")
        return self.entering


class Rooms:
    """Stands for the component of rooms.

    :ivar of: user ID -> its rooms, while its session is here.
    :ivar known: (user ID, sid) -> rooms of this node that have this session.
    :ivar adopting: what `adopt` returns; None = it is done at once.
    """

    def __init__(self) -> None:
        self.of: dict[str, list[str]] = {}
        self.known: dict[tuple[str, str], list[str]] = {}
        self.adopting: Deferred[None] | None = None

    def adopt(self, session: ISession, room_ids: list[str]) -> Deferred[None]:
        """See `RoomMemberships`."""
        self.of[session.user.user_id] = room_ids
        return self.adopting or succeed(None)


class DirectClaims:
    """What says in the directory which users are here, at once and once."""

    def __init__(self, directory: MemoryDirectory, node_id: str) -> None:
        self.directory = directory
        self.node_id = node_id
        self.roaming: Roaming | None = None

    def claim(self, record: UserRecord) -> None:
        """See `UserRegistration`."""
        self.directory.claim_user(record).addCallbacks(self._displaced, self._failed)

    def _displaced(self, record: UserRecord | None) -> None:
        if record is not None and self.roaming is not None:
            self.roaming.displaced(record)

    def _failed(self, failure: Failure) -> None:
        failure.trap(MeshError)
        if isinstance(failure.value, UserTakenOver) and self.roaming is not None:
            self.roaming.taken_over(failure.value.current)

    def release(self, user_id: str, sid: str) -> None:
        """See `UserRegistration`."""
        self.directory.release_user(user_id, sid, self.node_id).addErrback(lambda failure: failure.trap(MeshError))

    def moved(self, user_id: str, sid: str) -> None:
        """See `UserRegistration`; what failed is not said again here anyway."""


class Client:
    """One connection to one node."""

    def __init__(self, node: RoamingNode, transport_name: str = "tcp") -> None:
        self.node = node
        self.link = MemoryLink(transport_name)
        self.link.uplink = node.reception.accept(self.link)

    def send(self, cmd: int, payload: bytes = b"", ver: int = 2, request_id: int = 0) -> None:
        """Send one frame."""
        self.link.frame_sent(Frame(ver, 0, cmd, request_id, payload))

    @property
    def welcome(self) -> Welcome:
        """What HELLO was answered.

        :raises AssertionError: it was not answered, or refused.
        """
        for frame in self.link.received:
            if frame.request_id == HELLO_ID and frame.status == Status.OK:
                return decode_welcome(frame.payload)
        raise AssertionError(f"no answer to HELLO: {self.link.received}")

    @property
    def is_answered(self) -> bool:
        """Whether HELLO was."""
        return any(frame.request_id == HELLO_ID for frame in self.link.received)

    @property
    def pushed(self) -> list[bytes]:
        """Payloads of all pushes of ver 1 and above."""
        frames = self.link.received
        return [frame.payload for frame in frames if frame.status == Status.PUSH and frame.ver != CORE_VER]

    def lose(self) -> None:
        """Break the connection."""
        self.link.lose()


class RoamingNode:
    """One node.

    :ivar ran: payloads of the commands (2, 1) that ran.
    :ivar clock_is_off_by: microseconds that its wall clock is ahead.
    """

    def __init__(self, kit: RoamingKit, node_id: str, config: SessionConfig) -> None:
        self.kit = kit
        self.node_id = node_id
        self.clock_is_off_by = 0
        self.ran: list[bytes] = []
        self.groups = Groups()
        self.rooms = Rooms()
        self.claims = kit.make_claims(node_id)
        self.counters = NodeCounters()
        alarms = Alarms(kit.clock)
        limits = RegistryLimits(config.resume_seconds, config.replay_bytes, 100)
        self.registry = SessionRegistry(limits, alarms, lambda: f"{next(kit.sids):032x}", self.counters)
        dispatcher = Dispatcher(kit.clock, 10.0, self.counters)
        dispatcher.register({(2, 1): Command(2, 1, self._run)})
        rules = ConnectionRules.of(config, 5000)
        self.reception = Reception(
            node_id, rules, OpenAuthenticator(), self.registry, dispatcher, alarms, self.counters
        )
        self.roaming = Roaming(
            kit.nodes[node_id],
            kit.directory_of(node_id),
            self.claims,
            self.registry,
            kit.clock,
            lambda: int(kit.clock.seconds() * 1e6) + 1_000_000 + self.clock_is_off_by,
            Memberships(
                lambda session: self.groups.of.get(session, []),
                lambda user_id, sid: self.groups.known.get((user_id, sid), []),
                RoomMemberships(
                    lambda session: self.rooms.of.get(session.user.user_id, []),
                    lambda user_id, sid: self.rooms.known.get((user_id, sid), []),
                    self.rooms.adopt,
                ),
            ),
        )
        self.claims.roaming = self.roaming
        for observer in (self.roaming, self.groups):
            self.registry.add_observer(observer)
        self.reception.arrivals = self.roaming

    def _run(self, session: ISession, payload: bytes, reliable: bool) -> bytes:
        self.ran.append(payload)
        return payload

    def hello(
        self, user_id: str, resume: str | None = None, acks: bool | None = None, received: int | None = None
    ) -> Client:
        """Return a client that has said HELLO, answered or not."""
        client = Client(self)
        hello = Hello(protocol=1, user=user_id, acks=acks, resume=resume, received=received)
        client.send(CoreCommand.HELLO, encode_hello(hello), CORE_VER, HELLO_ID)
        return client

    def push(self, user_id: str, *payloads: bytes) -> None:
        """Push to a user who is here."""
        for payload in payloads:
            self.session(user_id).push(1, 113, payload, True)

    def session(self, user_id: str) -> ISession:
        """The session of a user who is here.

        :raises AssertionError: the user is not.
        """
        session = self.registry.find_user(user_id)
        if session is None:
            raise AssertionError(f"{user_id} is not at {self.node_id}")
        return session


class RoamingKit:
    """Nodes "a", "b" and "c".

    :param with_delay: what nodes say to each other takes 10 ms.
    """

    def __init__(self, config: SessionConfig | None = None, with_delay: bool = False) -> None:
        self.clock = Clock()
        self.sids = count(1)
        self.directory = MemoryDirectory(self.clock, Random(1))
        self.nodes = self.make_nodes(with_delay)
        self._living = set("abc")
        self._register()
        self.a, self.b, self.c = (RoamingNode(self, node_id, config or SessionConfig()) for node_id in "abc")

    def make_nodes(self, with_delay: bool) -> PairedNodes:
        """What they say to each other by."""
        return PairedNodes("abc", self.clock if with_delay else None, 0.01)

    def make_claims(self, node_id: str) -> DirectClaims:
        """What says in the directory which users are at a node."""
        return DirectClaims(self.directory, node_id)

    def directory_of(self, node_id: str) -> IDirectory:
        """The directory as a node has it."""
        return self.directory

    def _register(self) -> None:
        self._registered_at = self.clock.seconds()
        for node_id in sorted(self._living):
            record = NodeRecord(
                node_id=node_id, incarnation=f"{node_id}1", mesh_endpoint="", places={}, load=0.0, protocol=1
            )
            self.directory.register_node(record).addErrback(lambda failure: failure.trap(MeshError))

    def advance(self, seconds: float) -> None:
        """Let time pass; nodes that live renew their leases."""
        step_seconds = 0.05 if seconds <= 7 else 0.5
        for _ in range(round(seconds / step_seconds)):
            self.clock.advance(step_seconds)
            if self.clock.seconds() >= self._registered_at + 3:
                self._register()

    def kill(self, node: RoamingNode) -> None:
        """A node dies, and the directory has noticed."""
        self._living.discard(node.node_id)
        self.nodes.kill(node.node_id)
        self.directory.withdraw_node(node.node_id, f"{node.node_id}1").addErrback(lambda failure: None)

    def where(self, user_id: str) -> list[str]:
        """The nodes that have a session of a user."""
        return [node.node_id for node in (self.a, self.b, self.c) if node.registry.find_user(user_id) is not None]

    def record(self, user_id: str) -> UserRecord | None:
        """What the directory knows of a user."""
        found: list[UserRecord | None] = []
        self.directory.find_user(user_id).addCallback(found.append)
        return found[0]
