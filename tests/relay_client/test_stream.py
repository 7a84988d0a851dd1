"""Tests of `meshrelay.relay_client.stream`."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.relay.errors import RelayError
from meshrelay.relay_client.errors import StreamBroken
from meshrelay.relay_client.stream import PACKET_BYTES, RelayStream
from tests.relay_client.memory_relay import MemoryRelays


class Owner:
    """Notes what a stream tells."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.told: list[str | RelayError | None] = []

    def data_received(self, data: bytes) -> None:
        self.data += data

    def peer_finished(self) -> None:
        self.told.append("finished")

    def drained(self) -> None:
        self.told.append("drained")

    def stream_ended(self, error: RelayError | None) -> None:
        self.told.append(error)


class RelayStreamTests(SynchronousTestCase):
    """A stream between alice, who begins, and bob."""

    def setUp(self) -> None:
        self.relays = MemoryRelays()
        self.relays.add_server()
        self.conns = self.relays.pair()
        self.alice_owner, self.bob_owner = Owner(), Owner()
        clock = self.relays.clock
        self.alice = RelayStream(clock, self.conns[0], True, 1, self.alice_owner)
        self.bob = RelayStream(clock, self.conns[1], False, 2**32 - 5, self.bob_owner)

    def start(self) -> None:
        """Begin both."""
        self.alice.start()
        self.bob.start()
        self.relays.advance(0.5)

    def test_both_ways(self) -> None:
        """Bytes arrive whole and in order, both ways; both ends see the other's end, and then that it is over."""
        self.start()
        data = bytes(range(256)) * 400
        self.assertTrue(self.alice.write(data))
        self.assertTrue(self.bob.write(b"back"))
        self.alice.finish()
        self.relays.advance(3)
        self.assertEqual(bytes(self.bob_owner.data), data)
        self.assertEqual((bytes(self.alice_owner.data), self.bob_owner.told), (b"back", ["finished"]))
        self.bob.finish()
        self.relays.advance(15)
        self.assertEqual(self.alice_owner.told, ["finished", None])
        self.assertEqual(self.bob_owner.told, ["finished", None])
        self.assertEqual([conn.is_closed for conn in self.conns], [True, True])

    def test_packets(self) -> None:
        """No message of the relay is longer than is promised."""
        self.start()
        self.alice.write(bytes(20000))
        self.relays.advance(1)
        longest = max(len(message) for message in self.relays.links[0].sent)
        self.assertEqual(longest, 38 + PACKET_BYTES)

    def test_other_begins_later(self) -> None:
        """The peer may begin later, and what was written before arrives."""
        self.alice.start()
        self.alice.write(b"early")
        self.relays.advance(4)
        self.bob.start()
        self.relays.advance(10)
        self.assertEqual(bytes(self.bob_owner.data), b"early")

    def test_losses(self) -> None:
        """What the relay loses is sent again."""
        self.start()
        self.relays.links[1].is_mute = True
        self.alice.write(bytes(5000))
        self.relays.advance(0.1)
        self.relays.links[1].is_mute = False
        self.relays.advance(5)
        self.assertEqual(len(self.bob_owner.data), 5000)

    def test_slow_reader(self) -> None:
        """A peer that does not read slows the writer down, and loses nothing."""
        self.start()
        self.bob.pause_reading()
        written, has_room = 0, True
        for _ in range(60):
            if has_room or "drained" in self.alice_owner.told:
                self.alice_owner.told.clear()
                has_room = self.alice.write(bytes(60000))
                written += 60000
            self.relays.advance(0.25)
        self.assertEqual((self.bob_owner.data, has_room), (bytearray(), False))
        self.assertLess(written, 2_200_000)
        self.bob.resume_reading()
        self.relays.advance(15)
        self.assertEqual((len(self.bob_owner.data), self.alice_owner.told), (written, ["drained"]))

    def test_heedless_writer(self) -> None:
        """Who writes on without heeding has the stream broken, at a bound."""
        self.start()
        for _ in range(40):
            self.alice.write(bytes(60000))
        [error] = self.alice_owner.told
        self.assertIsInstance(error, StreamBroken)

    def test_peer_goes(self) -> None:
        """When the peer goes before the end the stream is broken."""
        self.start()
        self.relays.links[1].cut()
        self.relays.settle()
        [error] = self.alice_owner.told
        self.assertIsInstance(error, StreamBroken)

    def test_peer_goes_before_all_is_read(self) -> None:
        """What has arrived is read to its end, also when the peer is gone by then."""
        self.start()
        self.bob.finish()
        self.bob.pause_reading()
        self.alice.write(bytes(100_000))
        self.alice.finish()
        self.relays.advance(5)
        self.relays.links[0].cut()
        self.relays.advance(1)
        self.assertEqual((len(self.bob_owner.data), self.bob_owner.told), (0, []))
        self.bob.resume_reading()
        self.assertEqual((len(self.bob_owner.data), self.bob_owner.told), (100_000, ["finished", None]))

    def test_silent_peer(self) -> None:
        """A peer that never begins is given up."""
        self.alice.start()
        for _ in range(1200):
            self.relays.advance(1)
            receiver = self.relays.links[0].receiver
            assert receiver is not None
            receiver.message_received(b"\x01\x05")
            if self.alice_owner.told:
                break
        [error] = self.alice_owner.told
        self.assertIsInstance(error, StreamBroken)

    def test_garbage(self) -> None:
        """What is no packet of a stream is passed over."""
        self.start()
        for garbage in (b"", b"\x00", b"\xffxyz", b"\x03", b"\x07\x01", bytes(100)):
            self.conns[0].write_nowait(garbage)
        self.alice.write(b"fine")
        self.relays.advance(1)
        self.assertEqual((bytes(self.bob_owner.data), self.bob_owner.told), (b"fine", []))

    def test_abort(self) -> None:
        """Aborting ends it on this side, once, and leaves no timer of it."""
        self.start()
        self.alice.abort()
        self.alice.abort()
        self.alice.write(b"too late")
        self.assertEqual(len(self.alice_owner.told), 1)
        self.assertTrue(self.conns[0].is_closed)
