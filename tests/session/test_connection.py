"""One connection: HELLO, heartbeat, idle, and frames in order."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from meshrelay.config.schema import Config, SessionConfig
from meshrelay.errors import FrameTooLarge, MalformedFrame
from meshrelay.interfaces import IConnection, IMeshRelay, ISession, ISessionObserver, IUplink
from meshrelay.model import CloseReason, Status, User
from meshrelay.session.auth import Identity, TokenAuthenticator, TokenRules
from meshrelay.session.connection import MAX_EARLY_FRAMES
from meshrelay.session.registry import Resume
from meshrelay.testing.node import MemoryClient, MemoryNode, make_node
from meshrelay.wire.commands import Command, CoreCommand, decode_error, decode_goodbye, encode_gid_message
from meshrelay.wire.frame import Frame, FrameRun
from meshrelay.wire.hello import Hello, decode_welcome, encode_hello

#: A command of the application that waits until it is let go.
SLOW = 1
#: A command of the application that answers at once with what it got.
ECHO = 2


class SlowCommands:
    """An application with the commands SLOW and ECHO; `order` is the order in which they ran."""

    def __init__(self) -> None:
        self.order: list[bytes] = []
        self.waiting: list[Deferred[bytes]] = []

    def setup(self, relay: IMeshRelay) -> None:
        """See `IMeshRelayApp`."""
        relay.command(2, SLOW, self.slow)
        relay.command(2, ECHO, self.echo)

    def slow(self, ver: int, cmd: int, payload: bytes, user: User) -> Deferred[bytes]:
        """Wait for `let_go`."""
        self.order.append(payload)
        self.waiting.append(Deferred())
        return self.waiting[-1]

    def echo(self, ver: int, cmd: int, payload: bytes, user: User) -> bytes:
        """Answer at once."""
        self.order.append(payload)
        return payload

    def let_go(self) -> None:
        """Answer the oldest slow command."""
        self.waiting.pop(0).callback(b"")


@implementer(ISessionObserver)
class Watcher:
    """Writes down what it hears of sessions."""

    def __init__(self, order: list[str]) -> None:
        self.order = order

    def session_opened(self, session: ISession) -> None:
        """See `ISessionObserver`."""
        self.order.append("opened")

    def session_away(self, session: ISession) -> None:
        """See `ISessionObserver`."""
        self.order.append("away")

    def session_back(self, session: ISession) -> None:
        """See `ISessionObserver`."""
        self.order.append("back")

    def session_closed(self, session: ISession, reason: CloseReason | None) -> None:
        """See `ISessionObserver`."""
        self.order.append("closed")

    def session_moved(self, session: ISession) -> None:
        """See `ISessionObserver`."""
        self.order.append("moved")

    def session_adopted(self, session: ISession, group_ids: list[str]) -> None:
        """See `ISessionObserver`."""
        self.order.append("adopted")


class LateArrivals:
    """Looks for sessions of other nodes until a test says that it has looked enough.

    :ivar asked: (user ID, sid) of all searches.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.search: Deferred[None] = Deferred()

    def fetch(self, identity: Identity, sid: str) -> Deferred[None] | None:
        """See `Arrivals`."""
        self.asked.append((identity.user_id, sid))
        waiter: Deferred[None] = Deferred()

        def tell(result: None) -> None:
            if not waiter.called:
                waiter.callback(result)

        self.search.addCallback(tell)
        return waiter


def closed_with(client: MemoryClient) -> tuple[CloseReason | None, tuple[int, str] | None]:
    """Return why the node closed a connection, and what the client read of it last."""
    frames = [frame for frame in client.link.received if (frame.ver, frame.cmd) == (0, CoreCommand.GOODBYE)]
    return client.link.close_reason, decode_goodbye(frames[-1].payload) if frames else None


