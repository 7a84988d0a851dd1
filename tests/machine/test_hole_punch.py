from __future__ import annotations

from itertools import pairwise
from random import Random

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import PacketRejected
from meshrelay.machine.hole_punch import (
    MAX_ANSWERS,
    MAX_CANDIDATES,
    MAX_CHECKS,
    MAX_QUESTIONS,
    HolePunch,
    OutgoingProbe,
    PunchOptions,
    RelayReason,
)
from meshrelay.machine.nat_kind import MappingObserver
from meshrelay.machine.peer_path import Path
from meshrelay.machine.port_prediction import SEARCH_PORTS, SEARCH_SOCKETS
from meshrelay.wire.addresses import UdpAddress, parse_address
from meshrelay.wire.peer_packet import MAX_PROBE_BYTES, Mapping, Probe, decode_probe, encode_probe

PUBLIC = UdpAddress("203.0.113.5", 7000)
LOCAL = UdpAddress("192.168.1.7", 5000)


def make_punch(*candidates: UdpAddress, options: PunchOptions | None = None, ports: tuple[int, ...] = ()) -> HolePunch:
    """Return an end that starts at 0 and was seen by others at these ports."""
    observer = MappingObserver()
    for number, port in enumerate(ports):
        observer.add(UdpAddress("198.51.100.1", number + 1), UdpAddress("198.51.100.77", port))
    return HolePunch(candidates or (PUBLIC, LOCAL), observer, Random(1), 0.0, options)


def run(punch: HolePunch, until: float) -> list[tuple[float, OutgoingProbe]]:
    """Let time pass with nobody there and return what was sent."""
    sent = []
    now = 0.0
    while (at := punch.deadline()) is not None and (now := max(now, at)) <= until:
        sent += [(now, probe) for probe in punch.probes_to_send(now)]
    return sent


def verify(punch: HolePunch, path: Path, now: float, took: float = 0.05) -> None:
    """Let the peer be heard there and answer, until the path is verified."""
    punch.receive(encode_probe(Probe(1)), path, now)
    for _ in range(2):
        for probe in punch.probes_to_send(now):
            question = decode_probe(probe.content).question
            if probe.path == path and question:
                punch.receive(encode_probe(Probe(answer=question), len(probe.content)), path, now + took)
        now += took
    punch.probes_to_send(now)


class RoundTests(SynchronousTestCase):
    def test_order(self) -> None:
        """The public address is asked first, then the local ones; the relay carries a note."""
        paths = [probe.path for probe in make_punch().probes_to_send(0.0)]
        self.assertEqual(paths, [None, Path(PUBLIC), Path(LOCAL)])

    def test_backs_off(self) -> None:
        """Who is not there is asked at doubling distances, and then every half a minute for ever."""
        sent = run(make_punch(LOCAL), 300.0)
        times = [round(now, 1) for now, probe in sent if probe.path is None]
        self.assertEqual(times[:9], [0.0, 0.1, 0.3, 0.7, 1.5, 3.1, 6.3, 12.7, 25.5])
        self.assertTrue(all(20 < after - before < 40 for before, after in pairwise(times[9:])))
        self.assertGreater(len(times), 14)

    def test_useless_candidates(self) -> None:
        """Nobody is made to send to loopback, metadata or multicast addresses by sync bytes or by a peer."""
        bad = [parse_address(text) for text in ("127.0.0.1:9", "169.254.169.254:80", "224.0.0.1:9")]
        punch = make_punch(*bad, PUBLIC)
        punch.receive(encode_probe(Probe(public=tuple(bad))), None, 0.0)
        hosts = {probe.path.address.host for _, probe in run(punch, 60.0) if probe.path is not None}
        self.assertEqual(hosts, {PUBLIC.host})

    def test_no_private(self) -> None:
        """Private addresses are left out where they are not allowed."""
        punch = make_punch(options=PunchOptions(allow_private=False))
        self.assertEqual([probe.path for probe in punch.probes_to_send(0.0)], [None, Path(PUBLIC)])

    def test_many_candidates(self) -> None:
        """A peer that names ever new addresses makes nobody send to more than 24 a round."""
        punch = make_punch()
        for number in range(1, 100):
            address = UdpAddress("203.0.113.6", number)
            punch.receive(encode_probe(Probe(public=(address,))), None, 0.0)
        self.assertEqual(punch.statistics()["candidates"], MAX_CANDIDATES)
        self.assertEqual(len(punch.probes_to_send(0.0)), MAX_CANDIDATES + 1)

    def test_new_network(self) -> None:
        """A peer that says it is elsewhere now is asked there at once, but not again and again."""
        punch = make_punch()
        run(punch, 40.0)
        for number in range(1, 4):
            punch.receive(encode_probe(Probe(public=(UdpAddress("198.51.100.9", number),))), None, 41.0)
            paths = [probe.path for probe in punch.probes_to_send(41.0)]
            self.assertEqual(Path(UdpAddress("198.51.100.9", number)) in paths, number == 1)

    def test_moved(self) -> None:
        """When an end has moved an idle path is asked at once: ours, or that of a peer that is heard from elsewhere."""
        elsewhere = UdpAddress("203.0.113.5", 7001)
        news = encode_probe(Probe(public=(UdpAddress("198.51.100.9", 1),)))
        for number, happens in enumerate(
            (
                lambda punch: punch.restart(10.0),
                lambda punch: punch.receive(encode_probe(Probe(1)), Path(elsewhere), 10.0),
                lambda punch: punch.receive(news, None, 10.0),
            )
        ):
            punch = make_punch()
            verify(punch, Path(PUBLIC), 0.0)
            punch.probes_to_send(9.0)
            self.assertEqual(punch.probes_to_send(10.0), [], number)
            happens(punch)
            asked = [probe.path for probe in punch.probes_to_send(10.0) if decode_probe(probe.content).question]
            self.assertIn(Path(PUBLIC), asked, number)
            self.assertEqual(punch.path, Path(PUBLIC), number)


