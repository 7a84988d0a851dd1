"""Tests of `meshrelay.client.connector`."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, race, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.client.address import parse_url
from meshrelay.client.connector import Connector, ConnectorState, TokenSource
from meshrelay.client.errors import ConnectFailed, ConnectionLost, NotConnected, SignInRefused, UnsentFull
from meshrelay.client.events import Connected, Disconnected, Event, PushReceived
from meshrelay.client.identity import Identity
from meshrelay.client.links import TcpLink
from meshrelay.client.options import ClientOptions
from meshrelay.client.udp_link import UdpLink
from meshrelay.errors import TimedOut
from meshrelay.machine.reliability import ReliabilityMachine
from meshrelay.model import Status
from meshrelay.wire.commands import CORE_VER, CoreCommand
from meshrelay.wire.datagram import TO_NODE, PacketCodec
from meshrelay.wire.frame import encode_frame, encode_push
from tests.client.node_end import SID, MemoryNode

URL = "tcp://127.0.0.1:7200"


class ConnectorCase(SynchronousTestCase):
    """A connector, a node in memory and a clock."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.node = MemoryNode()
        self.events: list[Event] = []

    def make(self, token: TokenSource = None, reconnect: bool = True, **options: Any) -> Connector:
        """A connector; every delay of the backoff is as long as it can be."""
        identity = Identity("ann", "test/1", reconnect=reconnect)
        chosen = ClientOptions(uniform=lambda low, high: high, reconnect=reconnect, **options)
        return Connector(self.clock, parse_url(URL), identity, token, chosen, self.events.append, self.node.open)

    def online(self, **options: Any) -> Connector:
        """A connector that is signed in."""
        connector = self.make(**options)
        done = connector.connect()
        self.node.end.welcome()
        self.successResultOf(done)
        self.events.clear()
        return connector


class ConnectTests(ConnectorCase):
    """The first connection."""

    def test_connect(self) -> None:
        """connect fires when the node has answered HELLO."""
        connector = self.make()
        done = connector.connect()
        self.assertNoResult(done)
        self.node.end.welcome()
        expected = Connected("ann", "node-1", SID, False, False)
        self.assertEqual(self.successResultOf(done), expected)
        self.assertEqual(self.events, [expected])
        self.assertEqual(connector.state, ConnectorState.ONLINE)

    def test_connect_twice(self) -> None:
        """Whoever asks while the first try runs, or after it, gets the same answer on one connection."""
        connector = self.make()
        first, second = connector.connect(), connector.connect()
        self.node.end.welcome()
        self.assertEqual(self.successResultOf(first), self.successResultOf(second))
        self.assertEqual(self.successResultOf(connector.connect()), self.events[0])
        self.assertEqual(self.node.tries, 1)

    def test_unreachable(self) -> None:
        """The first connect fails clearly instead of trying for ever."""
        self.node.failure = OSError("nobody there")
        connector = self.make()
        error = self.failureResultOf(connector.connect(), ConnectFailed).value
        self.assertEqual(str(error), f"cannot connect to {URL}: nobody there")
        self.assertEqual((connector.state, self.events, self.clock.getDelayedCalls()), (ConnectorState.IDLE, [], []))

    def test_retry_first(self) -> None:
        """With retry_first the first connect is tried until it works."""
        self.node.failure = OSError("nobody there")
        done = self.make(retry_first=True).connect()
        for _ in range(3):
            self.clock.advance(40.0)
        self.assertNoResult(done)
        self.node.failure = None
        self.clock.advance(40.0)
        self.node.end.welcome()
        self.successResultOf(done)

    def test_nothing_answers(self) -> None:
        """A connection that never comes to be is given up in time."""
        self.node.holds = True
        done = self.make(connect_timeout_seconds=3.0).connect()
        self.clock.advance(3.0)
        error = self.failureResultOf(done, ConnectFailed).value
        self.assertIn("no answer within 3 seconds", str(error))

    def test_node_says_nothing(self) -> None:
        """A node that accepts the connection and never answers HELLO is given up, and the link dropped."""
        done = self.make().connect()
        self.clock.advance(10.0)
        self.failureResultOf(done, ConnectFailed)
        self.assertTrue(self.node.end.is_aborted)

    def test_refused(self) -> None:
        """A refused sign-in fails as such, with the node's code, and is not tried again."""
        done = self.make(retry_first=True).connect()
        self.node.end.goodbye(4501, "sign-in refused")
        error = self.failureResultOf(done, SignInRefused).value
        self.assertEqual(error.close_code, 4501)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_again_after_a_failure(self) -> None:
        """After a failure connect may be called again."""
        self.node.failure = OSError("nobody there")
        connector = self.make()
        self.failureResultOf(connector.connect(), ConnectFailed)
        self.node.failure = None
        done = connector.connect()
        self.node.end.welcome()
        self.successResultOf(done)

    def test_cancel(self) -> None:
        """Cancelling connect ends the try and leaves nothing behind."""
        self.node.holds = True
        connector = self.make()
        done = connector.connect()
        done.addErrback(lambda _: None)
        done.cancel()
        self.assertEqual((connector.state, self.clock.getDelayedCalls()), (ConnectorState.IDLE, []))
        [waiting] = self.node.waiting
        self.assertTrue(waiting.called)

    def test_close_while_connecting(self) -> None:
        """Closing while a try runs ends it."""
        connector = self.make()
        done = connector.connect()
        self.successResultOf(connector.close())
        self.failureResultOf(done, NotConnected)
        self.assertEqual((connector.state, self.clock.getDelayedCalls()), (ConnectorState.IDLE, []))