class HelloTests(SynchronousTestCase):
    """The first frame."""

    def setUp(self) -> None:
        """A node, and a client that has said nothing yet."""
        self.node = make_node()
        self.client = self.node.connect()

    def say(self, body: bytes) -> tuple[int, str]:
        """Send a HELLO that is refused; return code and text."""
        answer = self.client.request(CoreCommand.HELLO, body, ver=0)
        self.assertEqual(answer.status, Status.BAD)
        return decode_error(answer.payload)

    def test_contracts(self) -> None:
        """A connection is what transports and sessions take it for."""
        verifyObject(IUplink, self.client.connection)
        verifyObject(IConnection, self.client.connection)
        self.assertIsNone(self.client.connection.session)

    def test_welcome(self) -> None:
        """A client learns its sid, the node, and what it must know to behave."""
        self.client.say_hello(Hello(protocol=1, user="ann", client="game/1"))
        welcome = self.client.welcome
        assert welcome is not None
        self.assertEqual((welcome.protocol, welcome.node, welcome.user), (1, "node-1", "ann"))
        self.assertEqual((welcome.resumed, welcome.recovered), (False, False))
        self.assertEqual((welcome.heartbeat_seconds, welcome.max_payload_bytes), (25.0, 65536))
        self.assertEqual(len(welcome.sid), 32)

    def test_without_request_id(self) -> None:
        """HELLO is answered even when its number is 0, for a client could not go on without."""
        self.client.send(CoreCommand.HELLO, encode_hello(Hello(protocol=1, user="ann")), ver=0)
        self.assertIsNotNone(self.node.registry.find_user("ann"))
        self.assertEqual(len(self.client.link.received), 1)

    def test_deadline(self) -> None:
        """A client that says nothing for 10 seconds is closed with HELLO_TIMEOUT; bytes alone do not save it."""
        self.node.clock.advance(9.9)
        self.client.connection.heard()
        self.assertFalse(self.client.link.is_closed)
        self.node.clock.advance(0.2)
        reason, goodbye = closed_with(self.client)
        self.assertIs(reason, CloseReason.HELLO_TIMEOUT)
        self.assertEqual(goodbye, (4505, CloseReason.HELLO_TIMEOUT.text))

    def test_deadline_is_over(self) -> None:
        """After HELLO the deadline is no more."""
        self.node.sign_in("ann")
        self.node.advance(11)
        self.assertIsNotNone(self.node.registry.find_user("ann"))

    def test_malformed(self) -> None:
        """A HELLO that cannot be read is answered and closes with PROTOCOL_ERROR."""
        code, text = self.say(b"{")
        self.assertEqual(code, 1)
        self.assertEqual(closed_with(self.client), (CloseReason.PROTOCOL_ERROR, (4502, text)))

    def test_protocol_version(self) -> None:
        """Another version of the protocol is refused by name."""
        self.assertEqual(self.say(b'{"protocol":2,"user":"ann"}')[0], 1)
        self.assertIs(self.client.link.close_reason, CloseReason.PROTOCOL_ERROR)

    def test_no_user(self) -> None:
        """Somebody has to be named."""
        self.assertEqual(self.say(b'{"protocol":1}'), (1, "HELLO: user is missing"))

    def test_twice(self) -> None:
        """A second HELLO is refused, and the session goes on."""
        ann = self.node.sign_in("ann")
        self.assertEqual(ann.refusal(CoreCommand.HELLO, encode_hello(Hello(protocol=1, user="bob")), ver=0)[1], 1)
        self.assertFalse(ann.link.is_closed)
        self.assertIsNone(self.node.registry.find_user("bob"))

    def test_commands_before(self) -> None:
        """A command before HELLO is code 3; HELLO may still follow."""
        self.assertEqual(self.client.refusal(Command.GROUP_LIST)[:2], (Status.BAD, 3))
        self.assertEqual(self.client.refusal(CoreCommand.PING, ver=0)[:2], (Status.BAD, 3))
        self.assertEqual(self.client.say_hello(Hello(protocol=1, user="ann")).status, Status.OK)

    def test_goodbye_before(self) -> None:
        """Who leaves before HELLO is let go at once, without an answer."""
        for request_id in (0, 1):
            client = self.node.connect()
            client.send(CoreCommand.GOODBYE, ver=0, request_id=request_id)
            self.assertTrue(client.link.is_closed)
            self.assertEqual((client.link.close_reason, client.link.received), (None, []))

    def test_too_many_before(self) -> None:
        """Who never says HELLO does not speak the protocol; only so many frames are answered."""
        for _ in range(MAX_EARLY_FRAMES - 1):
            self.client.send(Command.GROUP_LIST, request_id=1)
        self.assertFalse(self.client.link.is_closed)
        self.client.send(Command.GROUP_LIST, request_id=1)
        self.assertIs(self.client.link.close_reason, CloseReason.PROTOCOL_ERROR)
        self.client.send(Command.GROUP_LIST, request_id=1)
        self.assertEqual(len(self.client.link.received), MAX_EARLY_FRAMES + 1)

    def test_bad_token(self) -> None:
        """A sign-in that fails is code 3 and BAD_TOKEN; what is sent never says which check failed."""
        rules = TokenRules(b"a secret of at least 32 bytes, as HS256 wants it", ("HS256",), "", "")
        node = make_node(authenticator=TokenAuthenticator(rules))
        for token in (None, "", "a.b.c"):
            client = node.connect()
            answer = client.say_hello(Hello(protocol=1, user="ann", token=token))
            self.assertEqual(decode_error(answer.payload), (3, "sign-in refused"))
            self.assertEqual(closed_with(client), (CloseReason.BAD_TOKEN, (4501, CloseReason.BAD_TOKEN.text)))
        self.assertEqual(len(node.registry), 0)

    def test_draining(self) -> None:
        """A node that is about to stop sends new clients on, with code 9 and DRAINING."""
        self.node.reception.is_draining = True
        answer = self.client.say_hello(Hello(protocol=1, user="ann"))
        self.assertEqual((answer.status, decode_error(answer.payload)[0]), (Status.ERROR, 9))
        self.assertIs(self.client.link.close_reason, CloseReason.DRAINING)

    def test_status_bits(self) -> None:
        """A status byte that no client may send is a protocol error, before and after HELLO."""
        ann = self.node.sign_in("ann")
        for client in (self.client, ann):
            client.link.frame_sent(Frame(1, 2, Command.GROUP_LIST, 1, b""))
            self.assertIs(client.link.close_reason, CloseReason.PROTOCOL_ERROR)


