"""Two links over seeded networks and NATs: direct where it can be, relayed where it cannot, nothing lost in between."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import LocalProtocolError, PacketRejected, SessionClosed
from meshrelay.machine.hole_punch import HolePunch, RelayReason
from meshrelay.machine.nat_kind import MappingObserver
from meshrelay.machine.peer_link import (
    MAX_UNFETCHED,
    MAX_UNSENT,
    LinkChanged,
    LinkEnded,
    PeerLink,
    PeerLinkOptions,
    PeerMessage,
)
from meshrelay.machine.peer_path import Path
from meshrelay.model import CloseReason
from meshrelay.testing.nat import Nat, NatKind
from meshrelay.testing.network import Impairment
from meshrelay.testing.peer_network import PeerEnd, PeerNetwork
from meshrelay.wire.addresses import UdpAddress
from meshrelay.wire.datagram import PacketKind
from meshrelay.wire.frame import encode_frame
from meshrelay.wire.link_commands import LinkState
from meshrelay.wire.peer_packet import PeerCodec, Probe, encode_probe
from meshrelay.wire.sync_bytes import SyncBytes, SyncUser

BAD_PATH = Impairment(delay_seconds=0.03, jitter_seconds=0.01, loss=0.05, duplication=0.01, reordering=0.01)
KINDS = ("open", *NatKind, "double")
PEER = UdpAddress("203.0.113.5", 7000)
MEMBERS = ("ann", "bob")
SYNC = SyncBytes(bytes(48), tuple(SyncUser(name, ()) for name in MEMBERS))


def nats(kind: NatKind | str, number: int, seed: int = 0) -> list[Nat]:
    """Return what stands between one end and the internet."""
    outside = f"198.51.100.{number}"
    if kind == "double":
        inner = Nat(NatKind.PORT_RESTRICTED, f"100.64.{number}.2", seed)
        return [inner, Nat(NatKind.PORT_RESTRICTED, outside, seed + 1)]
    return [Nat(kind, outside, seed + 2)] if isinstance(kind, NatKind) else []


def make_network(
    first: NatKind | str = "open", second: NatKind | str = "open", seed: int = 1, **how: object
) -> PeerNetwork:
    """Return a network with both ends started."""
    network = PeerNetwork(nats(first, 1, seed), nats(second, 2, seed + 50), seed=seed, **how)  # type: ignore[arg-type]
    network.start()
    return network


def is_possible(first: NatKind | str, second: NatKind | str) -> bool:
    """Tell whether theory allows a direct path: not with UDP blocked, and not between two symmetric NATs."""
    kinds = [kind for kind in (first, second) if isinstance(kind, NatKind)]
    return NatKind.BLOCKED not in kinds and not (len(kinds) == 2 and all(kind.is_symmetric for kind in kinds))


def frame(number: int, size: int = 4) -> bytes:
    """Return a frame of the application that carries its number."""
    return encode_frame(2, 0, 7, 0, number.to_bytes(4, "big").ljust(size, b"."))


def send_steadily(
    network: PeerNetwork, end: PeerEnd, count: int, begin: float, step: float, reliable: bool = True
) -> None:
    """Let one end send numbered messages from `begin` on."""
    for number in range(count):
        time = begin + number * step
        network.at(time, lambda number=number, time=time: end.link.send(frame(number), reliable, time))  # type: ignore[misc]


def numbers(end: PeerEnd) -> list[int]:
    """Return the numbers that an end has received."""
    return [int.from_bytes(payload[:4], "big") for payload in end.payloads]


def states(end: PeerEnd) -> list[LinkState]:
    """Return how the peer was reached, one after the other, without repetitions."""
    found: list[LinkState] = []
    for _, change in end.changes:
        if found[-1:] != [change.state]:
            found.append(change.state)
    return found


class MatrixTests(SynchronousTestCase):
    def check(self, pairs: Sequence[tuple[NatKind | str, NatKind | str]]) -> None:
        """Expect of each pair what theory allows, and the first message by the relay in any case."""
        for first, second in pairs:
            name = f"{first} against {second}"
            network = make_network(first, second)
            send_steadily(network, network.first, 1, 0.0, 1.0)
            network.run(30.0, lambda network=network: all(end.link.path for end in network.ends))  # type: ignore[misc]
            network.run(network.now + 1.0)
            expected = LinkState.DIRECT if is_possible(first, second) else LinkState.RELAYED
            self.assertEqual([end.link.state for end in network.ends], [expected, expected], name)
            self.assertEqual(numbers(network.second), [0], name)
            received_at = next(time for time, event in network.second.events if isinstance(event, PeerMessage))
            self.assertLess(received_at, 0.3, name)
            self.assertEqual([end.link.reason is None for end in network.ends], [expected is LinkState.DIRECT] * 2)

    def test_every_pair(self) -> None:
        """Every pair of NATs is direct where theory allows it and relayed elsewhere; first data come within 0.3 s."""
        self.check([(first, second) for at, first in enumerate(KINDS) for second in KINDS[at:]])

    def test_either_side(self) -> None:
        """It does not matter which of the two has the harder NAT."""
        hard = (NatKind.SYMMETRIC_STEADY, NatKind.SYMMETRIC_RANDOM, NatKind.BLOCKED)
        self.check([(first, NatKind.PORT_RESTRICTED) for first in hard])

    def test_one_node_only(self) -> None:
        """A symmetric NAT that was seen by one node only, so that nobody knows it is one, is overcome as well."""
        for kind in (NatKind.SYMMETRIC_STEADY, NatKind.SYMMETRIC_RANDOM):
            network = make_network(kind, NatKind.PORT_RESTRICTED, sees_twice=False)
            network.run(40.0, lambda network=network: all(end.link.path for end in network.ends))  # type: ignore[misc]
            self.assertEqual([end.link.state for end in network.ends], [LinkState.DIRECT] * 2, kind.value)

    def test_success_rate(self) -> None:
        """Symmetric by chance against port-restricted works in most runs at the first attempt."""
        direct = 0
        for seed in range(10):
            network = make_network(NatKind.SYMMETRIC_RANDOM, NatKind.PORT_RESTRICTED, seed=seed * 7)
            direct += network.run(6.0, lambda network=network: all(end.link.path for end in network.ends))  # type: ignore[misc]
        self.assertGreaterEqual(direct, 9)

    def test_one_home(self) -> None:
        """Two clients behind one NAT find each other by their local addresses."""
        home = [Nat(NatKind.SYMMETRIC_RANDOM, "198.51.100.1")]
        network = PeerNetwork(home, home)
        network.start()
        network.run(3.0)
        paths = [end.link.path and end.link.path.address.host for end in network.ends]
        self.assertEqual(paths, ["192.168.1.12", "192.168.1.11"])

    def test_reasons(self) -> None:
        """The reason for the relay is known at both ends."""
        for first, second, reasons in (
            (NatKind.BLOCKED, "open", (RelayReason.NO_OWN_ADDRESS, RelayReason.NO_PEER_ADDRESS)),
            (NatKind.SYMMETRIC_RANDOM, NatKind.SYMMETRIC_RANDOM, (RelayReason.BOTH_SYMMETRIC,) * 2),
        ):
            network = make_network(first, second)
            network.run(30.0)
            self.assertEqual(tuple(end.link.reason for end in network.ends), reasons)

    def test_narrow_path(self) -> None:
        """A path that swallows full datagrams is not used, and that is the reason given."""
        network = make_network()
        network.direct_limit_bytes = 1300
        network.run(15.0)
        self.assertEqual([end.link.reason for end in network.ends], [RelayReason.TOO_NARROW] * 2)


class StreamTests(SynchronousTestCase):
    def test_five_percent_loss(self) -> None:
        """At 5 % loss, doubles and reordering all reliable messages arrive, once and in order, both ways."""
        network = make_network("open", NatKind.PORT_RESTRICTED, direct=BAD_PATH, relay=BAD_PATH)
        for end in network.ends:
            send_steadily(network, end, 600, 0.0, 0.005)
        network.run(30.0, lambda: all(len(end.payloads) == 600 for end in network.ends))
        for end in network.ends:
            self.assertEqual(numbers(end), list(range(600)))
            self.assertIs(end.link.state, LinkState.DIRECT)

    def test_death_of_the_path(self) -> None:
        """When the direct path dies data go by the relay within five seconds, and none is lost or doubled."""
        network = make_network("open", NatKind.PORT_RESTRICTED, direct=BAD_PATH, relay=BAD_PATH)
        send_steadily(network, network.first, 1000, 0.0, 0.01)
        network.at(4.0, network.cut_direct)
        network.run(30.0, lambda: len(network.second.payloads) == 1000)
        self.assertEqual(numbers(network.second), list(range(1000)))
        for end in network.ends:
            self.assertEqual(states(end), [LinkState.RELAYED, LinkState.DIRECT, LinkState.RELAYED])
            self.assertLess(end.changes[-1][0], 9.0)
            self.assertIs(end.link.reason, RelayReason.LOST)

    def test_path_comes_back(self) -> None:
        """A path that was dead for a while is found again."""
        network = make_network("open", NatKind.FULL_CONE)
        send_steadily(network, network.first, 400, 0.0, 0.05)
        network.at(2.0, network.cut_direct)
        for path in network.direct.values():
            network.at(9.0, lambda path=path: setattr(path, "is_black_hole", False))  # type: ignore[misc]
        network.run(25.0)
        self.assertEqual(numbers(network.second), list(range(400)))
        self.assertIs(network.first.link.state, LinkState.DIRECT)

    def test_no_gap_while_doubtful(self) -> None:
        """While a path does not answer data go both ways: the application waits for a second at most."""
        network = make_network()
        send_steadily(network, network.first, 1000, 0.0, 0.01)
        network.at(4.0, network.cut_direct)
        network.run(12.0)
        times = [time for time, event in network.second.events if isinstance(event, PeerMessage)]
        self.assertLess(max(after - before for before, after in pairwise(times)), 1.2)

    def test_nat_restarts(self) -> None:
        """A router that loses its table costs no message."""
        home = nats(NatKind.PORT_RESTRICTED, 1)
        network = PeerNetwork(home, [])
        network.start()
        send_steadily(network, network.second, 500, 0.0, 0.02)
        network.at(3.0, home[0].forget)
        network.run(15.0)
        self.assertEqual(numbers(network.first), list(range(500)))

    def test_unordered(self) -> None:
        """As they come: nothing waits for what was lost before it, and still all arrive once."""
        options = PeerLinkOptions(is_ordered=False)
        network = make_network(direct=BAD_PATH, relay=BAD_PATH, options=options)
        send_steadily(network, network.first, 500, 1.0, 0.01)
        network.run(15.0)
        got = numbers(network.second)
        self.assertEqual(sorted(got), list(range(500)))
        self.assertNotEqual(got, sorted(got))

    def test_unreliable(self) -> None:
        """Unreliable messages may be lost, but none comes twice, also while both ways are used."""
        network = make_network(direct=BAD_PATH, relay=BAD_PATH)
        send_steadily(network, network.first, 800, 1.0, 0.01, reliable=False)
        network.at(4.0, network.cut_direct)
        network.run(12.0)
        got = numbers(network.second)
        self.assertEqual(len(got), len(set(got)))
        self.assertGreater(len(got), 500)
        self.assertGreater(network.second.rejected["replayed"], 0)

    def test_long_messages(self) -> None:
        """A message that no datagram holds goes reliably, also when that was not asked for."""
        network = make_network(direct=BAD_PATH)
        network.first.link.send(frame(5, 60000), False, 0.0)
        network.run(5.0)
        self.assertEqual([len(payload) for payload in network.second.payloads], [60000])

    def test_finish(self) -> None:
        """An end that is done says so after its last message, and both know that the link is over."""
        network = make_network()
        network.second.link.send(frame(1), True, 0.0)
        network.second.link.finish()
        network.run(5.0)
        self.assertEqual(numbers(network.first), [1])
        for end in network.ends:
            self.assertEqual(end.events[-1][1], LinkEnded(0, "both ends have finished"))
            self.assertIs(end.link.state, LinkState.LOST)
            self.assertRaises(SessionClosed, end.link.send, frame(2), True, 5.0)

    def test_abort(self) -> None:
        """An end that breaks off tells the other one why."""
        network = make_network()
        network.run(1.0)
        network.first.link.abort(CloseReason.PROTOCOL_ERROR)
        network.run(2.0)
        ends = [end.events[-1][1] for end in network.ends]
        self.assertEqual(ends, [LinkEnded(4502, CloseReason.PROTOCOL_ERROR.text)] * 2)

    def test_round_trip(self) -> None:
        """The round trip of the way in use can be read."""
        network = make_network(NatKind.BLOCKED)
        network.run(3.0)
        self.assertAlmostEqual(network.first.link.round_trip_seconds or 0.0, 0.06, places=2)
        network = make_network()
        self.assertIsNone(network.first.link.round_trip_seconds)
        network.run(3.0)
        self.assertAlmostEqual(network.first.link.round_trip_seconds or 0.0, 0.04, places=2)


class SingleEndTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Ann's end of a link to bob, and what bob would seal with."""
        punch = HolePunch([PEER], MappingObserver(), Random(1), 0.0)
        self.link = PeerLink("ann", "bob", SYNC, punch, 7)
        self.link.start(0.0)
        self.bob = PeerCodec("bob", "ann", SYNC.secret, MEMBERS)
        self.link.packets_to_send(0.0)
        self.link.next_event()

    def test_forged_probe(self) -> None:
        """A PROBE of somebody without the key causes not a single byte."""
        stranger = PeerCodec("bob", "ann", bytes(47) + b"x", MEMBERS)
        datagram = stranger.seal(PacketKind.PROBE, encode_probe(Probe(1)))
        for forged in (datagram, datagram[:26] + bytes(100), bytes(200), b""):
            self.assertRaises(PacketRejected, self.link.receive_datagram, forged, Path(PEER), 0.01)
        self.assertEqual(self.link.packets_to_send(0.01), [])
        self.assertEqual(self.link.statistics()["rejected_seal"], 2)

    def test_replayed_probe(self) -> None:
        """A PROBE that was copied from the wire is answered once, wherever the copy comes from."""
        datagram = self.bob.seal(PacketKind.PROBE, encode_probe(Probe(1)))
        self.link.receive_datagram(datagram, Path(PEER), 0.01)
        self.assertTrue(self.link.packets_to_send(0.01))
        elsewhere = Path(UdpAddress("198.51.100.66", 53))
        self.assertRaises(PacketRejected, self.link.receive_datagram, datagram, elsewhere, 0.02)
        self.assertEqual(self.link.packets_to_send(0.02), [])

    def test_bad_frames(self) -> None:
        """Bytes that are no frames are dropped when they may be lost, and end the link when they may not."""
        for content in (b"\2", frame(1)[:-1], encode_frame(2, 0, 7, 0, bytes(65537))[:1300]):
            datagram = self.bob.seal(PacketKind.DATA, content)
            self.assertRaises(PacketRejected, self.link.receive_datagram, datagram, None, 0.1)
        self.assertIsNone(self.link.next_event())
        network = make_network()
        network.first.link.send(b"no frame", True, 0.0)
        network.run(2.0)
        self.assertEqual(network.second.events[-1][1], LinkEnded(4502, CloseReason.PROTOCOL_ERROR.text))

    def test_bounds(self) -> None:
        """What nobody sends or fetches is bounded and counted."""
        for number in range(MAX_UNSENT + 3):
            self.link.send(frame(number), False, 0.1)
        self.assertEqual(self.link.statistics()["unsent_dropped"], 3)
        for number in range(MAX_UNFETCHED + 2):
            self.link.receive_datagram(self.bob.seal(PacketKind.DATA, frame(number)), None, 0.1)
        self.assertEqual(self.link.statistics()["unfetched_dropped"], 2)
        fetched = 0
        while self.link.next_event() is not None:
            fetched += 1
        self.assertEqual(fetched, MAX_UNFETCHED)
        self.link.receive_datagram(self.bob.seal(PacketKind.DATA, frame(1)), None, 0.1)
        self.assertIsInstance(self.link.next_event(), PeerMessage)

    def test_nothing(self) -> None:
        """A message without a frame is the caller's mistake."""
        for is_reliable in (True, False):
            self.assertRaises(LocalProtocolError, self.link.send, b"", is_reliable, 0.1)

    def test_first_change(self) -> None:
        """From the first moment the application knows that the relay is in use, and why."""
        link = PeerLink("bob", "ann", SYNC, HolePunch([PEER], MappingObserver(), Random(1), 0.0), 7)
        link.start(0.0)
        self.assertEqual(link.next_event(), LinkChanged(LinkState.RELAYED, RelayReason.TRYING, None))
