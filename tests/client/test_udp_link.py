"""Tests of `meshrelay.client.udp_link`: against the node's end of the reliability machine, in memory."""

from __future__ import annotations

from errno import ENETUNREACH

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.client.options import ClientOptions
from meshrelay.client.udp import make_udp_link
from meshrelay.client.udp_link import MAX_MESSAGE_BYTES, UdpLink, reliability_options
from meshrelay.machine.reliability import MessageReceived, PeerFinished, ReliabilityOptions, State
from meshrelay.wire.commands import encode_goodbye
from meshrelay.wire.datagram import PacketKind
from meshrelay.wire.frame import encode_frame, encode_push
from tests.client.memory_udp import ENDPOINT, MemoryUdpReactor, UdpNodeEnd
from tests.client.test_links import RecordingReceiver


def _frame(payload: bytes, reliable: bool = True) -> bytes:
    return encode_frame(2, reliable, 1, 7, payload)


class UdpLinkCase(SynchronousTestCase):
    """A link and the node's end."""

    def setUp(self) -> None:
        self.reactor = MemoryUdpReactor()
        self.receiver = RecordingReceiver()
        self.node = UdpNodeEnd(self.reactor)
        self.link = self.make()
        self.link.open()

    def make(self, max_unsent_bytes: int = 1048576) -> UdpLink:
        """A link that is not open yet."""
        options = ClientOptions(uniform=lambda low, high: high, max_unsent_bytes=max_unsent_bytes)
        return make_udp_link(self.reactor, self.receiver, ENDPOINT, "127.0.0.1", options)

    def online(self) -> None:
        """Do the SYN exchange."""
        self.node.exchange()
        self.receiver.told.clear()
        self.node.kinds.clear()
        self.node.events.clear()


class ShareTests(UdpLinkCase):
    """A socket for peers as well."""

    def test_share(self) -> None:
        """The link goes on from a new socket, which the node is shown at once, and peers are spoken to by it."""
        self.online()
        heard: list[tuple[bytes, tuple[str, int]]] = []
        left: list[object] = []

        class Ears:
            def datagram_received(self, datagram: bytes, place: tuple[str, int]) -> None:
                heard.append((datagram, place))

            def socket_left(self, port: object) -> None:
                left.append(port)

        self.assertTrue(self.link.share(Ears()))
        self.assertEqual(len(self.reactor.port.packets), 1)
        self.node.exchange()
        self.link.send_to(b"hi", ("203.0.113.5", 7000))
        self.reactor.port.protocol.datagramReceived(b"ho", ("203.0.113.5", 7000))
        self.assertEqual(self.reactor.port.packets, [b"hi"])
        self.assertEqual(heard, [(b"ho", ("203.0.113.5", 7000))])
        self.assertEqual(self.link.node_place(), ("127.0.0.1", 7100))
        self.assertEqual(self.link.local_port(), self.reactor.port.number)
        self.link.abort()
        self.assertEqual(left, [self.reactor.port])


class OpenTests(UdpLinkCase):
    """The SYN exchange."""

    def test_repeated(self) -> None:
        """SYN is the first packet, and repeated until the node answers."""
        self.node.is_deaf = True
        self.node.exchange(0.9)
        self.node.is_deaf = False
        self.node.exchange(0.5)
        self.assertEqual(self.node.kinds[:1], [PacketKind.SYN])
        self.assertEqual(self.node.machine.state, State.OPEN)

    def test_written_before_the_answer(self) -> None:
        """What is written before the node has answered arrives after it."""
        self.link.write([_frame(b"early")])
        self.node.exchange()
        self.assertEqual(self.node.messages, _frame(b"early"))

    def test_no_way(self) -> None:
        """Without a way to the node opening fails and leaves no socket open."""
        self.link.abort()
        self.reactor.connect_failure = OSError(ENETUNREACH, "no way")
        self.assertRaises(OSError, self.make().open)
        self.assertEqual([port.is_open for port in self.reactor.ports], [False, False])
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_nobody_answers(self) -> None:
        """A node that never answers SYN is given up in the end."""
        self.node.is_deaf = True
        for _ in range(600):
            self.node.exchange(1.0, 0.5)
        self.assertEqual([told[0] for told in self.receiver.told], [None])
        self.assertFalse(self.reactor.port.is_open)