class CloseTests(SynchronousTestCase):
    """Every way in which a connection ends."""

    def setUp(self) -> None:
        """A node with one signed-in client."""
        self.node = make_node()
        self.ann = self.node.sign_in("ann")

    def test_goodbye(self) -> None:
        """A client that says GOODBYE leaves for good: nothing is sent, nothing is kept."""
        self.ann.send(CoreCommand.GOODBYE, ver=0)
        self.assertTrue(self.ann.link.is_closed)
        self.assertEqual(closed_with(self.ann), (None, None))
        self.assertEqual((len(self.node.registry), self.node.registry.away_count), (0, 0))
        self.assertEqual(self.node.counters.closes, {("tcp", "goodbye"): 1})

    def test_lost(self) -> None:
        """A connection that breaks leaves its session for a resume."""
        self.ann.lose()
        self.assertEqual(self.node.registry.away_count, 1)
        self.assertEqual(self.node.counters.closes, {("tcp", "lost"): 1})
        self.assertEqual(self.node.counters.transports["tcp"].connections, 0)
        self.assertEqual(self.node.counters.transports["tcp"].connections_total, 1)

    def test_idle(self) -> None:
        """A client that says nothing for 120 seconds is gone, by TCP and WebSocket."""
        self.node.advance(119.5)
        self.assertFalse(self.ann.link.is_closed)
        self.node.advance(1)
        self.assertEqual(closed_with(self.ann), (CloseReason.IDLE, (4001, CloseReason.IDLE.text)))

    def test_idle_udp(self) -> None:
        """By UDP 10 seconds are too long."""
        udp = self.node.sign_in("bob", "udp")
        self.node.advance(9.5)
        self.assertFalse(udp.link.is_closed)
        self.node.advance(1)
        self.assertIs(udp.link.close_reason, CloseReason.IDLE)

    def test_not_idle(self) -> None:
        """Whatever a client says keeps it."""
        for _ in range(4):
            self.node.advance(100, 10)
            self.ann.send(CoreCommand.PONG, b"?", ver=0)
        self.assertFalse(self.ann.link.is_closed)

    def test_replaced(self) -> None:
        """A newer sign-in closes the older connection with REPLACED."""
        self.node.sign_in("ann", "websocket")
        self.assertEqual(closed_with(self.ann), (CloseReason.REPLACED, (4500, CloseReason.REPLACED.text)))
        self.assertEqual(len(self.node.registry), 1)

    def test_kicked(self) -> None:
        """KICKED carries the application's words."""
        self.node.relay.kick("ann", "cheating")
        self.assertEqual(closed_with(self.ann), (CloseReason.KICKED, (4504, "cheating")))

    def test_from_the_transport(self) -> None:
        """What a transport finds wrong is the close reason that the client reads."""
        errors = {
            CloseReason.PROTOCOL_ERROR: MalformedFrame("a text message"),
            CloseReason.FRAME_TOO_LARGE: FrameTooLarge(70_000, 65_536),
        }
        for reason, error in errors.items():
            client = self.node.sign_in("bob")
            client.connection.protocol_broken(error)
            self.assertEqual(closed_with(client), (reason, (reason.code, str(error))))
            self.assertIsNone(self.node.registry.find_user("bob"))

    def test_internal(self) -> None:
        """A bug of ours costs this connection alone, and the client may come back."""
        self.ann.connection.failed()
        self.assertEqual(closed_with(self.ann), (CloseReason.INTERNAL, (4003, CloseReason.INTERNAL.text)))
        self.assertTrue(self.node.sign_in("ann", resume=self.ann.sid).welcome.resumed)  # type: ignore[union-attr]

    def test_slow_consumer(self) -> None:
        """A client that does not read is closed with SLOW_CONSUMER and may resume."""
        self.ann.connection.outbox_overflowed(2_000_000)
        self.assertEqual(closed_with(self.ann)[0], CloseReason.SLOW_CONSUMER)
        self.assertEqual(self.node.registry.away_count, 1)

    def test_retryable(self) -> None:
        """A close of the kind "come back" leaves the session, any other ends it."""
        for reason in CloseReason:
            client = self.node.sign_in("bob")
            client.connection.close(reason)
            self.assertEqual(self.node.registry.find_user("bob") is not None, reason.is_retryable, reason)
            self.node.settle()

    def test_after_the_end(self) -> None:
        """What arrives after a close is passed over, and a second close says nothing."""
        connection = self.ann.connection
        connection.close(CloseReason.IDLE)
        connection.close(CloseReason.KICKED)
        connection.run_received(FrameRun(1, 0, Command.GROUP_LIST, [9], [b""]))
        connection.connection_lost("")
        self.assertEqual([frame.cmd for frame in self.ann.link.received], [CoreCommand.HELLO, CoreCommand.GOODBYE])
        self.assertEqual(self.node.counters.closes, {("tcp", "idle"): 1})

    def test_nothing_is_left(self) -> None:
        """A closed connection leaves nothing behind in the tables of the node."""
        connection = self.ann.connection
        self.ann.send(CoreCommand.GOODBYE, ver=0)
        self.node.settle()
        self.assertNotIn(connection, self.node.reception.connections)
        self.assertNotIn(connection, self.node.reception.lingering)


