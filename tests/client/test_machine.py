"""Tests of `meshrelay.client.machine`."""

from __future__ import annotations

import json
import random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.client.errors import ConnectionLost, NotConnected, TooManyPending
from meshrelay.client.events import Connected, Disconnected, GroupMessageReceived, PushReceived
from meshrelay.client.identity import Identity, LinkTraits
from meshrelay.client.machine import MAX_PUSH_BYTES, ClientMachine, Output, SignInFailed, State
from meshrelay.client.requests import HELLO_ID, PROBE_ID, Settled
from meshrelay.errors import GroupNotFound, MessageTooLarge, TimedOut
from meshrelay.model import Status
from meshrelay.wire.commands import encode_error, encode_goodbye, encode_pushed_message
from meshrelay.wire.frame import Frame, FrameDecoder, encode_frame, encode_push
from tests.client.node_end import SID, welcome_payload

GID = "g" * 52


def _machine(**changes: Any) -> ClientMachine[str]:
    return ClientMachine(Identity(**{"user": "ann", "client_name": "test/1", **changes}), 4)


def _sent(machine: ClientMachine[str], now: float = 0.0) -> list[Frame]:
    return list(FrameDecoder(1 << 20).frames(b"".join(machine.data_to_send(now))))


def _hello(machine: ClientMachine[str]) -> Any:
    [frame] = _sent(machine)
    return json.loads(frame.payload)


def _welcome(**changes: Any) -> bytes:
    return encode_frame(0, 1, 1, HELLO_ID, welcome_payload(**changes))


def _online(machine: ClientMachine[str] | None = None, **changes: Any) -> ClientMachine[str]:
    machine = machine or _machine()
    machine.link_opened(LinkTraits(), None, 0.0)
    machine.data_to_send(0.0)
    machine.receive(_welcome(**changes), 0.0)
    return machine


def _ask(machine: ClientMachine[str], waiter: str = "me", payload: bytes = b"", timeout_seconds: float = 10.0) -> None:
    machine.request(waiter, 1, 113, payload, reliable=True, timeout_seconds=timeout_seconds, now=0.0)


class SignInTests(SynchronousTestCase):
    """HELLO and its answer."""

    def test_hello(self) -> None:
        """HELLO comes first and names the user, the program and that it acknowledges."""
        machine = _machine()
        machine.link_opened(LinkTraits(), "jwt", 0.0)
        self.assertEqual(machine.state, State.SIGNING_IN)
        self.assertEqual(
            _hello(machine), {"protocol": 1, "user": "ann", "token": "jwt", "client": "test/1", "acks": True}
        )

    def test_welcome(self) -> None:
        """The answer makes the client connected."""
        machine = _machine()
        machine.link_opened(LinkTraits(), None, 0.0)
        self.assertEqual(machine.receive(_welcome(), 0.0), [Connected("ann", "node-1", SID, False, False)])
        self.assertEqual(machine.state, State.ONLINE)

    def test_refused_by_an_answer(self) -> None:
        """An error as the answer to HELLO ends the sign-in; the caller's own fault is not tried again."""
        machine = _machine()
        machine.link_opened(LinkTraits(), None, 0.0)
        data = encode_frame(0, Status.BAD, 1, HELLO_ID, encode_error(1, "HELLO: no user"))
        self.assertEqual(machine.receive(data, 0.0), [SignInFailed(None, "HELLO: no user", True, False)])
        self.assertEqual(machine.state, State.OFFLINE)

    def test_node_that_drains(self) -> None:
        """A node that is about to stop is tried again."""
        machine = _machine()
        machine.link_opened(LinkTraits(), None, 0.0)
        data = encode_frame(0, Status.ERROR, 1, HELLO_ID, encode_error(9, "node is draining"))
        self.assertEqual(machine.receive(data, 0.0), [SignInFailed(None, "node is draining", True, True)])

    def test_refused_by_goodbye(self) -> None:
        """GOODBYE before the sign-in says why, and 4500 to 4999 mean stay away."""
        machine = _machine()
        machine.link_opened(LinkTraits(), None, 0.0)
        outputs = machine.receive(encode_push(0, 4, encode_goodbye(4501, "sign-in refused")), 0.0)
        self.assertEqual(outputs, [SignInFailed(4501, "sign-in refused", True, False)])

    def test_no_answer(self) -> None:
        """A node that accepts and then says nothing is given up."""
        machine = _machine()
        machine.link_opened(LinkTraits(sign_in_seconds=3.0), None, 100.0)
        self.assertEqual(machine.next_deadline(), 103.0)
        self.assertEqual(machine.deadline_passed(102.9), [])
        [failed] = machine.deadline_passed(103.0)
        assert isinstance(failed, SignInFailed)
        self.assertFalse(failed.is_refusal)

    def test_nothing_before_sign_in(self) -> None:
        """Requests before the sign-in are refused at once."""
        machine = _machine()
        self.assertRaises(NotConnected, _ask, machine)
        machine.link_opened(LinkTraits(), None, 0.0)
        self.assertRaises(NotConnected, _ask, machine)


