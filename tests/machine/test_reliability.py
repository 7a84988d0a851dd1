from __future__ import annotations

import os
import random
from collections import Counter
from functools import partial
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import LocalProtocolError, PacketRejected, SessionClosed, SlowReceiver
from meshrelay.machine.packets import (
    REJECT_REASONS,
    encode_acknowledgement,
    encode_dat_header,
    encode_fin,
    encode_rst,
    encode_syn,
)
from meshrelay.machine.reliability import (
    _MOVES,
    Closed,
    Connected,
    Event,
    Finished,
    MessageReceived,
    PeerFinished,
    ReliabilityMachine,
    ReliabilityOptions,
    State,
)
from meshrelay.model import CloseReason
from meshrelay.testing.network import Impairment, SimulatedEnd, SimulatedPair
from meshrelay.wire.datagram import PacketKind

NEAR_WRAP = 0xFFFFFFFB
BAD_PATH = Impairment(delay_seconds=0.05, jitter_seconds=0.02, loss=0.05, duplication=0.01, reordering=0.01)
CLEAN_PATH = Impairment(delay_seconds=0.05, jitter_seconds=0.02)


def make_pair(how: Impairment | None = None, seed: int = 0, options: ReliabilityOptions | None = None) -> SimulatedPair:
    """Return a client that is about to connect to its node over 50 ms, or over a path as bad as `how` says."""
    client = ReliabilityMachine(True, NEAR_WRAP, options)
    node = ReliabilityMachine(False, NEAR_WRAP + 2, options)
    pair = SimulatedPair(client, node, how or Impairment(delay_seconds=0.05), seed=seed)
    pair.connect()
    return pair


def open_pair(options: ReliabilityOptions | None = None) -> tuple[ReliabilityMachine, ReliabilityMachine]:
    """Return a client and a node that have exchanged SYNs at the time 0 and 0.1, with nothing left to say."""
    client, node = ReliabilityMachine(True, NEAR_WRAP, options), ReliabilityMachine(False, 7, options)
    client.connect(0.0)
    for sender, receiver, now in ((client, node, 0.0), (node, client, 0.1), (client, node, 0.1)):
        hand_over(sender, receiver, now)
    events(client)
    events(node)
    return client, node


def hand_over(sender: ReliabilityMachine, receiver: ReliabilityMachine, now: float) -> list[PacketKind]:
    """Give what `sender` has to send to `receiver` and return the kinds."""
    packets = sender.packets_to_send(now)
    for kind, content in packets:
        receiver.receive_packet(kind, content, now)
    return [kind for kind, _ in packets]


def kinds(machine: ReliabilityMachine, now: float) -> list[PacketKind]:
    """Return the kinds of what is sent, and lose it."""
    return [kind for kind, _ in machine.packets_to_send(now)]


def events(machine: ReliabilityMachine) -> list[Event]:
    """Return the events so far."""
    got = []
    while (event := machine.next_event()) is not None:
        got.append(event)
    return got


def dat(sequence: int, payload: bytes, piece: int = 0, pieces: int = 1) -> bytes:
    """Return the content of a DAT."""
    return encode_dat_header(sequence, piece, pieces) + payload


def stream_of(end: SimulatedEnd) -> bytes:
    """Return all bytes of all messages that an end has received."""
    return b"".join(event.data for _, event in end.events if isinstance(event, MessageReceived))