class TokenTests(ConnectorCase):
    """Where the token comes from."""

    def _tokens_of_two_connects(self, token: TokenSource) -> list[str | None]:
        done = self.make(token).connect()
        self.node.end.welcome()
        self.successResultOf(done)
        self.node.end.receiver.link_lost(None, "broken")
        self.clock.advance(1.0)
        return [end.credentials.token for end in self.node.ends]

    def test_fixed(self) -> None:
        """A string is used at each connect."""
        self.assertEqual(self._tokens_of_two_connects("jwt"), ["jwt", "jwt"])

    def test_fresh(self) -> None:
        """A function is asked at each connect."""
        tokens = iter(["one", "two"])
        self.assertEqual(self._tokens_of_two_connects(lambda: next(tokens)), ["one", "two"])

    def test_coroutine(self) -> None:
        """So is a coroutine function."""
        tokens = iter(["one", "two"])

        async def fetch() -> str:
            return await succeed(next(tokens))

        self.assertEqual(self._tokens_of_two_connects(fetch), ["one", "two"])

    def test_token_that_never_comes(self) -> None:
        """A token function that hangs does not hang the client."""
        done = self.make(Deferred, connect_timeout_seconds=3.0).connect()
        self.clock.advance(3.0)
        self.failureResultOf(done, ConnectFailed)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_failing(self) -> None:
        """A token that cannot be had is a failed connect."""

        def broken() -> str:
            raise OSError("no such file")

        error = self.failureResultOf(self.make(broken).connect(), ConnectFailed).value
        self.assertIn("no such file", str(error))