class ResumeTests(SynchronousTestCase):
    """Going on after a break."""

    def _again(self, machine: ClientMachine[str]) -> Any:
        machine.link_lost(None, "broken")
        machine.link_opened(LinkTraits(), None, 1.0)
        return _hello(machine)

    def test_resume_names_session_and_count(self) -> None:
        """After a break HELLO names the session and how many pushes were received in it."""
        machine = _online()
        machine.receive(encode_push(2, 1, b"") * 3 + encode_push(0, 2, b"ping"), 0.0)
        hello = self._again(machine)
        self.assertEqual((hello["resume"], hello["received"]), (SID, 3))

    def test_counts_go_on_after_a_resume(self) -> None:
        """A resumed session goes on counting, whether all was recovered or not: the node takes over the count."""
        for recovered in (True, False):
            machine = _online()
            machine.receive(encode_push(2, 1, b"") * 3, 0.0)
            self._again(machine)
            machine.receive(_welcome(resumed=True, recovered=recovered) + encode_push(2, 1, b""), 1.0)
            self.assertEqual(self._again(machine)["received"], 4, recovered)

    def test_new_session_counts_from_zero(self) -> None:
        """When the node has forgotten the session the count begins anew, under the new name."""
        machine = _online()
        machine.receive(encode_push(2, 1, b"") * 3, 0.0)
        self._again(machine)
        machine.receive(_welcome(sid="f" * 32) + encode_push(2, 1, b""), 1.0)
        hello = self._again(machine)
        self.assertEqual((hello["resume"], hello["received"]), ("f" * 32, 1))

    def test_without_resume(self) -> None:
        """A client that does not want it asks for a new session."""
        self.assertNotIn("resume", self._again(_online(_machine(resume=False))))

    def test_without_acks(self) -> None:
        """A client without acknowledgements names no count and sends no ACK."""
        machine = _online(_machine(acks=False))
        machine.receive(encode_push(2, 1, b""), 0.0)
        machine.deadline_passed(5.0)
        self.assertEqual(_sent(machine), [])
        self.assertNotIn("received", self._again(machine))

    def test_acknowledgement_of_before(self) -> None:
        """An ACK that was due before the break is not sent after it: HELLO has told the count."""
        machine = _online()
        machine.receive(encode_push(2, 1, b""), 0.0)
        self._again(machine)
        machine.receive(_welcome(resumed=True, recovered=True), 50.0)
        machine.deadline_passed(50.0)
        self.assertEqual(_sent(machine, 50.0), [])

    def test_hello_is_first(self) -> None:
        """Nothing that was meant for the connection before goes out on the new one."""
        machine = _online()
        machine.leave()
        machine.link_opened(LinkTraits(), None, 1.0)
        self.assertNotIn("resume", _hello(machine))

    def test_stay_away_forgets_the_session(self) -> None:
        """After GOODBYE 4500 to 4999 nothing is resumed: somebody else has the session's place."""
        machine = _online()
        machine.receive(encode_push(0, 4, encode_goodbye(4500, "replaced")), 0.0)
        self.assertEqual(machine.resume_sid, "")

    def test_leaving_forgets_the_session(self) -> None:
        """Who says GOODBYE begins anew next time."""
        machine = _online()
        machine.leave()
        self.assertEqual(machine.resume_sid, "")