class ExchangeTests(SynchronousTestCase):
    def test_syn_exchange(self) -> None:
        """One round trip after the client began both ends are open, and the client's data follow."""
        pair = make_pair()
        pair.client.machine.send_message(b"early")
        pair.run(0.2)
        self.assertAlmostEqual(pair.node.machine.statistics()["srtt"], 0.1)
        self.assertEqual(pair.client.events, [(0.1, Connected())])
        self.assertEqual([event for _, event in pair.node.events], [Connected(), MessageReceived(b"early")])

    def test_syn_is_repeated(self) -> None:
        """A lost SYN, and a lost answer, cost a second each and nothing else."""
        for name, there, back in (("question", (0.0, 0.5), ()), ("answer", (), (0.0, 0.5))):
            there_path = Impairment(delay_seconds=0.05, black_outs=(there,) if there else ())
            back_path = Impairment(delay_seconds=0.05, black_outs=(back,) if back else ())
            client, node = ReliabilityMachine(True, 1), ReliabilityMachine(False, 2)
            pair = SimulatedPair(client, node, there_path, back_path)
            pair.connect()
            pair.run(2.0)
            self.assertEqual(pair.client.events, [(1.1, Connected())], name)
            self.assertEqual(node.state, State.OPEN, name)

    def test_no_node(self) -> None:
        """A SYN that is never answered is repeated ten times, then the session is over as IDLE."""
        pair = make_pair(Impairment(loss=1.0))
        pair.run(1000.0)
        self.assertEqual([event for _, event in pair.client.events], [Closed(4001, CloseReason.IDLE.text)])
        self.assertEqual(pair.client.sent, {PacketKind.SYN: 11, PacketKind.RST: 1})

    def test_data_overtake_the_syn(self) -> None:
        """What the node says first is not lost when it arrives before the node's SYN."""
        client = ReliabilityMachine(True, 1)
        client.connect(0.0)
        client.packets_to_send(0.0)
        client.receive_packet(PacketKind.DAT, dat(9, b"hello"), 0.1)
        client.receive_packet(PacketKind.SYN, encode_syn(9, 100, 1), 0.1)
        self.assertEqual(events(client), [Connected(), MessageReceived(b"hello")])

    def test_messages_both_ways(self) -> None:
        """Small and long messages arrive as they were sent, whole and in order, while both ends speak."""
        pair = make_pair()
        there = [bytes([number]) * size for number, size in enumerate((1, 1350, 1351, 60000, 3, 2700))]
        for message in there:
            pair.client.machine.send_message(message)
            pair.node.machine.send_message(message[::-1])
        pair.run(3.0)
        self.assertEqual(stream_of(pair.node), b"".join(there))
        self.assertEqual(stream_of(pair.client), b"".join(there))
        self.assertEqual(pair.client.machine.unacknowledged(), [])

    def test_limits(self) -> None:
        """A message that is too long, or one too many, is refused to the sender at once."""
        client, _ = open_pair(ReliabilityOptions(send_buffer_bytes=150))
        client.send_message(bytes(100))
        self.assertRaises(SlowReceiver, client.send_message, bytes(51))
        self.assertEqual((client.buffered_bytes, client.pending_bytes), (100, 100))
        client.packets_to_send(0.2)
        self.assertEqual((client.buffered_bytes, client.pending_bytes), (100, 0))

    def test_peer_sends_too_much(self) -> None:
        """A message over the limit ends the session with FRAME_TOO_LARGE instead of filling memory."""
        client, node = open_pair(ReliabilityOptions(max_message_bytes=2000))
        node.receive_packet(PacketKind.DAT, dat(NEAR_WRAP, bytes(1350), 0, 3), 0.2)
        node.receive_packet(PacketKind.DAT, dat(NEAR_WRAP + 1, bytes(1350), 1, 3), 0.2)
        self.assertEqual(events(node), [Closed(4503, CloseReason.FRAME_TOO_LARGE.text)])
        hand_over(node, client, 0.2)
        self.assertEqual(events(client), [Closed(4503, CloseReason.FRAME_TOO_LARGE.text)])

    def test_acknowledgement_rides_along(self) -> None:
        """An acknowledgement that could wait goes out with data at once, otherwise after 20 ms."""
        for is_answering in (True, False):
            client, node = open_pair()
            client.send_message(b"question")
            hand_over(client, node, 0.2)
            if is_answering:
                node.send_message(b"answer")
                self.assertEqual(kinds(node, 0.2), [PacketKind.ACK, PacketKind.DAT])
            else:
                self.assertEqual(kinds(node, 0.2), [])
                self.assertEqual(node.next_deadline(), 0.2 + 0.02)
                self.assertEqual(kinds(node, 0.2 + 0.02), [PacketKind.ACK])

    def test_unread_messages_stop_the_peer(self) -> None:
        """While the application does not read, the peer may send one window; when it reads again nothing was lost."""
        pair = make_pair(options=ReliabilityOptions(receive_window_packets=4))
        pair.node.is_fetching = False
        data = [bytes([number]) * 1350 for number in range(20)]
        for message in data:
            pair.client.machine.send_message(message)
        pair.run(60.0)
        self.assertEqual(pair.node.machine.statistics()["unfetched_packets"], 4)
        self.assertEqual(pair.client.machine.state, State.OPEN)
        self.assertEqual(pair.client.machine.statistics()["cwnd_reductions"], 0)
        pair.node.is_fetching = True
        pair.run(70.0)
        self.assertEqual(stream_of(pair.node), b"".join(data))

    def test_wrap(self) -> None:
        """Nothing happens when the sequence numbers go past 2^32."""
        pair = make_pair(BAD_PATH, seed=3)
        data = [number.to_bytes(2, "big") * 600 for number in range(200)]
        for message in data:
            pair.client.machine.send_message(message)
        pair.run(60.0, lambda: len(stream_of(pair.node)) == 200 * 1200)
        self.assertEqual(stream_of(pair.node), b"".join(data))

    def test_new_address(self) -> None:
        """Told of a new address, the sender repeats what is unanswered at once."""
        client, node = open_pair()
        client.send_message(b"lost on the way")
        client.packets_to_send(0.2)
        client.path_changed()
        self.assertEqual(hand_over(client, node, 0.21), [PacketKind.DAT])
        self.assertEqual(events(node), [MessageReceived(b"lost on the way")])

    def test_names(self) -> None:
        """Everything that happens is counted under a stable name."""
        client, node = open_pair()
        client.send_message(b"x")
        hand_over(client, node, 0.2)
        hand_over(node, client, 0.3)
        for name in ("packets_sent", "resent", "fast_resent", "srtt", "cwnd", "rto", "timeouts", "buffered_bytes"):
            self.assertIn(name, client.statistics())
        self.assertEqual(client.statistics()["packets_sent"], 1)
        self.assertEqual(node.statistics()["packets_received"], 1)

    def test_connect_twice(self) -> None:
        """Beginning twice, or at the node's end, is our own mistake."""
        client = ReliabilityMachine(True, 1)
        client.connect(0.0)
        self.assertRaises(LocalProtocolError, client.connect, 0.0)
        self.assertRaises(LocalProtocolError, ReliabilityMachine(False, 1).connect, 0.0)

    def test_rst_before_the_exchange(self) -> None:
        """A node that refuses answers the SYN with an RST, which ends the client's attempt."""
        client = ReliabilityMachine(True, 1)
        client.connect(0.0)
        client.receive_packet(PacketKind.RST, encode_rst(4500, "replaced"), 0.1)
        self.assertEqual(events(client), [Closed(4500, "replaced")])