class HeartbeatTests(SynchronousTestCase):
    """PING and PONG, both ways."""

    def setUp(self) -> None:
        """A node with one signed-in client."""
        self.node = make_node()
        self.ann = self.node.sign_in("ann")

    def latency(self) -> float | None:
        """What the node measured."""
        session = self.node.registry.find_user("ann")
        assert session is not None
        return session.latency_seconds

    def next_ping(self) -> Frame:
        """Wait for the next PING of the node."""
        self.ann.frames()
        self.node.advance(25.1, 0.1)
        (frame,) = self.ann.frames()
        self.assertEqual((frame.ver, frame.cmd, frame.request_id), (0, CoreCommand.PING, 0))
        return frame

    def test_client_pings(self) -> None:
        """PING is answered with the same 0 to 64 bytes; more are refused."""
        for payload in (b"", b"x" * 64):
            self.assertEqual(self.ann.request(CoreCommand.PING, payload, ver=0), (0, 1, 2, self.count(), payload))
        self.assertEqual(self.ann.refusal(CoreCommand.PING, b"x" * 65, ver=0)[1], 1)

    def count(self) -> int:
        """The number of the last request."""
        return max(frame.request_id for frame in self.ann.link.received)

    def test_node_pings(self) -> None:
        """The node sends a PING every heartbeat_seconds, each of its own."""
        self.assertNotEqual(self.next_ping().payload, self.next_ping().payload)

    def test_latency(self) -> None:
        """The time until PONG is the latency of the client."""
        self.assertIsNone(self.latency())
        ping = self.next_ping()
        sent_at = self.node.clock.seconds()
        self.node.clock.advance(0.25)
        self.ann.send(CoreCommand.PONG, ping.payload, ver=0)
        latency = self.latency()
        assert latency is not None
        self.assertApproximates(latency, self.node.clock.seconds() - sent_at, 0.11)

    def test_measured_at_once(self) -> None:
        """A latency that is wanted now is measured now, by one PING, and the heartbeat goes on behind it."""
        self.ann.frames()
        for _ in range(3):
            self.ann.connection.measure_latency()
        self.node.settle()
        (ping,) = self.ann.frames()
        self.node.clock.advance(0.25)
        self.ann.send(CoreCommand.PONG, ping.payload, ver=0)
        self.assertApproximates(self.latency() or 0.0, 0.25, 0.01)
        self.assertNotEqual(self.next_ping().payload, ping.payload)
        self.ann.lose()
        session = self.node.registry.find_session(self.ann.sid)
        assert session is not None
        session.measure_latency()
        self.assertIsNone(session.udp_address)

    def test_repeated_pong(self) -> None:
        """One PING is measured once: a PONG that comes again says nothing about the line."""
        ping = self.next_ping()
        self.ann.send(CoreCommand.PONG, ping.payload, ver=0)
        measured = self.latency()
        self.node.clock.advance(5)
        self.ann.send(CoreCommand.PONG, ping.payload, ver=0)
        self.assertEqual(self.latency(), measured)

    def test_made_up_pong(self) -> None:
        """A PONG that answers nothing, or an older PING, measures nothing."""
        self.ann.send(CoreCommand.PONG, bytes(8), ver=0)
        first = self.next_ping()
        self.next_ping()
        for payload in (first.payload, b"", b"x" * 64):
            self.ann.send(CoreCommand.PONG, payload, ver=0)
        self.assertIsNone(self.latency())
        self.assertEqual(self.ann.frames(), [])

    def test_unknown_core_command(self) -> None:
        """A core command that this version does not know is code 2."""
        self.assertEqual(self.ann.refusal(77, ver=0), (Status.BAD, 2, "unknown command ver 0 cmd 77"))