class ReconnectTests(ConnectorCase):
    """After a break."""

    def test_comes_back_and_resumes(self) -> None:
        """After a break the client comes back by itself, to the same session."""
        self.online()
        self.node.end.receiver.link_lost(None, "broken")
        self.assertEqual(self.events, [Disconnected(None, "broken", True)])
        self.clock.advance(0.5)
        self.assertEqual(self.node.end.credentials.resume_sid, SID)
        self.node.end.welcome(resumed=True, recovered=True)
        self.assertEqual(self.events[1:], [Connected("ann", "node-1", SID, True, True)])

    def test_says_what_it_received(self) -> None:
        """Whoever opens the next connection is told what was received in the session."""
        self.online()
        self.node.end.push(2, 1)
        self.node.end.push(2, 1)
        self.node.end.receiver.link_lost(None, "broken")
        self.clock.advance(0.5)
        self.assertEqual(self.node.end.credentials.received, 2)

    def test_delays_grow_and_begin_anew(self) -> None:
        """Tries come after longer and longer delays up to the cap; a success begins anew."""
        self.online(retry_base_seconds=1.0, retry_cap_seconds=4.0)
        self.node.end.receiver.link_lost(None, "broken")
        self.node.failure = OSError("nobody there")
        delays = []
        for _ in range(5):
            [call] = self.clock.getDelayedCalls()
            delays.append(call.getTime() - self.clock.seconds())
            if len(delays) == 5:
                self.node.failure = None
            self.clock.advance(delays[-1])
        self.assertEqual(delays, [1.0, 2.0, 4.0, 4.0, 4.0])
        self.node.end.welcome()
        self.clock.advance(5.0)
        self.node.end.receiver.link_lost(None, "broken")
        self.clock.advance(1.0)
        self.assertEqual(len(self.node.ends), 3)

    def test_flapping_node(self) -> None:
        """A node that takes the client and drops it at once is tried less and less often."""
        self.online(retry_base_seconds=1.0, retry_cap_seconds=60.0)
        delays = []
        for _ in range(4):
            self.node.end.goodbye(4003, "internal")
            [call] = self.clock.getDelayedCalls()
            delays.append(call.getTime() - self.clock.seconds())
            self.clock.advance(delays[-1])
            self.node.end.welcome()
        self.assertEqual(delays, [1.0, 2.0, 4.0, 8.0])

    def test_stay_away(self) -> None:
        """GOODBYE 4500 to 4999 ends the client."""
        connector = self.online()
        self.node.end.goodbye(4500, "replaced")
        self.assertEqual(self.events, [Disconnected(4500, "replaced", False)])
        self.assertEqual((connector.state, self.clock.getDelayedCalls()), (ConnectorState.IDLE, []))
        self.assertTrue(self.node.end.is_closed)

    def test_come_back(self) -> None:
        """GOODBYE 4000 to 4499 brings the client back."""
        self.online()
        self.node.end.goodbye(4000, "draining")
        self.clock.advance(1.0)
        self.assertEqual(len(self.node.ends), 2)

    def test_refused_after_a_break(self) -> None:
        """When the node does not take the user back the program is told that nothing more comes."""
        connector = self.online()
        self.node.end.receiver.link_lost(None, "broken")
        self.clock.advance(1.0)
        self.node.end.goodbye(4501, "sign-in refused")
        self.assertEqual(self.events[1:], [Disconnected(4501, "4501 sign-in refused", False)])
        self.assertEqual(connector.state, ConnectorState.IDLE)

    def test_without_reconnect(self) -> None:
        """A client that is not to come back stays where it is."""
        connector = self.online(reconnect=False)
        self.node.end.receiver.link_lost(None, "broken")
        self.assertEqual(self.events, [Disconnected(None, "broken", False)])
        self.assertEqual((connector.state, self.clock.getDelayedCalls()), (ConnectorState.IDLE, []))

    def test_connect_while_waiting(self) -> None:
        """Whoever asks during a break waits for the return."""
        connector = self.online()
        self.node.end.receiver.link_lost(None, "broken")
        done = connector.connect()
        self.assertNoResult(done)
        self.clock.advance(1.0)
        self.node.end.welcome()
        self.successResultOf(done)

    def test_close_while_waiting(self) -> None:
        """Closing during a break means no return, and the program is told so once."""
        connector = self.online()
        self.node.end.receiver.link_lost(None, "broken")
        self.events.clear()
        self.successResultOf(connector.close())
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.events, [Disconnected(None, "closed by this program", False)])
        self.successResultOf(connector.close())
        self.assertEqual(len(self.events), 1)

    def test_close_while_coming_back(self) -> None:
        """So does closing while the client tries."""
        connector = self.online()
        self.node.end.receiver.link_lost(None, "broken")
        self.clock.advance(0.5)
        self.assertEqual((connector.state, len(self.node.ends)), (ConnectorState.CONNECTING, 2))
        self.events.clear()
        self.successResultOf(connector.close())
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.events, [Disconnected(None, "closed by this program", False)])

    def test_close_when_a_request_breaks(self) -> None:
        """A program that closes because a request broke with its connection is promised no return."""
        connector = self.online()
        connector.request(2, 7, b"", True, None).addErrback(lambda _: connector.close())
        self.node.end.receiver.link_lost(None, "broken")
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.events, [Disconnected(None, "broken", False)])

    def test_dead_node(self) -> None:
        """A node that went silent without a word is left, at the latest after 2.5 heartbeats."""
        self.online()
        first = self.node.end
        self.clock.pump([1.0] * 63)
        self.assertEqual(len(first.of_command(CORE_VER, CoreCommand.PING)), 1)
        self.assertTrue(first.is_aborted)
        self.assertEqual(self.events, [Disconnected(None, "nothing was heard for 63.0 seconds", True)])
        self.clock.advance(1.0)
        self.assertEqual(len(self.node.ends), 2)

    def test_old_link_is_not_heard(self) -> None:
        """What a link says after its end touches the next one in no way."""
        self.online()
        first = self.node.end
        first.receiver.link_lost(None, "broken")
        self.clock.advance(1.0)
        self.node.end.welcome()
        self.events.clear()
        first.push(2, 1, b"ghost")
        first.receiver.link_lost(None, "again")
        first.receiver.writing_paused()
        self.assertEqual(self.events, [])