class EndTests(SynchronousTestCase):
    def test_both_finish(self) -> None:
        """Both ends finish at the same time and each learns that all was received."""
        pair = make_pair()
        pair.run(0.2)
        for end in (pair.client, pair.node):
            end.machine.send_message(b"last words")
            end.machine.finish()
        pair.run(2.0)
        for end in (pair.client, pair.node):
            self.assertEqual(
                [event for _, event in end.events],
                [Connected(), MessageReceived(b"last words"), PeerFinished(), Finished()],
            )
            self.assertRaises(SessionClosed, end.machine.send_message, b"more")
            self.assertIsNone(end.machine.next_deadline())

    def test_one_end_finishes(self) -> None:
        """An end that finished still receives what the other has to say."""
        pair = make_pair()
        pair.client.machine.finish()
        pair.run(1.0)
        pair.node.machine.send_message(b"not yet")
        pair.run(2.0)
        self.assertEqual(stream_of(pair.client), b"not yet")
        self.assertEqual(pair.node.machine.state, State.OPEN)
        pair.node.machine.finish()
        pair.run(3.0)
        self.assertEqual(pair.client.machine.state, State.FINISHED)

    def test_finish_on_a_bad_path(self) -> None:
        """However many FINs and answers are lost, both ends learn of the end."""
        for seed in range(30):
            pair = make_pair(Impairment(delay_seconds=0.05, jitter_seconds=0.02, loss=0.3), seed)
            pair.client.machine.send_message(b"a")
            pair.client.machine.finish()
            pair.node.machine.finish()
            pair.run(1000.0)
            for end in (pair.client, pair.node):
                self.assertEqual(end.machine.state, State.FINISHED, f"seed {seed}")

    def test_abort(self) -> None:
        """An abort reaches the peer with its code, and queued messages can still be had."""
        client, node = open_pair()
        client.send_message(b"unsent")
        client.abort(CloseReason.KICKED)
        self.assertEqual(hand_over(client, node, 0.2), [PacketKind.RST])
        for machine in (client, node):
            self.assertEqual(events(machine), [Closed(4504, CloseReason.KICKED.text)])
            self.assertIsNone(machine.next_deadline())
        self.assertEqual(client.unacknowledged(), [b"unsent"])

    def test_half_dead_peer(self) -> None:
        """A peer that has not heard of the end is told again each time it speaks; one that caused it is not."""
        client, node = open_pair()
        node.abort(CloseReason.DRAINING)
        self.assertEqual(kinds(node, 0.2), [PacketKind.RST])
        self.assertEqual(kinds(node, 0.3), [])
        error = self.assertRaises(PacketRejected, node.receive_packet, PacketKind.DAT, dat(NEAR_WRAP, b"x"), 0.4)
        self.assertEqual(error.reason, "closed")
        self.assertEqual(hand_over(node, client, 0.4), [PacketKind.RST])
        self.assertRaises(PacketRejected, client.receive_packet, PacketKind.DAT, dat(7, b"x"), 0.4)
        self.assertEqual(kinds(client, 0.5), [])

    def test_dead_peer(self) -> None:
        """A peer that stops answering is given up after ten tries; what it did not get can be sent elsewhere."""
        pair = make_pair(Impairment(delay_seconds=0.05, black_outs=((1.0, 1e9),)))
        pair.run(1.0)
        pair.client.machine.send_message(b"into the void")
        pair.run(100000.0)
        self.assertEqual(pair.client.events[-1][1], Closed(4001, CloseReason.IDLE.text))
        self.assertEqual(pair.client.machine.statistics()["timeouts"], 10)
        self.assertEqual(pair.client.machine.unacknowledged(), [b"into the void"])