class ResumeTests(SynchronousTestCase):
    """Coming back."""

    def setUp(self) -> None:
        """A node, and a client that acknowledges and has had three pushes."""
        self.node = make_node()
        self.ann = self.node.sign_in("ann", acks=True)
        for number in range(3):
            self.push(number)

    def push(self, number: int) -> None:
        """Push one number to ann."""
        self.node.relay.push("ann", 2, number, b"", True)

    def resume(self, received: int | None, acks: bool | None = True) -> tuple[bool, bool, list[int]]:
        """Resume and return resumed, recovered and the numbers that came."""
        client = self.node.sign_in("ann", acks=acks, resume=self.ann.sid, received=received)
        assert client.welcome is not None
        return client.welcome.resumed, client.welcome.recovered, [frame.cmd for frame in client.pushes()]

    def test_recovered(self) -> None:
        """Exactly the rest follows the answer to HELLO, lost and new, before anything else."""
        self.ann.lose()
        self.push(3)
        self.assertEqual(self.resume(2), (True, True, [2, 3]))

    def test_order(self) -> None:
        """The answer to HELLO comes first of all."""
        self.ann.lose()
        client = self.node.sign_in("ann", acks=True, resume=self.ann.sid, received=0)
        self.assertEqual([frame.ver for frame in client.link.received], [0, 2, 2, 2])

    def test_acknowledged(self) -> None:
        """What was acknowledged is not kept, and cannot be had again."""
        self.ann.acknowledge(2)
        self.ann.lose()
        self.assertEqual(self.resume(0), (True, False, []))

    def test_malformed_ack(self) -> None:
        """An ACK of other than 4 bytes is refused."""
        for payload in (b"", b"123", b"12345"):
            self.assertEqual(self.ann.refusal(CoreCommand.ACK, payload, ver=0)[:2], (Status.BAD, 1))

    def test_without_acks(self) -> None:
        """Without acks what was made meanwhile comes, and nobody claims that it is all."""
        bob = self.node.sign_in("bob")
        self.node.relay.push("bob", 2, 1, b"", True)
        bob.lose()
        self.node.relay.push("bob", 2, 2, b"", True)
        self.node.relay.push("bob", 2, 3, b"", False)
        again = self.node.sign_in("bob", resume=bob.sid)
        assert again.welcome is not None
        self.assertEqual((again.welcome.resumed, again.welcome.recovered), (True, False))
        self.assertEqual([frame.cmd for frame in again.pushes()], [2])

    def test_take_over(self) -> None:
        """A resume closes an older connection that the node still has, and keeps the session."""
        self.assertEqual(self.resume(3), (True, True, []))
        self.assertIs(self.ann.link.close_reason, CloseReason.REPLACED)

    def test_unknown(self) -> None:
        """A sid of nobody is a new sign-in."""
        client = self.node.sign_in("bob", resume="0" * 32, acks=True, received=5)
        assert client.welcome is not None
        self.assertEqual((client.welcome.resumed, client.welcome.recovered), (False, False))

    def test_overflow_while_resuming(self) -> None:
        """A client that is too slow for its own replay is away again, and its groups hear it in that order."""
        self.node.relay.push("ann", 2, 3, bytes(2000), True)
        self.ann.lose()
        session = self.node.registry.find_user("ann")
        order: list[str] = []
        client = self.node.connect(limit_bytes=1000)
        client.link.stall()
        self.node.registry.add_observer(Watcher(order))
        hello = Hello(protocol=1, user="ann", acks=True, resume=self.ann.sid, received=0)
        client.send(CoreCommand.HELLO, encode_hello(hello), ver=0, request_id=1)
        assert session is not None
        self.assertFalse(session.is_attached)
        self.assertNotEqual(order[-1:], ["back"])

    def test_closed_by_its_own_answer(self) -> None:
        """A connection that cannot even take the answer to HELLO is closed and stays so; its user is away."""
        self.ann.lose()
        client = self.node.connect(limit_bytes=10)
        client.link.stall()
        connection = client.connection
        hello = Hello(protocol=1, user="ann", acks=True, resume=self.ann.sid, received=3)
        client.send(CoreCommand.HELLO, encode_hello(hello), ver=0, request_id=1)
        self.assertTrue(client.link.is_closed)
        self.assertIsNone(connection.session)
        self.assertEqual(self.node.registry.away_count, 1)

    def test_udp(self) -> None:
        """A user who was signed in by the endpoint call is served without HELLO."""
        client = self.node.connect("udp")
        client.connection.open_signed_in(Identity("bob", {}), Resume(), "b" * 32, True)
        client.connection.greet()
        (push,) = client.frames()
        self.assertEqual((push.ver, push.cmd, push.request_id), (0, CoreCommand.HELLO, 0))
        self.assertEqual(decode_welcome(push.payload).sid, "b" * 32)
        self.assertEqual(client.request(Command.GROUP_LIST).payload, b"")