class OnlineTests(SynchronousTestCase):
    """What goes to and fro once signed in."""

    def test_request_and_answer(self) -> None:
        """A request goes out with its flag and comes back to its waiter."""
        machine = _online()
        machine.request("me", 7, 8, b"question", reliable=False, timeout_seconds=1.0, now=0.0)
        [frame] = _sent(machine)
        self.assertEqual(frame, Frame(7, 0, 8, frame.request_id, b"question"))
        outputs = machine.receive(encode_frame(7, 1, 8, frame.request_id, b"answer"), 0.1)
        self.assertEqual(outputs, [Settled("me", b"answer", None)])

    def test_refusal(self) -> None:
        """A refused request gets its typed error."""
        machine = _online()
        _ask(machine)
        [frame] = _sent(machine)
        [settled] = machine.receive(encode_frame(1, 4, 113, frame.request_id, encode_error(21, "none")), 0.1)
        assert isinstance(settled, Settled)
        self.assertIsInstance(settled.error, GroupNotFound)

    def test_send_wants_no_answer(self) -> None:
        """What is only told goes out with request ID 0."""
        machine = _online()
        machine.send(1, 113, b"x", reliable=True)
        self.assertEqual(_sent(machine), [Frame(1, 1, 113, 0, b"x")])

    def test_timeout(self) -> None:
        """A request that is not answered fails at its deadline, and the connection lives."""
        machine = _online()
        _ask(machine, timeout_seconds=2.0)
        self.assertEqual(machine.next_deadline(), 2.0)
        [settled] = machine.deadline_passed(2.0)
        assert isinstance(settled, Settled)
        self.assertIsInstance(settled.error, TimedOut)
        self.assertEqual(machine.state, State.ONLINE)

    def test_bound_of_pending(self) -> None:
        """No more requests than the limit wait at one time."""
        machine = _online()
        for number in range(4):
            _ask(machine, str(number))
        self.assertRaises(TooManyPending, _ask, machine)
        self.assertEqual(machine.pending_count, 4)

    def test_too_large(self) -> None:
        """What the node would cut the connection for is refused here."""
        machine = _online(max_payload_bytes=100)
        _ask(machine, payload=bytes(100))
        self.assertRaises(MessageTooLarge, _ask, machine, payload=bytes(101))

    def test_no_such_command(self) -> None:
        """Numbers that fit no frame are the caller's bug, and no request stays behind."""
        machine = _online()
        self.assertRaises(ValueError, machine.send, 256, 1, b"", reliable=True)
        self.assertRaises(ValueError, machine.send, 2, 65536, b"", reliable=True)
        self.assertEqual(machine.pending_count, 0)

    def test_pushes(self) -> None:
        """Pushes become events, in order, however the bytes are cut."""
        message = encode_push(1, 113, encode_pushed_message(GID, "bob", b"hi")) + encode_push(9, 9, b"raw")
        expected = [GroupMessageReceived(GID, "bob", b"hi"), PushReceived(9, 9, b"raw")]
        for cut in range(len(message) + 1):
            machine = _online()
            outputs = machine.receive(message[:cut], 0.0) + machine.receive(message[cut:], 0.0)
            self.assertEqual(outputs, expected, cut)

    def test_ping_is_answered(self) -> None:
        """A PING of the node is answered with its bytes, and is no push to count."""
        machine = _online()
        machine.receive(encode_push(0, 2, b"12345678"), 0.0)
        self.assertEqual(_sent(machine), [Frame(0, 0, 3, 0, b"12345678")])

    def test_ack(self) -> None:
        """While pushes arrive the node is told how many, at least every 5 seconds."""
        machine = _online()
        machine.receive(encode_push(2, 1, b"") * 2, 10.0)
        deadline = machine.next_deadline()
        assert deadline is not None
        self.assertTrue(10.0 < deadline <= 15.0)
        machine.deadline_passed(deadline)
        self.assertEqual(_sent(machine, deadline), [Frame(0, 1, 5, 0, b"\0\0\0\2")])

    def test_forgotten_request(self) -> None:
        """The answer to a request that was given up is passed over."""
        machine = _online()
        _ask(machine)
        [frame] = _sent(machine)
        machine.forget("me")
        self.assertEqual(machine.receive(encode_frame(1, 1, 113, frame.request_id, b""), 0.1), [])


