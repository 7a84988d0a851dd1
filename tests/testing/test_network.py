from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.machine.reliability import Connected, MessageReceived, ReliabilityMachine
from meshrelay.testing.network import Impairment, LossyPath, SimulatedPair


def make_pair(how: Impairment, seed: int = 0) -> SimulatedPair:
    """Return two machines over a path, the client about to connect."""
    pair = SimulatedPair(ReliabilityMachine(True, 1), ReliabilityMachine(False, 2), how, seed=seed)
    pair.connect()
    return pair


class LossyPathTests(SynchronousTestCase):
    def test_shares(self) -> None:
        """Losses, doubles and reordered packets come as often as asked for."""
        path = LossyPath(Impairment(loss=0.1, duplication=0.05, reordering=0.2), 1)
        for _ in range(10000):
            path.arrivals(100, 0.0)
        counted = path.counters
        self.assertLess(abs(counted["lost"] / 10000 - 0.1), 0.01)
        self.assertLess(abs(counted["duplicated"] / 9000 - 0.05), 0.01)
        self.assertLess(abs(counted["reordered"] / 9450 - 0.2), 0.02)

    def test_delay(self) -> None:
        """Each packet takes the delay plus or minus the jitter, spread over all of it."""
        path = LossyPath(Impairment(delay_seconds=0.05, jitter_seconds=0.02), 1)
        times = [time for _ in range(1000) for time in path.arrivals(100, 7.0)]
        self.assertGreaterEqual(min(times), 7.03)
        self.assertLessEqual(max(times), 7.07)
        self.assertGreater(max(times) - min(times), 0.038)

    def test_same_seed_same_path(self) -> None:
        """A failing run can be repeated: the seed decides everything."""
        how = Impairment(delay_seconds=0.05, jitter_seconds=0.02, loss=0.2, duplication=0.1)
        runs = [[LossyPath(how, seed).arrivals(1, 0.0) for _ in range(3)] for seed in (4, 4, 5)]
        self.assertEqual(runs[0], runs[1])
        self.assertNotEqual(runs[0], runs[2])

    def test_black_out(self) -> None:
        """Nothing passes in a black-out, everything before and after does."""
        path = LossyPath(Impairment(black_outs=((1.0, 2.0),)), 1)
        self.assertEqual([len(path.arrivals(1, now)) for now in (0.9, 1.0, 1.9, 2.0)], [1, 0, 0, 1])

    def test_rate_and_queue(self) -> None:
        """A slow line lets packets through one after the other and drops what its queue cannot hold."""
        path = LossyPath(Impairment(rate_bytes=1000.0, queue_bytes=500), 1, overhead_bytes=70)
        times = [path.arrivals(30, 0.0) for _ in range(8)]
        self.assertEqual([round(time[0], 3) for time in times if time], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
        self.assertEqual(path.counters["overflowed"], 2)


class SimulatedPairTests(SynchronousTestCase):
    def test_virtual_time(self) -> None:
        """Time jumps from event to event and ends where it was told to."""
        pair = make_pair(Impairment(delay_seconds=0.5))
        self.assertFalse(pair.run(100.0))
        self.assertEqual(pair.now, 100.0)
        self.assertEqual(pair.client.events, [(1.0, Connected())])

    def test_actions_and_stop(self) -> None:
        """A test acts at a virtual time and stops when it has seen enough."""
        pair = make_pair(Impairment(delay_seconds=0.05))
        pair.at(1.0, lambda: pair.client.machine.send_message(b"x"))
        self.assertTrue(pair.run(100.0, lambda: len(pair.node.events) == 2))
        time, event = pair.node.events[-1]
        self.assertEqual(event, MessageReceived(b"x"))
        self.assertAlmostEqual(time, 1.05)

    def test_rejections_are_counted(self) -> None:
        """What a machine refuses shows up by its reason, it does not end the run."""
        pair = make_pair(Impairment(delay_seconds=0.05))
        pair.client.machine.send_message(b"x")
        pair.node.machine.send_message(b"y")
        pair.run(1.0)
        self.assertEqual(sum(pair.client.rejected.values()) + sum(pair.node.rejected.values()), 0)
