"""Tests of `meshrelay.client.client`."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.client import (
    Client,
    ClientOptions,
    ConnectFailed,
    ConnectionLost,
    DirectMessageReceived,
    Disconnected,
    Event,
    GroupMessageReceived,
    NotConnected,
    TooManyPending,
    WhenFull,
)
from meshrelay.errors import (
    AlreadyMember,
    EmptyAndNotJoined,
    MalformedPayload,
    MessageIsEmpty,
    MessageTooLarge,
    NodesNotFound,
    NotInRoom,
    RemoteProtocolError,
    RoomFull,
    RoomNotFound,
    TimedOut,
    TooManyRooms,
    UserDeclined,
    UserNotFound,
)
from meshrelay.wire.commands import (
    JoinRandom,
    NewGroup,
    decode_direct,
    decode_gid_message,
    decode_join_random,
    decode_new_group,
    encode_created,
    encode_direct,
    encode_gid_message,
    encode_pushed_message,
)
from meshrelay.wire.frame import Frame
from meshrelay.wire.room_commands import NewRoom, decode_new_room
from tests.client.node_end import MemoryNode

GID = "g" * 52
OTHER = "h" * 52


class ClientCase(SynchronousTestCase):
    """A client that is signed in at a node in memory."""

    options: ClientOptions | None = None

    def setUp(self) -> None:
        self.clock = Clock()
        self.node = MemoryNode()
        url = "tcp://127.0.0.1:7200"
        self.client = Client(self.clock, url, "ann", options=self.options, opener=self.node.open)
        done = self.client.connect()
        self.node.end.welcome()
        self.successResultOf(done)

    def frame(self, cmd: int, ver: int = 1) -> Frame:
        """The one frame of a command."""
        [frame] = self.node.end.of_command(ver, cmd)
        return frame


class RoomTests(ClientCase):
    """Rooms, as the program sees them."""

    def test_create(self) -> None:
        """create_room sends what was asked for and gives the ID."""
        made = self.client.create_room(max_members=8, allow_empty=True, join=False, ttl_seconds=60, interval_ms=200)
        self.assertEqual(decode_new_room(self.frame(100).payload), NewRoom(8, True, False, 60, 200))
        self.node.end.answer(self.frame(100), GID.encode())
        self.assertEqual(self.successResultOf(made), GID)

    def test_join(self) -> None:
        """join_room gives the owner; an answer that is none is the node's fault."""
        joined = [self.client.join_room(GID, b"hi") for _ in range(2)]
        frames = self.node.end.of_command(1, 101)
        self.assertEqual(decode_gid_message(frames[0].payload), (GID, b"hi"))
        self.node.end.answer(frames[0], b"\x03bob")
        self.node.end.answer(frames[1], b"")
        self.assertEqual(self.successResultOf(joined[0]), "bob")
        self.failureResultOf(joined[1], RemoteProtocolError)

    def test_members(self) -> None:
        """room_members gives the owner and all members in order."""
        members = self.client.room_members(GID)
        self.node.end.answer(self.frame(104), b"\x03bob\x03bob\x03ann")
        self.assertEqual(self.successResultOf(members), ("bob", ["bob", "ann"]))

    def test_leave_and_broadcast(self) -> None:
        """leave_room and broadcast_room fire with None once the node has answered."""
        for cmd, done in ((102, self.client.leave_room(GID, b"bye")), (103, self.client.broadcast_room(GID, b"bye"))):
            self.assertEqual(decode_gid_message(self.frame(cmd).payload), (GID, b"bye"))
            self.assertEqual(self.frame(cmd).status, 1)
            self.node.end.answer(self.frame(cmd))
            self.assertIsNone(self.successResultOf(done), cmd)
        self.client.broadcast_room(GID, b"x", reliable=False).addErrback(lambda _: None)
        self.assertEqual(self.node.end.of_command(1, 103)[1].status, 0)

    def test_refusals(self) -> None:
        """What the node refuses comes as the class of its code."""
        for number, (code, error_class) in enumerate(
            {20: AlreadyMember, 23: RoomFull, 24: NotInRoom, 25: RoomNotFound, 14: TooManyRooms, 6: TimedOut}.items()
        ):
            joining = self.client.join_room(GID)
            self.node.end.refuse(self.node.end.of_command(1, 101)[number], code, "because")
            self.assertEqual(str(self.failureResultOf(joining, error_class).value), "because", code)

    def test_bad_id(self) -> None:
        """What cannot be a room's ID fails without a word to the node."""
        for answer in (self.client.join_room("short"), self.client.room_members("\u00e9" * 52)):
            self.failureResultOf(answer, MalformedPayload)