class EndTests(SynchronousTestCase):
    """How a connection ends."""

    def test_goodbye_come_back(self) -> None:
        """4000 to 4499 mean come back."""
        machine = _online()
        outputs = machine.receive(encode_push(0, 4, encode_goodbye(4000, "draining")), 0.0)
        self.assertEqual(outputs, [Disconnected(4000, "draining", True)])

    def test_goodbye_stay_away(self) -> None:
        """4500 to 4999 mean stay away."""
        machine = _online()
        outputs = machine.receive(encode_push(0, 4, encode_goodbye(4504, "kicked")), 0.0)
        self.assertEqual(outputs, [Disconnected(4504, "kicked", False)])

    def test_no_reconnect_wanted(self) -> None:
        """A client that was told not to come back does not promise it."""
        machine = _online(_machine(reconnect=False))
        self.assertEqual(machine.link_lost(None, "broken"), [Disconnected(None, "broken", False)])

    def test_what_follows_goodbye_is_passed_over(self) -> None:
        """Nothing that comes after the end is told."""
        machine = _online()
        data = encode_push(0, 4, encode_goodbye(4000, "draining")) + encode_push(2, 1, b"late")
        self.assertEqual(machine.receive(data, 0.0), [Disconnected(4000, "draining", True)])
        self.assertEqual(machine.receive(encode_push(2, 1, b"later"), 0.0), [])

    def test_break_fails_requests(self) -> None:
        """Requests on their way fail with a retryable error before the program hears of the break."""
        machine = _online()
        _ask(machine)
        settled, event = machine.link_lost(4002, "slow")
        assert isinstance(settled, Settled)
        assert isinstance(settled.error, ConnectionLost)
        self.assertEqual(settled.error.close_code, 4002)
        self.assertEqual(event, Disconnected(4002, "slow", True))

    def test_lost_twice(self) -> None:
        """The end is told once."""
        machine = _online()
        machine.link_lost(None, "broken")
        self.assertEqual(machine.link_lost(None, "broken"), [])

    def test_silence(self) -> None:
        """A node that is silent for 2.5 heartbeats is dead, after it was asked."""
        machine = _online(heartbeat_seconds=10.0)
        self.assertEqual(machine.next_deadline(), 12.5)
        machine.deadline_passed(12.5)
        self.assertEqual([frame.request_id for frame in _sent(machine, 12.5)], [PROBE_ID])
        self.assertEqual(machine.deadline_passed(24.9), [])
        [event] = machine.deadline_passed(25.0)
        self.assertEqual(event, Disconnected(None, "nothing was heard for 25.0 seconds", True))

    def test_answer_to_a_probe(self) -> None:
        """A node that answers the probe is alive."""
        machine = _online(heartbeat_seconds=10.0)
        machine.deadline_passed(12.5)
        machine.receive(encode_frame(0, 1, 2, PROBE_ID, b""), 12.6)
        self.assertEqual(machine.deadline_passed(25.0), [])

    def test_leave(self) -> None:
        """Leaving says GOODBYE, fails what is open and does not come back."""
        machine = _online()
        _ask(machine)
        machine.data_to_send(0.0)
        settled, event = machine.leave()
        assert isinstance(settled, Settled)
        self.assertIsInstance(settled.error, ConnectionLost)
        self.assertEqual(event, Disconnected(None, "closed by this program", False))
        self.assertEqual(_sent(machine), [Frame(0, 1, 4, 0, b"")])

    def test_leave_offline(self) -> None:
        """Leaving without a connection does nothing."""
        self.assertEqual(_machine().leave(), [])