class SearchTests(SynchronousTestCase):
    def counted(self, punch: HolePunch, until: float = 6.0) -> tuple[int, int, int]:
        """Return packets to predicted ports, from extra sockets, and to ports by chance."""
        places = [probe.path for _, probe in run(punch, until) if probe.path is not None]
        others = [path for path in places if path.address not in (PUBLIC, LOCAL) and not path.socket]
        near = [path for path in others if abs(path.address.port - PUBLIC.port) <= 64]
        return len(near), len([path for path in places if path.socket]), len(others) - len(near)

    def test_counting_nat(self) -> None:
        """Behind a NAT that counts the peer is looked for at the ports that come next."""
        punch = make_punch(ports=(5, 5))
        punch.receive(encode_probe(Probe(mapping=Mapping.STEADY, step=2, public=(PUBLIC,))), None, 0.0)
        ports = [probe.path.address.port for now, probe in run(punch, 0.71) if probe.path and now > 0.69]
        self.assertEqual(ports[2:6], [7002, 7004, 7006, 7008])

    def test_peer_is_random(self) -> None:
        """Where the peer's NAT draws lots, many of its ports are tried, from one socket."""
        punch = make_punch(ports=(5, 5))
        punch.receive(encode_probe(Probe(mapping=Mapping.RANDOM)), None, 0.0)
        _, sockets, ports = self.counted(punch)
        self.assertEqual(sockets, 0)
        self.assertGreater(ports, SEARCH_PORTS - 50)

    def test_own_is_random(self) -> None:
        """Where the own NAT draws lots, many sockets speak to the peer's one address, and stay open for a while."""
        punch = make_punch(ports=(5, 40000))
        punch.receive(encode_probe(Probe(mapping=Mapping.SAME)), None, 0.0)
        self.assertEqual(self.counted(punch), (0, SEARCH_SOCKETS, 0))
        self.assertEqual(len(punch.sockets_needed(6.0)), SEARCH_SOCKETS + 1)
        self.assertEqual(punch.sockets_needed(60.0), {0})

    def test_both_symmetric(self) -> None:
        """Between two NATs that draw lots there is nothing to find: no flood, and people are told why."""
        punch = make_punch(ports=(5, 40000))
        punch.receive(encode_probe(Probe(mapping=Mapping.RANDOM)), None, 0.0)
        self.assertEqual(self.counted(punch, 60.0), (0, 0, 0))
        self.assertIs(punch.reason, RelayReason.BOTH_SYMMETRIC)

    def test_bounds(self) -> None:
        """An attempt sends at most 1,280 packets, at most 550 in any second, and there are three of them."""
        punch = make_punch()
        sent = run(punch, 9000.0)
        self.assertEqual(punch.statistics()["searches"], 3)
        self.assertLess(len(sent), 3 * (SEARCH_PORTS + SEARCH_SOCKETS) + 1200)
        times = [now for now, _ in sent]
        self.assertLess(max(len([time for time in times if now <= time < now + 1]) for now in range(40)), 600)
        self.assertGreater(punch.statistics()["probes_sent"], MAX_QUESTIONS)
        self.assertEqual(len(punch._questions), MAX_QUESTIONS)

    def test_found(self) -> None:
        """When a path is found the search ends."""
        punch = make_punch(ports=(5, 5))
        punch.receive(encode_probe(Probe(mapping=Mapping.RANDOM)), None, 0.0)
        run(punch, 1.6)
        verify(punch, Path(PUBLIC, 0), 1.6)
        self.assertEqual(punch.path, Path(PUBLIC))
        self.assertLess(len([now for now, probe in run(punch, 5.0) if now > 1.8]), 20)

    def test_vouched_hosts_only(self) -> None:
        """A peer cannot make others search ports of somebody else's host."""
        punch = make_punch(ports=(5, 5))
        victim = UdpAddress("198.51.100.99", 53)
        punch.receive(encode_probe(Probe(mapping=Mapping.RANDOM, public=(victim,))), None, 0.0)
        to_victim = [probe for _, probe in run(punch, 30.0) if probe.path and probe.path.address.host == victim.host]
        self.assertLess(len(to_victim), 12)

    def test_not_allowed(self) -> None:
        """Without searches only the named addresses are asked."""
        self.assertEqual(self.counted(make_punch(options=PunchOptions(allow_search=False)), 60.0), (0, 0, 0))