class ClientTests(ClientCase):
    """The methods of a client."""

    def test_create_group(self) -> None:
        """create_group sends what was asked for and gives the ID."""
        made = self.client.create_group(allow_empty=True, join=False, ttl_seconds=60, interval_ms=100)
        self.assertEqual(decode_new_group(self.frame(110).payload), NewGroup(True, False, 60, 100))
        self.node.end.answer(self.frame(110), GID.encode())
        self.assertEqual(self.successResultOf(made), GID)

    def test_typed_refusal(self) -> None:
        """What the node refuses comes as its class."""
        made = self.client.create_group(allow_empty=False, join=False)
        self.node.end.refuse(self.frame(110), 11, "allow_empty and join are both false")
        self.failureResultOf(made, EmptyAndNotJoined)

    def test_join_leave_broadcast(self) -> None:
        """The group commands carry group and message and fire with None."""
        for cmd, answer in (
            (111, self.client.join_group(GID, b"hello")),
            (112, self.client.leave_group(GID, b"hello")),
            (113, self.client.broadcast(GID, b"hello")),
        ):
            self.assertEqual(decode_gid_message(self.frame(cmd).payload), (GID, b"hello"), cmd)
            self.node.end.answer(self.frame(cmd))
            self.assertIsNone(self.successResultOf(answer), cmd)

    def test_reliable(self) -> None:
        """The caller decides whether a broadcast may be lost on its way to members on UDP."""
        self.client.broadcast_nowait(GID, b"1", reliable=False)
        self.client.broadcast_nowait(GID, b"2")
        frames = self.node.end.of_command(1, 113)
        self.assertEqual([frame.status for frame in frames], [0, 1])

    def test_broadcast_nowait(self) -> None:
        """broadcast_nowait asks for no answer."""
        self.client.broadcast_nowait(GID, b"x")
        self.assertEqual(self.frame(113), Frame(1, 1, 113, 0, encode_gid_message(GID, b"x")))

    def test_join_random(self) -> None:
        """join_random_group tells whether the group was made, and its ID."""
        joined = self.client.join_random_group(ttl_seconds=30, allow_empty=True, interval_ms=5, message=b"hi")
        self.assertEqual(decode_join_random(self.frame(114).payload), JoinRandom(30, True, 5, b"hi"))
        self.node.end.answer(self.frame(114), encode_created(True, GID))
        self.assertEqual(self.successResultOf(joined), (True, GID))

    def test_list_groups(self) -> None:
        """list_groups gives the IDs in the node's order."""
        listed = self.client.list_groups()
        self.node.end.answer(self.frame(115), (GID + OTHER).encode())
        self.assertEqual(self.successResultOf(listed), [GID, OTHER])

    def test_bad_group_id(self) -> None:
        """A group ID of the wrong length fails without a word to the node."""
        self.failureResultOf(self.client.join_group("short"), MalformedPayload)
        self.assertEqual(self.node.end.of_command(1, 111), [])

    def test_unreadable_answer(self) -> None:
        """An answer that cannot be read is said to be the node's fault."""
        listed = self.client.list_groups()
        self.node.end.answer(self.frame(115), b"short")
        self.failureResultOf(listed, RemoteProtocolError)

    def test_ping(self) -> None:
        """ping gives the seconds of the round trip."""
        answer = self.client.ping()
        frame = self.frame(2, 0)
        self.clock.advance(0.25)
        self.node.end.answer(frame, frame.payload)
        self.assertEqual(self.successResultOf(answer), 0.25)

    def test_ping_with_other_bytes(self) -> None:
        """An answer to PING with other bytes is no answer."""
        answer = self.client.ping()
        self.node.end.answer(self.frame(2, 0), b"else")
        self.failureResultOf(answer, RemoteProtocolError)

    def test_custom_command(self) -> None:
        """request runs a command of the application."""
        answer = self.client.request(200, 5, b"question", reliable=False)
        self.node.end.answer(self.frame(5, 200), b"answer")
        self.assertEqual(self.successResultOf(answer), b"answer")

    def test_send(self) -> None:
        """send tells the application something, without an answer."""
        self.client.send(200, 5, b"fact")
        self.assertEqual(self.frame(5, 200).request_id, 0)

    def test_events(self) -> None:
        """Pushes reach callbacks and streams."""
        heard: list[GroupMessageReceived] = []
        stream = self.client.events()
        self.client.on(GroupMessageReceived, heard.append)
        self.node.end.push(1, 113, encode_pushed_message(GID, "bob", b"hi"))
        expected = GroupMessageReceived(GID, "bob", b"hi")
        self.assertEqual(heard, [expected])
        self.assertEqual(self.successResultOf(stream.next_event()), expected)

    def test_stream_ends_with_the_client(self) -> None:
        """The stream survives breaks and ends when the client is closed."""
        stream = self.client.events()

        async def read() -> list[Event]:
            return [event async for event in stream]

        done = Deferred.fromCoroutine(read())
        self.node.end.receiver.link_lost(None, "broken")
        self.assertNoResult(done)
        self.clock.advance(1.0)
        self.node.end.welcome()
        self.client.close()
        events = self.successResultOf(done)
        self.assertEqual(events[-1], Disconnected(None, "closed by this program", False))
        self.assertEqual(len(events), 3)

    def test_stream_ends_during_a_break(self) -> None:
        """So it does when the client is closed while it waits for its next try."""
        stream = self.client.events()
        self.node.end.receiver.link_lost(None, "broken")
        self.client.close()
        for will_retry in (True, False):
            event = self.successResultOf(stream.next_event())
            assert isinstance(event, Disconnected)
            self.assertEqual(event.will_retry, will_retry)
        self.failureResultOf(stream.next_event(), StopAsyncIteration)

    def test_stream_ends_when_a_request_breaks(self) -> None:
        """And when the program closes it because it heard that a request was lost with its connection."""
        stream = self.client.events()
        self.client.list_groups().addErrback(lambda _: self.client.close())
        self.node.end.receiver.link_lost(None, "broken")
        self.assertEqual(self.successResultOf(stream.next_event()), Disconnected(None, "broken", False))
        self.failureResultOf(stream.next_event(), StopAsyncIteration)

    def test_stream_that_overran_is_not_kept(self) -> None:
        """A stream that has ended by itself takes no memory any more."""
        self.client.events(1, WhenFull.END)
        for _ in range(2):
            self.node.end.push(2, 1)
        self.assertEqual((self.client._streams, self.client._listeners._callbacks), ({}, []))

    def test_stream_ends_without_a_connection(self) -> None:
        """And when the client never had a connection."""
        client = Client(self.clock, "tcp://h:1", "ann", opener=self.node.open)
        waiting = client.events().next_event()
        self.assertNoResult(waiting)
        client.close()
        self.failureResultOf(waiting, StopAsyncIteration)

    def test_is_connected(self) -> None:
        """A program can ask whether it is connected."""
        self.assertTrue(self.client.is_connected)
        self.successResultOf(self.client.close())
        self.assertFalse(self.client.is_connected)
        self.assertRaises(NotConnected, self.client.broadcast_nowait, GID, b"x")

    def test_bad_arguments(self) -> None:
        """A wrong address or user is refused before anything is sent."""
        self.assertRaises(ValueError, Client, self.clock, "http://x", "ann")
        self.assertRaises(ValueError, Client, self.clock, "tcp://x", "u" * 129)

    def test_unreachable(self) -> None:
        """A node that cannot be reached is named in the error."""
        self.node.failure = OSError("refused")
        client = Client(self.clock, "tcp://h:1", "ann", opener=self.node.open)
        self.assertIn("tcp://h:1", str(self.failureResultOf(client.connect(), ConnectFailed).value))

    def test_rebind(self) -> None:
        """A program can have its connection moved, as long as there is one."""
        self.assertTrue(self.client.rebind())
        self.successResultOf(self.client.close())
        self.assertFalse(self.client.rebind())