class WriteTests(UdpLinkCase):
    """Frames to the node."""

    def test_ways(self) -> None:
        """Reliable frames go by DAT, others by DATA unless no datagram holds them; each keeps its order."""
        self.online()
        large = _frame(bytes(60000), reliable=False)
        self.link.write([_frame(b"1"), _frame(b"2", False), large, _frame(b"3", False), _frame(b"4")])
        self.node.exchange(0.5)
        self.assertEqual(self.node.messages, _frame(b"1") + large + _frame(b"4"))
        self.assertEqual(self.node.data, [_frame(b"2", False) + _frame(b"3", False)])

    def test_one_turn(self) -> None:
        """What is written in one turn shares packets, and no datagram is over 1,400 bytes."""
        self.online()
        for _ in range(3):
            self.link.write([_frame(bytes(200)), _frame(bytes(200), False)])
        self.link.write([_frame(bytes(1000)), _frame(bytes(1300), False)])
        self.assertEqual(self.reactor.port.packets, [])
        self.reactor.advance(0)
        self.assertTrue(all(len(packet) <= 1400 for packet in self.reactor.port.packets))
        self.node.exchange()
        self.assertEqual(self.node.kinds.count(PacketKind.DAT), 2)
        self.assertEqual(self.node.kinds.count(PacketKind.DATA), 2)

    def test_lost_packets(self) -> None:
        """What was lost on the way is sent again, and arrives once and in order."""
        self.online()
        frames = [_frame(str(number).encode() * 100) for number in range(100)]
        self.node.is_deaf = True
        self.link.write(frames[:50])
        self.node.exchange(0.03)
        self.node.is_deaf = False
        self.link.write(frames[50:])
        self.node.exchange(1.0)
        self.assertEqual(self.node.messages, b"".join(frames))

    def test_largest(self) -> None:
        """A message of the largest size passes both ways."""
        self.online()
        push = encode_push(2, 1, bytes(65536))
        self.node.machine.send_message(push)
        self.link.write([_frame(bytes(65536))])
        self.node.exchange(0.5)
        self.assertEqual(self.node.messages, _frame(bytes(65536)))
        self.assertEqual([told for told in self.receiver.told if isinstance(told, bytes)], [push])

    def test_back_pressure(self) -> None:
        """The owner is asked to pause when much waits, and to go on when the node has taken most of it."""
        self.online()
        self.node.is_deaf = True
        frames = [_frame(bytes(1000)) for _ in range(200)]
        self.link.write(frames[:20])
        self.assertEqual(self.receiver.told, [])
        self.link.write(frames[20:])
        self.assertEqual(self.receiver.told, ["paused"])
        self.node.exchange(0.5)
        self.assertEqual(self.receiver.told, ["paused"])
        self.node.is_deaf = False
        self.node.exchange(2.0)
        self.assertEqual(self.receiver.told, ["paused", "resumed"])
        self.assertEqual(self.node.messages, b"".join(frames))

    def test_owner_that_does_not_pause(self) -> None:
        """What waits is bounded: an owner that writes on for ever loses the connection, not the memory."""
        self.link.abort()
        self.link = self.make(max_unsent_bytes=1000)
        self.link.open()
        bound = reliability_options(1000).send_buffer_bytes
        for _ in range(bound // 60000 + 1):
            self.link.write([_frame(bytes(60000))])
            self.reactor.advance(0)
        self.assertEqual(self.receiver.told, ["paused", (None, "the node does not read")])
        self.assertFalse(self.reactor.port.is_open)

    def test_silent_node(self) -> None:
        """When nothing is acknowledged any more the connection is lost."""
        self.online()
        self.node.is_deaf = True
        self.link.write([_frame(b"x")])
        for _ in range(200):
            self.node.exchange(1.0, 0.25)
        self.assertEqual([told[0] for told in self.receiver.told], [None])
        self.assertFalse(self.reactor.port.is_open)
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class ReceiveTests(UdpLinkCase):
    """Packets of the node."""

    def test_ways(self) -> None:
        """Frames of DATA packets are told to be such that may be lost, those of DAT are not."""
        self.online()
        self.node.send(PacketKind.DATA, b"may be lost")
        self.node.machine.send_message(b"must arrive")
        self.node.exchange()
        self.assertEqual(self.receiver.told, [b"may be lost", b"must arrive"])
        self.assertEqual(self.receiver.unreliable, [b"may be lost"])

    def test_acknowledgements_are_life(self) -> None:
        """A node that only acknowledges counts as alive."""
        self.online()
        heard = self.receiver.heard_times
        self.link.write([_frame(b"x")])
        self.node.exchange()
        self.assertTrue(self.receiver.heard_times > heard)
        self.assertEqual(self.receiver.told, [])

    def test_replayed(self) -> None:
        """The same packet again is dropped and counted."""
        packet = self.node.codec.seal(PacketKind.DATA, b"frames")
        for _ in range(2):
            self.reactor.port.protocol.datagramReceived(packet, ("127.0.0.1", 7100))
        self.assertEqual(self.receiver.told, [b"frames"])
        self.assertEqual(self.link.dropped["replayed"], 1)

    def test_forged(self) -> None:
        """What does not open is dropped without an answer, and counted."""
        self.online()
        self.reactor.port.packets.clear()
        packet = bytearray(self.node.codec.seal(PacketKind.DATA, b"frames"))
        packet[-1] ^= 1
        for datagram in (bytes(packet), b"", b"short", bytes(1500)):
            self.reactor.port.protocol.datagramReceived(datagram, ("127.0.0.1", 7100))
        self.reactor.advance(1)
        self.assertEqual((self.receiver.told, self.reactor.port.packets), ([], []))
        self.assertEqual(sum(self.link.dropped.values()), 4)

    def test_senseless(self) -> None:
        """Packets that open and make no sense cost only themselves."""
        self.online()
        for kind in (PacketKind.SYN, PacketKind.DAT, PacketKind.ACK, PacketKind.EACK, PacketKind.FIN, PacketKind.PROBE):
            self.node.send(kind, b"\xff")
        self.assertEqual(sum(self.link.dropped.values()), 6)
        self.link.write([_frame(b"still here")])
        self.node.exchange()
        self.assertEqual(self.node.messages, _frame(b"still here"))

    def test_reset(self) -> None:
        """RST ends the connection with the node's reason."""
        self.online()
        self.node.send(PacketKind.RST, encode_goodbye(4500, "replaced"))
        self.assertEqual(self.receiver.told, [(4500, "replaced")])
        self.assertFalse(self.reactor.port.is_open)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_reset_without_a_reason(self) -> None:
        """Even an RST that cannot be read ends it."""
        self.node.send(PacketKind.RST, b"")
        self.assertEqual(self.receiver.told[0][0], None)

    def test_refusals(self) -> None:
        """One "port unreachable" proves nothing; several without a word of the node do."""
        port = self.reactor.port
        port.protocol.connectionRefused()
        port.protocol.connectionRefused()
        self.node.send(PacketKind.DATA, b"alive")
        port.protocol.connectionRefused()
        port.protocol.connectionRefused()
        self.assertEqual(self.receiver.told, [b"alive"])
        port.protocol.connectionRefused()
        self.assertEqual(self.receiver.told[1:], [(None, "connection refused")])

    def test_finished_by_the_node(self) -> None:
        """A node that sends no more without having said why is a broken connection."""
        self.online()
        self.node.machine.finish()
        self.node.exchange()
        self.assertEqual(self.receiver.told, [(None, "the node ended the session")])

    def test_too_large(self) -> None:
        """A message over every limit is the node's fault and ends the connection, and the node is told."""
        options = ReliabilityOptions(max_message_bytes=MAX_MESSAGE_BYTES * 2, send_buffer_bytes=MAX_MESSAGE_BYTES * 2)
        self.node = UdpNodeEnd(self.reactor, options)
        self.online()
        self.node.machine.send_message(bytes(MAX_MESSAGE_BYTES + 1350))
        self.node.exchange(1.0)
        self.assertEqual([told[0] for told in self.receiver.told], [None])
        self.assertEqual(self.node.kinds[-1], PacketKind.RST)


class RebindTests(UdpLinkCase):
    """Another local address."""

    def test_nothing_is_lost(self) -> None:
        """A move in the middle of a stream loses nothing and doubles nothing, either way."""
        self.online()
        frames = [_frame(str(number).encode() * 200) for number in range(100)]
        pushes = [encode_push(2, 1, str(number).encode() * 200) for number in range(100)]
        self.link.write(frames[:60])
        for push in pushes:
            self.node.machine.send_message(push)
        for kind, content in self.node.machine.packets_to_send(self.reactor.seconds()):
            self.node.codec.seal(kind, content)
        self.reactor.advance(0)
        self.assertTrue(self.link.rebind())
        self.node.machine.path_changed()
        self.link.write(frames[60:])
        self.node.exchange(0.5)
        self.assertEqual(self.node.messages, b"".join(frames))
        self.assertEqual(b"".join(self.receiver.told), b"".join(pushes))
        self.assertEqual([port.is_open for port in self.reactor.ports], [False, True])

    def test_prods(self) -> None:
        """From a new socket something is sent at once, and again until the node is heard; a bounded number of times."""
        self.online()
        self.link.rebind()
        self.assertEqual(len(self.reactor.port.packets), 1)
        self.reactor.advance(0.2)
        self.assertEqual(len(self.reactor.port.packets), 2)
        self.node.send(PacketKind.DATA, b"heard")
        for _ in range(10):
            self.reactor.advance(0.2)
        self.assertEqual(len(self.reactor.port.packets), 2)
        self.link.rebind()
        for _ in range(50):
            self.reactor.advance(0.2)
        self.assertEqual(len(self.reactor.port.packets), 10)

    def test_by_itself(self) -> None:
        """A socket that cannot send any more is changed for a new one, once a second at most."""
        self.online()
        self.reactor.advance(5)
        self.reactor.connect_failure = OSError(ENETUNREACH, "no way")
        broken = self.reactor.port
        broken.failure = OSError(ENETUNREACH, "no way")
        self.link.write([_frame(b"on its way")])
        for _ in range(95):
            self.reactor.advance(0.01)
        self.assertEqual((len(self.reactor.ports), self.link.dropped["move"]), (2, 1))
        self.reactor.connect_failure = None
        # The last one is the socket that could not be connected.
        self.reactor.ports.append(self.reactor.ports.pop(0))
        for _ in range(200):
            self.reactor.advance(0.01)
        self.assertEqual(len(self.reactor.ports), 3)
        self.node.exchange()
        self.assertEqual((broken.is_open, self.node.messages), (False, _frame(b"on its way")))

    def test_after_the_end(self) -> None:
        """A link that is over does not move."""
        self.link.abort()
        self.assertFalse(self.link.rebind())
        self.assertEqual(len(self.reactor.ports), 1)


class CloseTests(UdpLinkCase):
    """The end."""

    def test_close(self) -> None:
        """close brings what was written to the node, says that this is all, and fires when the node has it."""
        self.online()
        self.link.write([_frame(b"goodbye")])
        closed = self.link.close()
        self.node.exchange(0.04)
        self.assertEqual(self.node.events, [MessageReceived(_frame(b"goodbye")), PeerFinished()])
        self.node.machine.finish()
        self.node.exchange(0.5)
        self.successResultOf(closed)
        self.assertEqual((self.receiver.told, self.reactor.port.is_open), ([], False))
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_lost_goodbye(self) -> None:
        """What was written last is repeated when it is lost."""
        self.online()
        self.node.is_deaf = True
        self.link.write([_frame(b"goodbye")])
        self.link.close()
        self.node.exchange(0.1)
        self.node.is_deaf = False
        self.node.exchange(0.5)
        self.assertEqual(self.node.messages, _frame(b"goodbye"))

    def test_bounded(self) -> None:
        """A node that does not answer is waited for 1.5 seconds."""
        self.online()
        self.node.is_deaf = True
        self.link.write([_frame(b"goodbye")])
        closed = self.link.close()
        self.node.exchange(1.4)
        self.assertNoResult(closed)
        self.node.exchange(0.2)
        self.successResultOf(closed)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_deaf_afterwards(self) -> None:
        """After close nothing is told and nothing can be written, though the node may still send."""
        self.online()
        self.link.close()
        self.node.machine.send_message(b"late")
        self.node.send(PacketKind.DATA, b"late")
        self.link.write([_frame(b"late")])
        self.node.exchange(0.3)
        self.assertEqual((self.receiver.told, self.node.messages), ([], b""))

    def test_reset_ends_the_waiting(self) -> None:
        """An RST while it closes is the end of it."""
        self.online()
        closed = self.link.close()
        self.assertIs(self.link.close(), closed)
        self.node.send(PacketKind.RST, encode_goodbye(1000, ""))
        self.successResultOf(closed)
        self.assertEqual((self.receiver.told, self.reactor.getDelayedCalls()), ([], []))

    def test_cancelled(self) -> None:
        """A close that takes too long can be cut short."""
        self.online()
        closed = self.link.close()
        closed.addErrback(lambda _: None)
        closed.cancel()
        self.assertEqual((self.reactor.port.is_open, self.reactor.getDelayedCalls()), (False, []))

    def test_cancelled_at_the_last_moment(self) -> None:
        """Patience may end while the socket is already being closed."""
        self.online()
        closed = self.link.close()
        errors: list[object] = []
        closed.addErrback(errors.append)
        self.reactor.port.closing = Deferred()
        self.node.send(PacketKind.RST, encode_goodbye(1000, ""))
        self.assertNoResult(closed)
        closed.cancel()
        self.reactor.port.closing.callback(None)
        self.assertEqual(len(errors), 1)

    def test_before_the_answer(self) -> None:
        """Before the node has answered there is nothing to wait for."""
        self.successResultOf(self.link.close())
        self.successResultOf(self.link.close())
        self.assertEqual((self.reactor.port.is_open, self.reactor.getDelayedCalls()), (False, []))

    def test_abort(self) -> None:
        """abort sends nothing more and tells nothing more."""
        self.online()
        self.reactor.port.packets.clear()
        self.link.write([_frame(b"x")])
        self.link.abort()
        self.reactor.advance(1)
        self.node.send(PacketKind.DATA, b"late")
        self.assertEqual((self.reactor.port.packets, self.receiver.told), ([], []))
        self.assertEqual(self.reactor.getDelayedCalls(), [])
