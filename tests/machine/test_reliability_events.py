from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import LocalProtocolError
from meshrelay.machine.reliability_events import ReliabilityOptions


class ReliabilityOptionsTests(SynchronousTestCase):
    def test_defaults(self) -> None:
        """The defaults are the numbers of the client protocol."""
        options = ReliabilityOptions()
        self.assertEqual((options.rto_floor_seconds, options.max_tries), (0.05, 10))

    def test_out_of_range(self) -> None:
        """A limit that the packets cannot express is refused with its name."""
        wrong: list[dict[str, Any]] = [
            {"receive_window_packets": 0},
            {"receive_window_packets": 65536},
            {"max_message_bytes": 0},
            {"max_message_bytes": 65535 * 1350 + 1},
            {"max_congestion_packets": 1},
        ]
        for fields in wrong:
            error = self.assertRaises(LocalProtocolError, ReliabilityOptions, **fields)
            self.assertIn(next(iter(fields)), str(error))