class BadNodeTests(SynchronousTestCase):
    """A node that does not follow the protocol costs its connection, nothing else."""

    def _outputs(self, data: bytes) -> list[Output]:
        machine = _online()
        outputs = machine.receive(data, 0.0)
        self.assertEqual(machine.state, State.OFFLINE)
        return outputs

    def test_huge_push(self) -> None:
        """A push over the bound is not read."""
        [event] = self._outputs(encode_push(2, 1, bytes(MAX_PUSH_BYTES + 1))[:12])
        assert isinstance(event, Disconnected)
        self.assertIn("does not follow the protocol", event.text)

    def test_bad_group_push(self) -> None:
        """A group push that cannot be read ends the connection."""
        [event] = self._outputs(encode_push(1, 113, b"short"))
        self.assertIsInstance(event, Disconnected)

    def test_bad_welcome(self) -> None:
        """An answer to HELLO that cannot be read ends the sign-in."""
        machine = _machine()
        machine.link_opened(LinkTraits(), None, 0.0)
        [failed] = machine.receive(encode_frame(0, 1, 1, HELLO_ID, b"{}"), 0.0)
        self.assertIsInstance(failed, SignInFailed)

    def test_push_before_the_welcome(self) -> None:
        """On a stream nothing comes before the answer to HELLO."""
        machine = _machine()
        machine.link_opened(LinkTraits(), None, 0.0)
        [failed] = machine.receive(encode_push(2, 1, b""), 0.0)
        self.assertIsInstance(failed, SignInFailed)

    def test_garbage(self) -> None:
        """No bytes at all make the machine raise."""
        for seed in range(300):
            source = random.Random(seed)
            machine = _online() if seed % 2 else _machine()
            machine.link_opened(LinkTraits(is_datagram=seed % 3 == 0), None, 0.0)
            for _ in range(5):
                head = bytes((source.choice((0, 1, 2)), source.choice((1, 4, 5, 255)), 0, source.randrange(120)))
                tail = source.choice((b"\xff\xff\xff\xfe", b"\xff\xff\xff\xff", b"\0\0\0\1"))
                body = source.randbytes(source.randrange(80))
                machine.receive(head + tail + len(body).to_bytes(4, "big") + body, 0.0)
                machine.receive(source.randbytes(source.randrange(30)), 0.0)