class BadInputTests(SynchronousTestCase):
    def machine_in(self, state: State) -> ReliabilityMachine:
        client, node = open_pair()
        if state is State.IDLE:
            return ReliabilityMachine(False, 1)
        if state is State.CONNECTING:
            client = ReliabilityMachine(True, 1)
            client.connect(0.0)
        elif state is State.FINISHED:
            client.finish()
            node.finish()
            for now in (1.0, 2.0, 3.0):
                hand_over(client, node, now)
                hand_over(node, client, now)
        elif state is State.CLOSED:
            client.abort(CloseReason.KICKED)
        return client

    def test_every_state_refuses_the_rest(self) -> None:
        """A packet that has no meaning in a state is refused for a known reason and changes nothing."""
        for state, kind in product(State, PacketKind):
            machine = self.machine_in(state)
            self.assertEqual(machine.state, state)
            if (state, kind) not in _MOVES:
                error = self.assertRaises(PacketRejected, machine.receive_packet, kind, b"", 2.0)
                self.assertIn(error.reason, ("bad_kind", "not_open", "closed"), (state, kind))
                self.assertEqual(machine.state, state)
                self.assertEqual(machine.statistics()[f"rejected_{error.reason}"], 1)

    def test_lies_change_nothing(self) -> None:
        """Contradicting and impossible packets are refused and counted, and the stream goes on."""
        client, node = open_pair()
        lies = [
            (PacketKind.SYN, encode_syn(NEAR_WRAP + 9, 100), "unexpected_syn"),
            (PacketKind.DAT, dat(NEAR_WRAP + 5000, b"x"), "outside_window"),
            (PacketKind.DAT, dat(NEAR_WRAP, b"x", 2, 2), "bad_fragment"),
            (PacketKind.ACK, encode_acknowledgement(8, 9, ())[1], "ack_of_unsent"),
            (PacketKind.EACK, encode_acknowledgement(7, 9, [(9, 8)])[1], "bad_range"),
            (PacketKind.FIN, encode_fin(NEAR_WRAP - 9), "bad_fin"),
            (PacketKind.RST, b"\x0f", "bad_length"),
            (PacketKind.DATA, b"frames", "bad_kind"),
        ]
        for kind, content, reason in lies:
            error = self.assertRaises(PacketRejected, node.receive_packet, kind, content, 0.2)
            self.assertEqual(error.reason, reason)
        client.send_message(b"the truth")
        hand_over(client, node, 0.3)
        self.assertEqual(events(node), [MessageReceived(b"the truth")])
        self.assertEqual(sum(v for k, v in node.statistics().items() if k.startswith("rejected_")), len(lies))

    def test_fragments_that_never_complete(self) -> None:
        """A peer that never sends the missing fragment fills one window and no more."""
        _, node = open_pair(ReliabilityOptions(receive_window_packets=50))
        for round_ in range(3):
            for number in range(1, 500):
                try:
                    node.receive_packet(PacketKind.DAT, dat(NEAR_WRAP + number, bytes(1350), number, 500), 0.2 + round_)
                except PacketRejected as error:
                    self.assertEqual(error.reason, "outside_window")
        self.assertEqual(node.statistics()["held_packets"], 49)

    @settings(max_examples=200, deadline=None, derandomize=True, database=None)
    @given(st.lists(st.tuples(st.sampled_from(PacketKind), st.binary(max_size=30)), max_size=8))
    def test_garbage(self, packets: list[tuple[PacketKind, bytes]]) -> None:
        """Whatever arrives, the machine refuses it for a known reason or goes on, and always knows what to do next."""
        client, node = open_pair()
        node.send_message(bytes(3000))
        node.packets_to_send(0.2)
        for kind, content in packets:
            for machine in (client, node):
                try:
                    machine.receive_packet(kind, content, 0.3)
                except PacketRejected as error:
                    self.assertIn(error.reason, REJECT_REASONS)
                machine.packets_to_send(0.3)
                machine.next_deadline()

    @settings(max_examples=100, deadline=None, derandomize=True, database=None)
    @given(st.lists(st.tuples(st.integers(-3, 12), st.integers(0, 3), st.integers(0, 4)), max_size=30))
    def test_plausible_garbage(self, fragments: list[tuple[int, int, int]]) -> None:
        """Fragments with any numbers near the right ones never break the machine nor come out twice."""
        _, node = open_pair(ReliabilityOptions(receive_window_packets=8))
        for offset, piece, pieces in fragments:
            try:
                node.receive_packet(PacketKind.DAT, dat(NEAR_WRAP + offset, bytes([offset + 3]), piece, pieces), 0.2)
            except PacketRejected as error:
                self.assertIn(error.reason, REJECT_REASONS)
            node.packets_to_send(0.2)
        got = b"".join(event.data for event in events(node) if isinstance(event, MessageReceived))
        self.assertEqual(list(got), list(range(3, 3 + len(got))))