class RequestTests(ConnectorCase):
    """Requests."""

    def test_answer(self) -> None:
        """A request fires with the payload of its answer."""
        answer = self.online().request(2, 7, b"question", True, None)
        [frame] = self.node.end.of_command(2, 7)
        self.node.end.answer(frame, b"answer")
        self.assertEqual(self.successResultOf(answer), b"answer")

    def test_timeout(self) -> None:
        """A request that nobody answers fails in time; each may have its own."""
        connector = self.online(request_timeout_seconds=5.0)
        slow, fast = connector.request(2, 7, b"", True, None), connector.request(2, 7, b"", True, 1.0)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.clock.advance(1.0)
        self.failureResultOf(fast, TimedOut)
        self.assertNoResult(slow)
        self.clock.advance(4.0)
        self.failureResultOf(slow, TimedOut)

    def test_cancelled_by_a_break(self) -> None:
        """Who gives up one request when another one breaks harms neither the rest nor the return."""
        connector = self.online()
        first, second, third = (connector.request(2, 7, b"", True, None) for _ in range(3))
        second.addErrback(lambda _: None)
        first.addErrback(lambda _: second.cancel())
        self.node.end.receiver.link_lost(None, "broken")
        self.failureResultOf(third, ConnectionLost)
        self.assertEqual(self.events, [Disconnected(None, "broken", True)])
        self.clock.advance(1.0)
        self.assertEqual(len(self.node.ends), 2)

    def test_race(self) -> None:
        """Of two answers that come in one piece the first may cancel the second; what follows is told."""
        connector = self.online()
        won = race([connector.request(2, 7, b"", True, None) for _ in range(2)])
        frames = self.node.end.of_command(2, 7)
        answers = [encode_frame(2, Status.OK, 7, frame.request_id, b"x") for frame in frames]
        self.node.end.say(b"".join(answers) + encode_push(2, 1, b"behind"))
        self.assertEqual(self.successResultOf(won), (0, b"x"))
        self.assertEqual(self.events, [PushReceived(2, 1, b"behind")])

    def test_break(self) -> None:
        """A break fails requests with a retryable error, and is not an error that nobody looked at."""
        answer = self.online().request(2, 7, b"", True, None)
        self.node.end.receiver.link_lost(None, "broken")
        self.failureResultOf(answer, ConnectionLost)

    def test_not_connected(self) -> None:
        """Without a connection a request fails at once."""
        self.failureResultOf(self.make().request(2, 7, b"", True, None), NotConnected)

    def test_cancel(self) -> None:
        """Cancelling a request stops the waiting; its late answer does no harm."""
        connector = self.online()
        answer = connector.request(2, 7, b"", True, None)
        answer.addErrback(lambda _: None)
        answer.cancel()
        [frame] = self.node.end.of_command(2, 7)
        self.node.end.answer(frame, b"late")
        self.assertEqual(connector.state, ConnectorState.ONLINE)

    def test_request_from_a_callback(self) -> None:
        """A program may ask from within the answer to what it asked before."""
        connector = self.online()
        second: list[Deferred[bytes]] = []
        first = connector.request(2, 7, b"", True, None)
        first.addCallback(lambda _: second.append(connector.request(2, 8, b"", True, None)))
        self.node.end.answer(self.node.end.of_command(2, 7)[0])
        self.node.end.answer(self.node.end.of_command(2, 8)[0], b"2")
        self.assertEqual(self.successResultOf(second[0]), b"2")


class CloseTests(ConnectorCase):
    """Leaving."""

    def test_goodbye(self) -> None:
        """close says GOODBYE, tells the program and closes the link."""
        connector = self.online()
        self.successResultOf(connector.close())
        self.assertEqual(len(self.node.end.of_command(CORE_VER, CoreCommand.GOODBYE)), 1)
        self.assertTrue(self.node.end.is_closed)
        self.assertEqual(self.events, [Disconnected(None, "closed by this program", False)])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_link_that_does_not_close(self) -> None:
        """close waits two seconds at most."""
        connector = self.online()
        self.node.end.close = Deferred  # type: ignore[method-assign]
        closed = connector.close()
        self.clock.advance(1.9)
        self.assertNoResult(closed)
        self.clock.advance(0.2)
        self.successResultOf(closed)

    def test_connect_after_close(self) -> None:
        """A closed client may connect again, to a new session."""
        connector = self.online()
        connector.close()
        connector.connect()
        self.assertEqual(self.node.end.credentials.resume_sid, "")

    def test_close_from_a_callback(self) -> None:
        """A program may close when it hears something; what came with it is still told or dropped without harm."""
        connector = self.online()

        def hear(event: Event) -> None:
            self.events.append(event)
            if isinstance(event, PushReceived):
                connector.close()

        connector._tell = hear
        self.node.end.push(2, 1)
        self.assertEqual(self.events, [PushReceived(2, 1, b""), Disconnected(None, "closed by this program", False)])