class DatagramTests(SynchronousTestCase):
    """UDP: the client says no HELLO, and what comes is whole frames."""

    def setUp(self) -> None:
        self.machine = _machine()
        self.machine.link_opened(LinkTraits(True, 70000, 5.0), None, 0.0)

    def _sign_in(self, **changes: Any) -> list[Output]:
        return self.machine.receive(encode_push(0, 1, welcome_payload(**changes)), 0.1)

    def test_waits_for_hello(self) -> None:
        """The client sends nothing; it is connected when the node has said how the sign-in went."""
        self.assertEqual((_sent(self.machine), self.machine.next_deadline()), ([], 5.0))
        self.assertEqual(self._sign_in(), [Connected("ann", "node-1", SID, False, False)])
        self.assertEqual(self._sign_in(), [])

    def test_never_told(self) -> None:
        """Without the node's HELLO the try has failed in the end."""
        self.assertEqual(self.machine.deadline_passed(4.9), [])
        [failed] = self.machine.deadline_passed(5.0)
        self.assertIsInstance(failed, SignInFailed)

    def test_resumed(self) -> None:
        """The node says whether the session goes on and whether anything is missing."""
        self._sign_in()
        self.machine.link_lost(None, "silent")
        self.assertEqual(self.machine.resume_sid, SID)
        self.machine.link_opened(LinkTraits(True, 70000, 5.0), None, 1.0)
        self.assertEqual(self._sign_in(resumed=True, recovered=True), [Connected("ann", "node-1", SID, True, True)])

    def test_early_pushes(self) -> None:
        """Before the node's HELLO a push that may be lost is passed over; one that must arrive breaks the protocol."""
        self.assertEqual(self.machine.receive(encode_push(2, 1, b"early"), 0.1, False), [])
        [failed] = self.machine.receive(encode_push(2, 1, b"early"), 0.1, True)
        self.assertIsInstance(failed, SignInFailed)

    def test_count(self) -> None:
        """Reliable pushes of the session are counted, for a resume; others and those of ver 0 are not."""
        self._sign_in()
        for _ in range(3):
            self.machine.receive(encode_push(2, 1, b""), 0.2, True)
            self.machine.receive(encode_push(2, 1, b""), 0.2, False)
            self.machine.receive(encode_push(0, 2, b""), 0.2, True)
        self.assertEqual(self.machine.received, 3)
        self.machine.link_lost(None, "silent")
        self.machine.link_opened(LinkTraits(True, 70000, 5.0), None, 1.0)
        self._sign_in(resumed=True)
        self.assertEqual(self.machine.received, 3)
        self.machine.link_lost(None, "silent")
        self.machine.link_opened(LinkTraits(True, 70000, 5.0), None, 1.0)
        self._sign_in(resumed=False)
        self.assertEqual(self.machine.received, 0)

    def test_no_acks(self) -> None:
        """There is no ACK on UDP."""
        self._sign_in()
        self.machine.data_to_send(0.1)
        self.machine.receive(encode_push(2, 1, b""), 0.2)
        self.machine.deadline_passed(1.5)
        self.assertEqual(_sent(self.machine), [])

    def test_limit(self) -> None:
        """A frame that the link cannot take is refused, whatever the node says of its limit."""
        self._sign_in(max_payload_bytes=1 << 20)
        self.machine.send(2, 1, bytes(70000 - 12), reliable=False)
        self.assertRaises(MessageTooLarge, self.machine.send, 2, 1, bytes(70000 - 11), reliable=False)

    def test_half_a_frame(self) -> None:
        """A datagram that ends within a frame breaks the protocol."""
        self._sign_in()
        [event] = self.machine.receive(encode_push(2, 1, b"whole")[:-1], 0.2)
        self.assertIsInstance(event, Disconnected)

    def test_ways(self) -> None:
        """PING and PONG go in packets that may be lost, GOODBYE in one that must arrive."""
        self._sign_in()
        self.machine.receive(encode_push(0, 2, b"challenge"), 0.2, False)
        deadline = self.machine.next_deadline()
        assert deadline is not None
        self.machine.deadline_passed(deadline)
        frames = [(frame.cmd, frame.status, frame.payload) for frame in _sent(self.machine)]
        self.assertEqual(frames, [(3, Status.UNRELIABLE, b"challenge"), (2, Status.UNRELIABLE, b"")])
        self.machine.leave()
        self.assertEqual([frame.status for frame in _sent(self.machine)], [Status.OK])

    def test_keeps_itself_alive(self) -> None:
        """A quiet client is heard by the node well within its 10 seconds."""
        self._sign_in()
        self.machine.data_to_send(0.1)
        deadline = self.machine.next_deadline()
        assert deadline is not None
        self.assertTrue(deadline < 4.0)
        self.machine.deadline_passed(deadline)
        self.assertEqual([frame.cmd for frame in _sent(self.machine)], [2])

    def test_heard(self) -> None:
        """A node that only acknowledges is alive."""
        self._sign_in()
        for second in range(1, 30):
            self.machine.heard(float(second))
            self.assertEqual(self.machine.deadline_passed(float(second)), [])
        self.assertEqual(len(self.machine.deadline_passed(40.0)), 1)