class AnswerTests(SynchronousTestCase):
    def test_answer(self) -> None:
        """A question is answered to where it came from, by the same socket, as long as it was."""
        punch = make_punch(options=PunchOptions())
        path = Path(UdpAddress("203.0.113.5", 7123), 3)
        punch.receive(encode_probe(Probe(77), 500), path, 0.0)
        answers = [each for each in punch.probes_to_send(0.0) if decode_probe(each.content).answer]
        self.assertEqual([each.path for each in answers], [path])
        answer = decode_probe(answers[0].content)
        self.assertEqual((answer.answer, answer.question, answer.seen), (77, 0, path.address))
        self.assertEqual((len(answers[0].content), answer.hears), (500, True))

    def test_no_answer_to_an_answer(self) -> None:
        """Answers and notes are not answered, so nothing goes back and forth for ever."""
        punch = make_punch()
        punch.receive(encode_probe(Probe(answer=5)), Path(PUBLIC), 0.0)
        punch.receive(encode_probe(Probe(9)), None, 0.0)
        self.assertFalse([each for each in punch.probes_to_send(0.0) if decode_probe(each.content).answer])

    def test_wrong_answers(self) -> None:
        """An answer that was not asked for, or that comes from elsewhere, proves no path."""
        punch = make_punch()
        question = next(each for each in punch.probes_to_send(0.0) if each.path == Path(PUBLIC))
        number = decode_probe(question.content).question
        for path, answer in ((Path(LOCAL), number), (Path(PUBLIC, 1), number), (Path(PUBLIC), 999)):
            punch.receive(encode_probe(Probe(answer=answer)), path, 0.1)
        sizes = [len(each.content) for each in punch.probes_to_send(0.1)]
        self.assertIsNone(punch.path)
        self.assertLess(max(sizes), 100)

    def test_garbage(self) -> None:
        """A PROBE that makes no sense changes nothing and is not answered."""
        punch = make_punch()
        self.assertRaises(PacketRejected, punch.receive, b"garbage", Path(PUBLIC), 0.0)
        self.assertEqual(punch.statistics()["checks"], 0)

    def test_bounds(self) -> None:
        """A peer that asks from everywhere gets 64 answers at a time and has 32 paths checked."""
        punch = make_punch()
        for port in range(1, 1001):
            punch.receive(encode_probe(Probe(port)), Path(UdpAddress("203.0.113.5", port)), 0.0)
        statistics = punch.statistics()
        self.assertEqual((statistics["checks"], statistics["checks_refused"]), (MAX_CHECKS, 1000 - MAX_CHECKS))
        self.assertEqual(statistics["answers_dropped"], 1000 - MAX_ANSWERS)

    def test_without_socket(self) -> None:
        """Who has no UDP socket sends nothing, and says so."""
        punch = make_punch(options=PunchOptions(has_socket=False))
        punch.receive(encode_probe(Probe(1)), Path(PUBLIC), 0.0)
        self.assertEqual((punch.probes_to_send(0.0), punch.deadline()), ([], None))
        self.assertIs(punch.reason, RelayReason.NO_OWN_ADDRESS)


