"""Direct messages of 300 users on three nodes while links are cut, a node dies and users come and go."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from tests.direct_history import History, Loss, Sent, Storm, StormPlan

#: Set to a number to run as many seeds.
SEEDS = int(os.environ.get("MESHRELAY_HISTORY_SEEDS", "20"))


class StormTests(SynchronousTestCase):
    """Recorded histories; `tests.direct_history` has the rules."""

    def test_storms(self) -> None:
        """Each message with an OK is delivered once and in order, unless its peer's session ended unread."""
        recovered = moved = refused = 0
        for seed in range(SEEDS):
            storm = Storm(seed)
            history = storm.run()
            self.assertEqual((seed, history.check()), (seed, []))
            taken = [sent for sent in history.sent if sent.accepted_at is not None]
            # Rule 3 must not excuse everything.
            self.assertGreater(len(taken), 1000)
            self.assertGreater(len(taken), 15 * len(history.missing()))
            recovered += storm.recovered
            moved += storm.moved
            refused += sum(storm.codes.values())
        self.assertGreater(recovered, 10 * SEEDS)
        self.assertGreater(moved, SEEDS)
        self.assertGreater(refused, SEEDS)

    def test_moving(self) -> None:
        """The same with a few users who write all the time and change nodes while much is on its way to them."""
        plan = StormPlan(
            users=10,
            peers=3,
            steps=200,
            bursts=12,
            longest_burst=3,
            breaks=0.2,
            sign_ins=0.2,
            kills=False,
            longest_delay_seconds=0.1,
        )
        for seed in range(SEEDS // 2):
            self.assertEqual((seed, Storm(seed, plan).run().check()), (seed, []))

    def test_calm(self) -> None:
        """When all nodes live no message is refused, whatever happens to lines and users."""
        for seed in range(SEEDS // 4):
            storm = Storm(seed, StormPlan(kills=False))
            self.assertEqual((seed, storm.run().check(), dict(storm.codes)), (seed, [], {}))


class CheckerTests(SynchronousTestCase):
    """The checker finds what it is for."""

    def history(self, *came: int, taken: tuple[int, ...] = (1, 2, 3), loss: Loss | None = None) -> list[str]:
        """What is wrong when ann sent 1, 2, 3 at these seconds, each taken half a second later, and bob got `came`."""
        history = History()
        for number in (1, 2, 3):
            accepted_at = number + 0.5 if number in taken else None
            history.sent.append(Sent("ann", "bob", number, number, 1 + number // 3, accepted_at))
        history.came["bob"] += [("ann", number, "s1") for number in came]
        if loss is not None:
            history.losses["bob"].append(loss)
        return history.check()

    def test_right(self) -> None:
        """All that was taken came; what was not taken may come or not, and late from an earlier connection."""
        self.assertEqual(self.history(1, 2, 3), [])
        self.assertEqual(self.history(2, 3, taken=(2, 3)), [])
        self.assertEqual(self.history(1, 3, 2, taken=(1, 3)), [])

    def test_wrong(self) -> None:
        """Twice, out of order, and not at all."""
        for came, taken in (((1, 2, 2, 3), (1, 2, 3)), ((1, 3, 2), (1, 2, 3)), ((2, 1), ()), ((1, 3), (1, 2, 3))):
            self.assertEqual((came, len(self.history(*came, taken=taken))), (came, 1))

    def test_excuse(self) -> None:
        """What was taken while nobody read, and was given up, need not come; anything before or after must."""
        for since, until, problems in ((1.9, 2.1, 0), (2.4, 9.0, 0), (0.0, 1.9, 1), (2.6, 2.9, 1)):
            self.assertEqual((since, len(self.history(1, 3, loss=Loss(since, until, "")))), (since, problems))
