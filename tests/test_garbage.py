"""The garbage collector of a node that is up."""

from __future__ import annotations

import gc
import weakref

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.garbage import freeze_start


class Cycle:
    """Garbage that only the collector finds."""

    def __init__(self) -> None:
        self.me = self


class FreezeTests(SynchronousTestCase):
    """What is collected and what is not."""

    def setUp(self) -> None:
        """Other tests want their garbage to be found."""
        self.addCleanup(gc.unfreeze)

    def test_start_is_left_out(self) -> None:
        """What lives at the start is left out of later collections."""
        kept = Cycle()
        count = freeze_start()
        self.assertGreater(count, 10_000)
        self.assertFalse(any(each is kept for each in gc.get_objects()))

    def test_garbage_of_the_start(self) -> None:
        """Garbage of the start is collected first, and not kept for good."""
        garbage = weakref.ref(Cycle())
        freeze_start()
        self.assertIsNone(garbage())

    def test_garbage_of_clients(self) -> None:
        """What comes and goes afterwards is still collected."""
        freeze_start()
        garbage = weakref.ref(Cycle())
        gc.collect()
        self.assertIsNone(garbage())