class BadPathTests(SynchronousTestCase):
    def test_seeds(self) -> None:
        """Over every kind of bad path the stream that comes out is the stream that went in, both ways."""
        for seed in range(int(os.environ.get("MESHRELAY_SEEDS", "40"))):
            draw = random.Random(seed)
            how = Impairment(
                delay_seconds=draw.choice((0.0, 0.002, 0.05)),
                jitter_seconds=draw.choice((0.0, 0.001, 0.02)),
                loss=draw.choice((0.0, 0.05, 0.2)),
                duplication=draw.choice((0.0, 0.01, 0.2)),
                reordering=draw.choice((0.0, 0.01, 0.3)),
                rate_bytes=draw.choice((0.0, 0.0, 100000.0)),
            )
            window = draw.choice((3, 64, 1024))
            pair = make_pair(how, seed, ReliabilityOptions(receive_window_packets=window))
            sent: dict[SimulatedEnd, bytes] = {}
            for end in (pair.client, pair.node):
                messages = [draw.randbytes(draw.choice((12, 100, 1350, 5000))) for _ in range(25)]
                for message in messages:
                    pair.at(draw.random(), partial(end.machine.send_message, message))
                sent[end] = b"".join(sorted(messages))
            pair.at(1.0, pair.client.machine.finish)
            pair.at(1.0, pair.node.machine.finish)
            pair.run(1000.0)
            for end, other in ((pair.client, pair.node), (pair.node, pair.client)):
                self.assertEqual(end.machine.state, State.FINISHED, f"seed {seed}: {how}")
                self.assertEqual(Counter(stream_of(end)), Counter(sent[other]), f"seed {seed}: {how}")

    def stream(self, how: Impairment, messages: int, seed: int = 1) -> tuple[SimulatedPair, list[float]]:
        """Send messages of 100 bytes, 1,000 a second, and return their delays; order and number are checked."""
        pair = make_pair(how, seed)
        sent_at: list[float] = []
        delays: list[float] = []

        def received(event: Event, now: float) -> None:
            if isinstance(event, MessageReceived):
                for begin in range(0, len(event.data), 100):
                    self.assertEqual(int.from_bytes(event.data[begin : begin + 4], "big"), len(delays))
                    delays.append(now - sent_at[len(delays)])

        def tick() -> None:
            pair.client.machine.send_message(len(sent_at).to_bytes(4, "big") + bytes(96))
            sent_at.append(pair.now)
            if len(sent_at) < messages:
                pair.at(1.0 + len(sent_at) / 1000, tick)

        pair.node.on_event = received
        pair.at(1.0, tick)
        self.assertTrue(pair.run(1000.0, lambda: len(delays) == messages))
        return pair, sorted(delays)

    def test_latency(self) -> None:
        """At 5 % loss, 50 +- 20 ms, 1 % doubles and 1 % reordering 99 of 100 messages take at most 3 round trips."""
        _, delays = self.stream(BAD_PATH, 5000)
        self.assertLess(delays[int(0.99 * len(delays))], 0.3)

    def test_black_out(self) -> None:
        """Two seconds without any packet delay the stream and lose nothing."""
        how = Impairment(delay_seconds=0.05, jitter_seconds=0.02, loss=0.05, black_outs=((2.0, 4.0),))
        pair, delays = self.stream(how, 3000)
        self.assertLess(delays[-1], 4.0)
        self.assertEqual(pair.client.machine.state, State.OPEN)

    def test_one_packet_in_five_is_lost(self) -> None:
        """At 20 % loss everything still arrives."""
        how = Impairment(delay_seconds=0.05, jitter_seconds=0.02, loss=0.2, duplication=0.01, reordering=0.01)
        self.stream(how, 1000)

    def goodput(self, how: Impairment, megabytes: float) -> float:
        """Return the bytes per second that arrive while the sender's buffer is kept full."""
        pair = make_pair(how, 1)
        size = 1200
        left, received = [int(megabytes * 1e6) // size], [0]
        wanted = left[0] * size

        def is_done() -> bool:
            try:
                while left[0]:
                    pair.client.machine.send_message(bytes(size))
                    left[0] -= 1
            except SlowReceiver:
                pass
            return received[0] == wanted

        def count(event: Event, now: float) -> None:
            received[0] += len(event.data) if isinstance(event, MessageReceived) else 0

        pair.node.on_event = count
        self.assertTrue(pair.run(1000.0, is_done))
        return wanted / pair.now

    def test_goodput(self) -> None:
        """On the bad path a stream keeps at least 60 % of the speed that it has without losses."""
        self.assertGreater(self.goodput(BAD_PATH, 5) / self.goodput(CLEAN_PATH, 5), 0.6)

    def test_slow_line(self) -> None:
        """In front of a slow line with a short queue the line is kept busy and few packets overflow."""
        how = Impairment(delay_seconds=0.05, rate_bytes=250000, queue_bytes=25000)
        self.assertGreater(self.goodput(how, 2), 0.8 * 250000)