class MoveTests(ConnectorCase):
    """Another local address."""

    def test_rebind(self) -> None:
        """The connection is asked to move; without one there is nothing to be done."""
        connector = self.make()
        self.assertFalse(connector.rebind())
        connector.connect()
        self.node.end.welcome()
        self.assertTrue(connector.rebind())
        self.assertEqual(self.node.end.moves, 1)

    def test_peer_socket(self) -> None:
        """Only a connection by UDP has a socket for peers."""
        connector = self.make()
        self.assertIsNone(connector.peer_socket())
        connector.connect()
        self.assertIsNone(connector.peer_socket())
        machine = ReliabilityMachine(True, 1)
        codec = PacketCodec(bytes(16), bytes(32), TO_NODE)
        link = UdpLink(self.clock, self.node.end.receiver, codec, machine, ("127.0.0.1", 1))
        connector._link = link
        self.assertIs(connector.peer_socket(), link)

    def test_link_that_cannot(self) -> None:
        """A stream cannot move, and is left as it is."""
        connector = self.online()
        connector._link = TcpLink(self.node.end.receiver)
        self.assertFalse(connector.rebind())

    def test_signs_of_life(self) -> None:
        """A link that hears of the node keeps the connection, though the node says nothing."""
        self.online()
        for _ in range(10):
            self.clock.advance(20.0)
            self.node.end.receiver.heard()
        self.assertEqual(self.events, [])
        for _ in range(4):
            self.clock.advance(20.0)
        self.assertIsInstance(self.events[0], Disconnected)

    def test_deaf_to_the_last_link(self) -> None:
        """What a connection says that was given up is passed over."""
        connector = self.online()
        receiver = self.node.end.receiver
        connector.close()
        self.events.clear()
        receiver.heard()
        receiver.data_received(b"late", False)
        self.assertEqual(self.events, [])


class BackPressureTests(ConnectorCase):
    """A node that does not read."""

    def test_bound(self) -> None:
        """What waits to be sent is bounded; then sending fails and nothing more piles up."""
        connector = self.online(max_unsent_bytes=1000)
        self.node.end.receiver.writing_paused()
        taken = 0
        while taken < 100:
            try:
                connector.send(2, 1, bytes(88), True)
            except UnsentFull:
                break
            taken += 1
        self.assertEqual(taken, 10)
        self.failureResultOf(connector.request(2, 1, bytes(88), True, None), UnsentFull)

    def test_drained(self) -> None:
        """when_drained fires when the node reads on, and sending works again."""
        connector = self.online(max_unsent_bytes=1000)
        self.successResultOf(connector.when_drained())
        self.node.end.receiver.writing_paused()
        drained = connector.when_drained()
        self.assertNoResult(drained)
        self.node.end.receiver.writing_resumed()
        self.successResultOf(drained)
        connector.send(2, 1, bytes(2000), True)

    def test_node_that_asks_and_does_not_read(self) -> None:
        """A node that sends PING after PING and reads no answer cannot fill the memory: it is left."""
        self.online(max_unsent_bytes=1000)
        end = self.node.end
        end.receiver.writing_paused()
        for _ in range(200):
            end.push(0, 2, bytes(64))
        self.assertTrue(end.is_aborted)
        self.assertEqual(self.events, [Disconnected(None, "the node does not read", True)])
        self.assertTrue(sum(len(frame.payload) for frame in end.frames) < 3000)

    def test_break_while_draining(self) -> None:
        """A break ends the waiting."""
        connector = self.online()
        self.node.end.receiver.writing_paused()
        drained = connector.when_drained()
        self.node.end.receiver.link_lost(None, "broken")
        self.failureResultOf(drained, NotConnected)
        self.failureResultOf(connector.when_drained(), NotConnected)