class OrderTests(SynchronousTestCase):
    """Commands of one connection run one after the other."""

    def setUp(self) -> None:
        """An application whose commands wait; two commands may wait behind one."""
        self.app = SlowCommands()
        self.node: MemoryNode = make_node(Config(session=SessionConfig(pending_commands=2)), self.app.setup)
        self.ann = self.node.sign_in("ann")

    def test_in_order(self) -> None:
        """While a command waits, the next ones wait behind it, and run in the order they came."""
        for cmd, payload in ((SLOW, b"1"), (ECHO, b"2"), (ECHO, b"3")):
            self.ann.send(cmd, payload, ver=2)
        self.assertEqual(self.app.order, [b"1"])
        self.app.let_go()
        self.assertEqual(self.app.order, [b"1", b"2", b"3"])

    def test_slow_behind_slow(self) -> None:
        """A slow command behind a slow one starts when the first has ended."""
        for payload in (b"1", b"2"):
            self.ann.send(SLOW, payload, ver=2)
        self.assertEqual(self.app.order, [b"1"])
        self.app.let_go()
        self.assertEqual(self.app.order, [b"1", b"2"])

    def test_others_do_not_wait(self) -> None:
        """Another client does not wait for ann's command."""
        self.ann.send(SLOW, b"1", ver=2)
        self.assertEqual(self.node.sign_in("bob").request(ECHO, b"2", ver=2).payload, b"2")

    def test_core_commands_do_not_wait(self) -> None:
        """PING is answered while a command waits: the line is fine."""
        self.ann.send(SLOW, b"1", ver=2)
        self.assertEqual(self.ann.request(CoreCommand.PING, b"x", ver=0).payload, b"x")

    def test_reading_pauses(self) -> None:
        """When pending_commands wait nothing more is read, until the slow one has ended."""
        self.ann.send(SLOW, b"1", ver=2)
        self.ann.send(ECHO, b"2", ver=2)
        self.assertFalse(self.ann.link.is_reading_paused)
        self.ann.send(ECHO, b"3", ver=2)
        self.assertTrue(self.ann.link.is_reading_paused)
        self.ann.send(ECHO, b"4", ver=2)
        self.assertEqual(self.app.order, [b"1"])
        self.app.let_go()
        self.assertFalse(self.ann.link.is_reading_paused)
        self.node.settle()
        self.assertEqual(self.app.order, [b"1", b"2", b"3", b"4"])

    def test_still_paused(self) -> None:
        """Reading goes on only when nothing is slow any more."""
        for payload in (b"1", b"2", b"3"):
            self.ann.send(SLOW, payload, ver=2)
        self.app.let_go()
        self.assertTrue(self.ann.link.is_reading_paused)
        self.app.let_go()
        self.app.let_go()
        self.assertFalse(self.ann.link.is_reading_paused)

    def test_not_idle_while_paused(self) -> None:
        """A client to which the node does not listen is not silent; it is when it says nothing afterwards."""
        session = SessionConfig(pending_commands=2, tcp_ttl_seconds=30, hook_timeout_seconds=300)
        node = make_node(Config(session=session), self.app.setup)
        bob = node.sign_in("bob")
        for payload in (b"1", b"2", b"3"):
            bob.send(SLOW, payload, ver=2)
        node.advance(100)
        self.assertEqual((bob.link.is_reading_paused, bob.link.close_reason), (True, None))
        for _ in range(3):
            self.app.let_go()
        node.advance(29)
        self.assertIsNone(bob.link.close_reason)
        node.advance(2)
        self.assertIs(bob.link.close_reason, CloseReason.IDLE)

    def test_closed_while_paused(self) -> None:
        """A connection that is closed is read again, so that the client's own end is seen."""
        for payload in (b"1", b"2", b"3"):
            self.ann.send(SLOW, payload, ver=2)
        self.assertTrue(self.ann.link.is_reading_paused)
        self.ann.connection.close(CloseReason.DRAINING)
        self.assertFalse(self.ann.link.is_reading_paused)

    def test_udp_drops(self) -> None:
        """UDP cannot be paused: what is too much is dropped and counted, the rest runs in order."""
        bob = self.node.sign_in("bob", "udp")
        for cmd, payload in ((SLOW, b"1"), (ECHO, b"2"), (ECHO, b"3"), (ECHO, b"4")):
            bob.send(cmd, payload, ver=2)
        self.app.let_go()
        self.assertEqual(self.app.order, [b"1", b"2", b"3"])
        self.assertEqual(self.node.counters.packets_dropped["pending_commands"], 1)

    def test_closed_meanwhile(self) -> None:
        """What waited behind a slow command is forgotten with the connection."""
        self.ann.send(SLOW, b"1", ver=2)
        self.ann.send(ECHO, b"2", ver=2)
        self.ann.lose()
        self.app.let_go()
        self.assertEqual(self.app.order, [b"1"])

    def test_timeout(self) -> None:
        """An application that never answers holds its client up for hook_timeout_seconds, no longer."""
        request_id = self.ann.ask(SLOW, b"1", ver=2)
        self.ann.send(ECHO, b"2", ver=2)
        self.node.advance(10.5)
        answer = self.ann.answer_to(request_id)
        assert answer is not None
        self.assertEqual((answer.status, decode_error(answer.payload)[0]), (Status.ERROR, 6))
        self.assertEqual(self.app.order, [b"1", b"2"])