class DirectTests(ClientCase):
    """Direct messages."""

    options = ClientOptions(max_pending_requests=100)

    def test_send_direct(self) -> None:
        """send_direct carries peer and message, and fires with None once the node has answered, not before."""
        sent = self.client.send_direct("büb", b"hi")
        self.assertEqual(decode_direct(self.frame(120).payload), ("büb", b"hi"))
        self.assertNoResult(sent)
        self.node.end.answer(self.frame(120))
        self.assertIsNone(self.successResultOf(sent))

    def test_reliable(self) -> None:
        """The caller decides whether a direct message may be lost on UDP; by default it may not."""
        for reliable in (True, False):
            self.client.send_direct("bob", b"x", reliable=reliable).addErrback(lambda _: None)
        self.client.send_direct("bob", b"x").addErrback(lambda _: None)
        self.assertEqual([frame.status for frame in self.node.end.of_command(1, 120)], [1, 0, 1])

    def test_clear_direct(self) -> None:
        """clear_direct carries the last message, or none."""
        for message, cleared in (
            (b"", self.client.clear_direct("bob")),
            (b"bye", self.client.clear_direct("bob", b"bye")),
        ):
            frame = self.node.end.of_command(1, 121)[1 if message else 0]
            self.assertEqual(decode_direct(frame.payload), ("bob", message))
            self.node.end.answer(frame)
            self.assertIsNone(self.successResultOf(cleared), message)

    def test_pipelining(self) -> None:
        """Many messages go out in order without waiting for an answer, and each answer finds its own message."""
        sent = [self.client.send_direct("bob", str(number).encode()) for number in range(100)]
        frames = self.node.end.of_command(1, 120)
        self.assertEqual([decode_direct(frame.payload).message for frame in frames], [b"%d" % n for n in range(100)])
        self.assertEqual(len({frame.request_id for frame in frames} - {0}), 100)
        for number in reversed(range(100)):
            if number % 2:
                self.node.end.answer(frames[number])
                self.assertIsNone(self.successResultOf(sent[number]))
            else:
                self.node.end.refuse(frames[number], 30, f"no {number}")
                self.assertEqual(str(self.failureResultOf(sent[number], UserNotFound).value), f"no {number}")

    def test_too_many_at_once(self) -> None:
        """One message more than may wait for an answer fails by itself, and the others go on."""
        sent = [self.client.send_direct("bob", b"x") for _ in range(100)]
        self.failureResultOf(self.client.send_direct("bob", b"x"), TooManyPending)
        self.node.end.answer(self.node.end.of_command(1, 120)[0])
        self.successResultOf(sent[0])
        sent.append(self.client.send_direct("bob", b"y"))
        self.assertEqual(len(self.node.end.of_command(1, 120)), 101)
        for answer in sent[1:]:
            self.assertNoResult(answer)
            answer.addErrback(lambda _: None)

    def test_refusals(self) -> None:
        """What the node refuses comes as the class of its code."""
        for number, (code, error_class) in enumerate(
            {30: UserNotFound, 31: MessageIsEmpty, 32: NodesNotFound, 33: UserDeclined, 6: TimedOut}.items()
        ):
            sent = self.client.send_direct("bob", b"")
            self.node.end.refuse(self.node.end.of_command(1, 120)[number], code, "because")
            self.assertEqual(str(self.failureResultOf(sent, error_class).value), "because", code)

    def test_bad_peer(self) -> None:
        """A peer that nobody can be fails without a word to the node, and the error names the peer."""
        for peer in ("", "u" * 129, "ü" * 65, "\ud800"):
            for answer in (self.client.send_direct(peer, b"x"), self.client.clear_direct(peer)):
                self.assertIn("peer: user ID", str(self.failureResultOf(answer, MalformedPayload).value))
        self.assertEqual(self.node.end.of_command(1, 120) + self.node.end.of_command(1, 121), [])

    def test_too_large(self) -> None:
        """A message that the node would cut the connection for is refused here, the peer's name included."""
        self.failureResultOf(self.client.send_direct("bob", bytes(65536 - 3)), MessageTooLarge)
        self.client.send_direct("bob", bytes(65536 - 4)).addErrback(lambda _: None)
        self.assertEqual(len(self.frame(120).payload), 65536)

    def test_break(self) -> None:
        """When the connection breaks every message without an answer fails, and none is sent again."""
        sent = [self.client.send_direct("bob", b"x") for _ in range(3)]
        self.node.end.receiver.link_lost(None, "broken")
        for answer in sent:
            self.failureResultOf(answer, ConnectionLost)
        self.failureResultOf(self.client.send_direct("bob", b"x"), NotConnected)
        self.clock.advance(1.0)
        self.node.end.welcome()
        self.assertEqual(self.node.end.of_command(1, 120), [])

    def test_no_answer(self) -> None:
        """A message that the node does not answer fails in the end."""
        sent = self.client.send_direct("bob", b"x")
        self.clock.advance(10.0)
        self.failureResultOf(sent, TimedOut)

    def test_received(self) -> None:
        """A direct message reaches callbacks and streams in order, also one of the server, which has no name."""
        heard: list[DirectMessageReceived] = []
        stream = self.client.events()
        self.client.on(DirectMessageReceived, heard.append)
        expected = [DirectMessageReceived("bob", b"hi"), DirectMessageReceived("", b"news")]
        for event in expected:
            self.node.end.push(1, 120, encode_direct(event.user_id, event.message))
        self.assertEqual(heard, expected)
        for event in expected:
            self.assertEqual(self.successResultOf(stream.next_event()), event)