class PathTests(SynchronousTestCase):
    def test_verified(self) -> None:
        """A path is used when it has carried a datagram of full length there and back."""
        punch = make_punch()
        path = Path(PUBLIC)
        punch.receive(encode_probe(Probe(1)), path, 0.0)
        sizes = []
        for now in (0.0, 0.05):
            self.assertIsNone(punch.path)
            for probe in punch.probes_to_send(now):
                question = decode_probe(probe.content).question
                if probe.path == path and question:
                    sizes.append(len(probe.content))
                    punch.receive(encode_probe(Probe(answer=question)), path, now + 0.05)
        punch.probes_to_send(0.1)
        self.assertEqual((punch.path, punch.reason, sizes[-1]), (path, None, MAX_PROBE_BYTES))

    def test_faster_path(self) -> None:
        """A much faster path replaces the one in use, a little faster one does not."""
        punch = make_punch()
        verify(punch, Path(PUBLIC), 0.0, 0.05)
        self.assertEqual(punch.path, Path(PUBLIC))
        verify(punch, Path(UdpAddress("203.0.113.5", 9)), 0.2, 0.045)
        self.assertEqual(punch.path, Path(PUBLIC))
        verify(punch, Path(LOCAL), 0.4, 0.001)
        self.assertEqual(punch.path, Path(LOCAL))
        self.assertLess(punch.round_trip_seconds or 1, 0.002)

    def test_death(self) -> None:
        """When nobody answers any more the path is given up within five seconds of data, and tried again at once."""
        punch = make_punch()
        verify(punch, Path(PUBLIC), 0.0)
        now = 0.2
        while punch.path is not None and now < 20.0:
            punch.data_moved(now)
            punch.probes_to_send(now)
            now += 0.05
        self.assertLess(now, 5.2)
        self.assertIs(punch.reason, RelayReason.LOST)
        self.assertEqual(punch.statistics()["paths_lost"], 1)
        asked = [probe.path for at in (now, now + 0.05, now + 0.1) for probe in punch.probes_to_send(at)]
        self.assertIn(Path(PUBLIC), asked)

    def test_spare_path(self) -> None:
        """Another verified path takes over from one that does not answer, before the relay is needed."""
        punch = make_punch()
        spare = Path(UdpAddress("203.0.113.5", 9))
        verify(punch, Path(PUBLIC), 0.0)
        verify(punch, spare, 0.2)
        now = 0.5
        while punch.path == Path(PUBLIC) and now < 20.0:
            punch.data_moved(now)
            for probe in punch.probes_to_send(now):
                question = decode_probe(probe.content).question
                if probe.path == spare and question:
                    punch.receive(encode_probe(Probe(answer=question)), spare, now)
            now += 0.05
        self.assertEqual(punch.path, spare)

    def test_reasons(self) -> None:
        """People are told why packets go by the relay, in a sentence."""
        punch = make_punch()
        run(punch, 5.0)
        self.assertIs(punch.reason, RelayReason.TRYING)
        run(punch, 20.0)
        self.assertIs(punch.reason, RelayReason.NO_ANSWER)
        self.assertIs(HolePunch((), MappingObserver(), Random(1), 0.0).reason, RelayReason.NO_PEER_ADDRESS)
        punch.receive(encode_probe(Probe(mapping=Mapping.RANDOM)), None, 20.0)
        self.assertIs(punch.reason, RelayReason.PORT_NOT_FOUND)
        self.assertTrue(all(len(reason.value) > 20 for reason in RelayReason))