class RateTests(SynchronousTestCase):
    """commands_per_second."""

    def setUp(self) -> None:
        """Five commands a second, ten at once."""
        self.node = make_node(Config(session=SessionConfig(commands_per_second=5)))
        self.ann = self.node.sign_in("ann")

    def test_limit(self) -> None:
        """Over the limit a command is code 4 and says when to try again; then it is taken."""
        for _ in range(10):
            self.assertEqual(self.ann.request(Command.GROUP_LIST).status, Status.OK)
        status, code, text = self.ann.refusal(Command.GROUP_LIST)
        self.assertEqual((status, code, text), (Status.BAD, 4, "rate limited: retry after 0.200 seconds"))
        self.node.clock.advance(0.2)
        self.assertEqual(self.ann.request(Command.GROUP_LIST).status, Status.OK)

    def test_run(self) -> None:
        """Of many commands that come in one read as many are done as are allowed, in order; the others are code 4."""
        group_id = self.ann.create_group()
        bob = self.node.sign_in("bob")
        bob.join(group_id)
        run = FrameRun(1, 0, Command.GROUP_BROADCAST, [], [])
        for number in range(12):
            run.request_ids.append(100 + number)
            run.payloads.append(encode_gid_message(group_id, b"%d" % number))
        self.ann.connection.run_received(run)
        self.ann.connection.read_ended()
        self.node.settle()
        self.assertEqual([message.message for message in bob.messages()], [b"%d" % number for number in range(9)])
        answers = [(frame.request_id, frame.status) for frame in self.ann.link.received if frame.request_id >= 100]
        self.assertEqual(answers, [(100 + number, Status.OK if number < 9 else Status.BAD) for number in range(12)])

    def test_pings_count(self) -> None:
        """PING is a command like others."""
        for _ in range(10):
            self.ann.request(CoreCommand.PING, ver=0)
        self.assertEqual(self.ann.refusal(CoreCommand.PING, ver=0)[1], 4)

    def test_core_refusals_count(self) -> None:
        """Commands that are refused anyway are commands as well: nobody gets answers without end."""
        for _ in range(2000):
            self.ann.send(77, ver=0, request_id=1)
        self.assertIs(self.ann.link.close_reason, CloseReason.RATE_LIMITED)

    def test_too_long(self) -> None:
        """Who does not stop is closed with RATE_LIMITED."""
        for _ in range(10 + 100):
            self.ann.send(Command.GROUP_LIST, request_id=1)
        self.assertFalse(self.ann.link.is_closed)
        self.ann.send(Command.GROUP_LIST, request_id=1)
        self.assertEqual(closed_with(self.ann), (CloseReason.RATE_LIMITED, (4506, CloseReason.RATE_LIMITED.text)))

    def test_no_limit(self) -> None:
        """Without a limit nobody is refused."""
        ann = make_node().sign_in("ann")
        for _ in range(1000):
            ann.send(Command.GROUP_LIST, request_id=1)
        self.assertEqual({frame.status for frame in ann.link.received}, {Status.OK})


