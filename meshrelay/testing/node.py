"""A whole node in memory, and clients that talk to it frame by frame. No socket, no thread, no real time.

`make_node` wires what the daemon wires, on `twisted.internet.task.Clock`, with randomness from a seed: what a test sees
once it sees always. `MemoryNode.sign_in` gives a client that has said HELLO::

    node = make_node()
    ann, bob = node.sign_in("ann"), node.sign_in("bob")
    lobby = ann.create_group()
    bob.request(Command.GROUP_JOIN, encode_gid_message(lobby, b""))
    ann.request(Command.GROUP_BROADCAST, encode_gid_message(lobby, b"hello"))
    bob.messages()  ->  [PushedMessage(lobby, "ann", b"hello")]
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from random import Random
from typing import NamedTuple

from twisted.internet.task import Clock

from meshrelay.background import Alarms
from meshrelay.components.direct import DirectMessages, DirectRules
from meshrelay.components.direct_routes import RouteParts
from meshrelay.components.group_log_store import NodesHistory
from meshrelay.components.group_nodes import GroupRegister, GroupSurroundings
from meshrelay.components.group_parts import Chances, GroupHouse, make_groups
from meshrelay.components.link_parts import LinkRules, LinkSurroundings
from meshrelay.components.links import PeerLinks
from meshrelay.components.room_home import RoomRules
from meshrelay.components.rooms import Rooms, RoomSurroundings
from meshrelay.config.schema import Config
from meshrelay.counters import NodeCounters
from meshrelay.directory.history import HistoryStore, MemoryHistory
from meshrelay.directory.interfaces import IDirectory
from meshrelay.directory.memory import MemoryDirectory
from meshrelay.fanout.hub import Hub
from meshrelay.fanout.turn import Turn
from meshrelay.interfaces import IMeshRelay, INodes
from meshrelay.mesh.alone import Alone
from meshrelay.model import Status
from meshrelay.node_parts import expose_commands
from meshrelay.session.application import Application, Components
from meshrelay.session.auth import Authenticator, OpenAuthenticator
from meshrelay.session.connection import Connection
from meshrelay.session.dispatch import Dispatcher
from meshrelay.session.reception import Reception
from meshrelay.session.registry import RegistryLimits, SessionRegistry
from meshrelay.session.rules import ConnectionRules
from meshrelay.testing.link import MemoryLink
from meshrelay.wire.commands import (
    BUILT_IN_VER,
    CORE_VER,
    Command,
    CoreCommand,
    NewGroup,
    PushedMessage,
    decode_error,
    decode_pushed_message,
    encode_gid_message,
    encode_new_group,
)
from meshrelay.wire.frame import Frame
from meshrelay.wire.hello import Hello, Welcome, decode_welcome, encode_hello

__all__ = ["MemoryClient", "MemoryNode", "NodeSurroundings", "make_node"]

#: Stands for "the limit of open files": the schema's 0.
MAX_CONNECTIONS = 10_000


class MemoryClient:
    """One client of a `MemoryNode`.

    :ivar link: the connection; `MemoryLink.received` has all frames that came by it.
    :ivar welcome: the answer to HELLO; None = not signed in.
    """

    def __init__(self, node: MemoryNode, link: MemoryLink) -> None:
        self.node = node
        self.link = link
        self.welcome: Welcome | None = None
        self._request_ids = count(1)
        self._read = 0

    @property
    def connection(self) -> Connection:
        """What the node has for this client.

        :raises AssertionError: the connection is gone, or was refused.
        """
        if not isinstance(self.link.uplink, Connection):
            raise AssertionError("the connection is gone")
        return self.link.uplink

    @property
    def sid(self) -> str:
        """The session of this client; "" = not signed in."""
        return self.welcome.sid if self.welcome is not None else ""

    def say_hello(self, hello: Hello) -> Frame:
        """Send HELLO and return the answer; `welcome` is set when it was OK."""
        answer = self.request(CoreCommand.HELLO, encode_hello(hello), ver=CORE_VER)
        if answer.status == Status.OK:
            self.welcome = decode_welcome(answer.payload)
        return answer

    def send(
        self, cmd: int, payload: bytes = b"", ver: int = BUILT_IN_VER, request_id: int = 0, reliable: bool = False
    ) -> None:
        """Send one frame; what it causes happens at the end of the turn, see `MemoryNode.settle`."""
        self.link.frame_sent(Frame(ver, int(reliable), cmd, request_id, payload))

    def ask(self, cmd: int, payload: bytes = b"", ver: int = BUILT_IN_VER) -> int:
        """Send one request and return its ID, for `answer_to`."""
        request_id = next(self._request_ids)
        self.send(cmd, payload, ver, request_id)
        return request_id

    def answer_to(self, request_id: int) -> Frame | None:
        """The response to a request, whichever connection it came by last; None = there is none yet."""
        answers = [
            frame for frame in self.link.received if frame.request_id == request_id and frame.status != Status.PUSH
        ]
        return answers[-1] if answers else None

    def request(self, cmd: int, payload: bytes = b"", ver: int = BUILT_IN_VER) -> Frame:
        """Send one request, let the turn end, and return the response.

        :raises AssertionError: there is none.
        """
        request_id = self.ask(cmd, payload, ver)
        self.node.settle()
        answer = self.answer_to(request_id)
        if answer is None:
            raise AssertionError(f"no answer to ver {ver} cmd {cmd}")
        return answer

    def refusal(self, cmd: int, payload: bytes = b"", ver: int = BUILT_IN_VER) -> tuple[int, int, str]:
        """Send one request that is refused and return (status, code, text) of the response.

        :raises AssertionError: it was not refused.
        """
        answer = self.request(cmd, payload, ver)
        if answer.status not in (Status.BAD, Status.ERROR):
            raise AssertionError(f"not refused: {answer}")
        return (answer.status, *decode_error(answer.payload))

    def frames(self) -> list[Frame]:
        """Pushes of all vers that came since the last call, oldest first."""
        new = self.link.received[self._read :]
        self._read = len(self.link.received)
        return [frame for frame in new if frame.status == Status.PUSH]

    def pushes(self) -> list[Frame]:
        """Like `frames`, without the core ones (PING, GOODBYE)."""
        return [frame for frame in self.frames() if frame.ver != CORE_VER]

    def messages(self) -> list[PushedMessage]:
        """Like `pushes`, opened: group, user and message of each group push."""
        return [decode_pushed_message(frame.payload) for frame in self.pushes()]

    def create_group(
        self, allow_empty: bool = False, join: bool = True, ttl_seconds: int = 60, interval_ms: int = 0
    ) -> str:
        """Make a group and return its ID."""
        wanted = NewGroup(allow_empty, join, ttl_seconds, interval_ms)
        return self.request(Command.GROUP_CREATE, encode_new_group(wanted)).payload.decode("ascii")

    def join(self, group_id: str, message: bytes = b"") -> Frame:
        """GROUP_JOIN."""
        return self.request(Command.GROUP_JOIN, encode_gid_message(group_id, message))

    def leave(self, group_id: str, message: bytes = b"") -> Frame:
        """GROUP_LEAVE."""
        return self.request(Command.GROUP_LEAVE, encode_gid_message(group_id, message))

    def broadcast(self, group_id: str, message: bytes, reliable: bool = False) -> None:
        """GROUP_BROADCAST without a response; delivered when the turn ends."""
        self.send(Command.GROUP_BROADCAST, encode_gid_message(group_id, message), reliable=reliable)

    def lose(self) -> None:
        """Break the connection, without GOODBYE, and let the turn end."""
        self.link.lose()
        self.node.settle()

    def acknowledge(self, received: int) -> None:
        """ACK: this client has received so many pushes of ver >= 1 in this session, mod 2^32."""
        self.send(CoreCommand.ACK, received.to_bytes(4, "big"), CORE_VER)


class NodeSurroundings(NamedTuple):
    """What a node in memory stands on; nodes of one cluster share the clock and the directory."""

    nodes: INodes
    clock: Clock
    directory: IDirectory
    register: GroupRegister | None = None
    #: What keeps the messages of groups for all nodes; None = each node those of its groups, in memory.
    history: HistoryStore | None = None


class MemoryNode:
    """One node: what the daemon builds, without its ports. Made by `make_node`."""

    def __init__(self, config: Config, authenticator: Authenticator, around: NodeSurroundings) -> None:
        session = config.session
        nodes = around.nodes
        node_id = nodes.node_id
        random = Random(node_id)
        self.clock = around.clock
        self.counters = NodeCounters()
        self.turn = Turn(self.clock)
        self.hub = Hub(self.turn, self.clock, self.counters)
        self.alarms = Alarms(self.clock)
        self.dispatcher = Dispatcher(self.clock, session.hook_timeout_seconds, self.counters)
        rules = ConnectionRules.of(config.session, MAX_CONNECTIONS)
        self.registry = SessionRegistry(
            RegistryLimits(session.resume_seconds, session.replay_bytes, max_away=rules.max_connections),
            self.alarms,
            lambda: f"{random.getrandbits(128):032x}",
            self.counters,
        )
        self.reception = Reception(
            node_id, rules, authenticator, self.registry, self.dispatcher, self.alarms, self.counters
        )
        self._make_groups(config, around)
        self.rooms = self._make_rooms(config, around)
        self.direct = self._make_direct(config, around)
        self.links = self._make_links(config, around)
        components = Components(self.groups, self.rooms, self.links, self.direct)
        self.relay = Application(node_id, self.clock, components, self.registry, self.dispatcher)
        for observer in (self.groups, self.rooms, self.links, self.direct, self.relay):
            self.registry.add_observer(observer)
        self._links: list[MemoryLink] = []

    def _make_groups(self, config: Config, around: NodeSurroundings) -> None:
        nodes = around.nodes
        random = Random(nodes.node_id)
        own_history = MemoryHistory(config.group.history_bytes, self.clock, Random(f"log {nodes.node_id}").randrange)
        house = GroupHouse(
            GroupSurroundings(nodes, around.directory, around.register, self.turn, self.clock, self.alarms),
            around.history or NodesHistory(nodes, own_history, self.clock),
            self.hub,
            self.registry,
            Chances(random.randbytes, random.randrange),
        )
        self.groups, parts = make_groups(config, house, lambda: self.reception.is_draining)
        self.table, self.group_nodes = parts.table, parts.group_nodes

    def _make_rooms(self, config: Config, around: NodeSurroundings) -> Rooms:
        surroundings = RoomSurroundings(
            around.nodes,
            self.registry,
            self.hub,
            self.turn,
            self.alarms,
            Random(f"rooms of {around.nodes.node_id}").randbytes,
            lambda: self.reception.is_draining,
        )
        return Rooms(surroundings, RoomRules.of(config))

    def _make_links(self, config: Config, around: NodeSurroundings) -> PeerLinks:
        surroundings = LinkSurroundings(
            around.nodes,
            self.registry,
            self.rooms,
            self.turn,
            self.alarms,
            Random(f"links of {around.nodes.node_id}").randbytes,
            around.nodes.send,
        )
        return PeerLinks(surroundings, LinkRules.of(config))

    def _make_direct(self, config: Config, around: NodeSurroundings) -> DirectMessages:
        directory = None if around.register is None else around.directory
        return DirectMessages(
            RouteParts(around.nodes, directory, self.registry, self.clock, self.alarms),
            self.turn,
            DirectRules.of(config),
        )

    def expose_commands(self, is_exposed: bool = True) -> None:
        """Let clients use the built-in commands, as the daemon does when the application was set up.

        :param is_exposed: False: only those that the application has exposed itself.
        """
        components = (self.groups, self.rooms, self.links, self.direct)
        expose_commands([(component, is_exposed) for component in components], self.dispatcher.register)

    def connect(self, transport_name: str = "tcp", limit_bytes: int = 1 << 20) -> MemoryClient:
        """Return a client that has connected and said nothing yet.

        :param limit_bytes: what may wait for it once it is stalled.
        """
        link = MemoryLink(transport_name, limit_bytes=limit_bytes)
        link.uplink = self.reception.accept(link)
        self._links.append(link)
        return MemoryClient(self, link)

    def sign_in(
        self,
        user_id: str,
        transport_name: str = "tcp",
        acks: bool | None = None,
        resume: str | None = None,
        received: int | None = None,
        limit_bytes: int = 1 << 20,
    ) -> MemoryClient:
        """Return a client that has said HELLO.

        :raises AssertionError: it was refused.
        """
        client = self.connect(transport_name, limit_bytes)
        answer = client.say_hello(Hello(protocol=1, user=user_id, acks=acks, resume=resume, received=received))
        if client.welcome is None:
            raise AssertionError(f"{user_id} was refused: {decode_error(answer.payload)}")
        return client

    def settle(self) -> None:
        """Let turns end until nothing moves: frames are delivered, closed links are gone."""
        for _ in range(8):
            self.clock.advance(0)
            self.read()

    def read(self) -> None:
        """Let all clients read what was sent to them; closed links are gone."""
        for link in list(self._links):
            link.read()
            if link.is_closed:
                self._links.remove(link)
                link.lose("closed")

    def advance(self, seconds: float, step_seconds: float = 0.5) -> None:
        """Let `seconds` pass, at most `step_seconds` at a time, each followed by `settle`."""
        ends_at = self.clock.seconds() + seconds
        while self.clock.seconds() < ends_at:
            self.clock.advance(min(step_seconds, ends_at - self.clock.seconds()))
            self.settle()


def make_node(
    config: Config | None = None,
    set_up: Callable[[IMeshRelay], object] | None = None,
    authenticator: Authenticator | None = None,
    node_id: str = "node-1",
    around: NodeSurroundings | None = None,
) -> MemoryNode:
    """Return a node that is ready for clients.

    :param config: its sections [session] and [group] are used; None = the defaults.
    :param set_up: the application's ``setup(relay)``, called before clients can use the group commands.
    :param authenticator: None = everybody is who they say.
    :param around: the cluster that it is one of; None = it is alone, with `node_id`.
    """
    if around is None:
        clock = Clock()
        around = NodeSurroundings(Alone(node_id), clock, MemoryDirectory(clock, Random(1)))
    node = MemoryNode(config or Config(), authenticator or OpenAuthenticator(), around)
    if set_up is not None:
        set_up(node.relay)
    node.expose_commands(config is None or config.group.expose_commands)
    return node