class SigningInTests(SynchronousTestCase):
    """A sign-in that waits for a session of another node; `tests.session.test_roaming` has the other node."""

    def setUp(self) -> None:
        """The search for sessions has no end yet; two commands may wait."""
        self.app = SlowCommands()
        self.node = make_node(Config(session=SessionConfig(pending_commands=2)), self.app.setup)
        self.arrivals = self.node.reception.arrivals = LateArrivals()

    def say_hello(self, transport_name: str = "tcp", resume: str | None = "0" * 32) -> MemoryClient:
        """Send HELLO; nobody has answered yet."""
        client = self.node.connect(transport_name)
        hello = Hello(protocol=1, user="ann", resume=resume)
        client.send(CoreCommand.HELLO, encode_hello(hello), ver=0, request_id=1)
        return client

    def test_without_resume(self) -> None:
        """Who resumes nothing waits for nothing."""
        client = self.say_hello(resume=None)
        self.assertEqual((self.arrivals.asked, len(client.link.received)), ([], 1))

    def test_waits(self) -> None:
        """HELLO is answered when the search is over, whatever it found."""
        client = self.say_hello()
        self.assertEqual((self.arrivals.asked, client.link.received), ([("ann", "0" * 32)], []))
        self.arrivals.search.callback(None)
        (answer,) = client.link.received
        self.assertEqual((answer.request_id, decode_welcome(answer.payload).resumed), (1, False))

    def test_core_commands_in_order(self) -> None:
        """What was sent early is answered in its order, commands of ver 0 among the others."""
        client = self.say_hello()
        client.send(ECHO, b"x", ver=2, request_id=2)
        client.send(CoreCommand.PING, b"y", ver=0, request_id=3)
        self.arrivals.search.callback(None)
        self.assertEqual([frame.request_id for frame in client.link.received], [1, 2, 3])

    def test_slow_command_sent_early(self) -> None:
        """A slow command that was sent early holds up those behind it."""
        client = self.say_hello()
        client.send(SLOW, b"1", ver=2)
        client.send(ECHO, b"2", ver=2)
        self.arrivals.search.callback(None)
        self.assertEqual((self.app.order, client.link.is_reading_paused), ([b"1"], True))
        self.app.let_go()
        self.assertEqual((self.app.order, client.link.is_reading_paused), ([b"1", b"2"], False))

    def test_udp(self) -> None:
        """UDP cannot be paused: what is too much is dropped and counted, and the client is greeted first."""
        client = self.node.connect("udp")
        client.connection.open_signed_in(Identity("ann", {}), Resume("0" * 32), "b" * 32, True)
        for payload in (b"1", b"2", b"3"):
            client.send(ECHO, payload, ver=2)
        self.assertEqual(self.node.counters.packets_dropped["pending_commands"], 1)
        self.arrivals.search.callback(None)
        self.assertEqual([frame.cmd for frame in client.frames()], [CoreCommand.HELLO])
        self.assertEqual(self.app.order, [b"1", b"2"])
        session = self.node.registry.find_user("ann")
        assert session is not None
        self.assertEqual(session.user.sid, "b" * 32)

    def test_closed_meanwhile(self) -> None:
        """A connection that was closed is not signed in any more."""
        for end in (MemoryClient.lose, lambda client: client.connection.close(CloseReason.DRAINING)):
            end(self.say_hello())
        self.arrivals.search.callback(None)
        self.assertIsNone(self.node.registry.find_user("ann"))
        self.assertEqual(self.node.reception.signing_in, {})

    def test_newer(self) -> None:
        """A newer sign-in of the same user takes over from one that waits."""
        first = self.say_hello()
        second = self.say_hello(resume=None)
        self.assertIs(first.link.close_reason, CloseReason.REPLACED)
        self.arrivals.search.callback(None)
        self.assertFalse(second.link.is_closed)
        self.assertEqual(len(first.link.received), 1)

    def test_unknown_bits(self) -> None:
        """Early frames have to follow the protocol."""
        client = self.say_hello()
        client.link.frame_sent(Frame(2, 2, ECHO, 0, b""))
        self.assertIs(client.link.close_reason, CloseReason.PROTOCOL_ERROR)

    def test_bug(self) -> None:
        """A sign-in that fails inside the node ends this connection alone, and is logged."""
        client = self.say_hello()
        self.patch(self.node.registry, "sign_in", lambda *args: 1 / 0)
        self.arrivals.search.callback(None)
        self.assertIs(client.link.close_reason, CloseReason.INTERNAL)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
