"""Tests of `meshrelay.client.p2p.state_reports`."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.client.p2p.state_reports import REPORT_SECONDS, StateReports
from meshrelay.wire.link_commands import LinkReport, LinkState, decode_report

ROOM, OTHER = "r" * 52, "s" * 52


class StateReportsTests(SynchronousTestCase):
    """What the node is told."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.sent: list[LinkReport] = []
        self.reports = StateReports(self.clock, lambda payload: self.sent.append(decode_report(payload)))

    def test_gathered(self) -> None:
        """Changes of a moment are one report for each room, with the latest state of each peer."""
        self.reports.note(ROOM, "ann", LinkState.RELAYED)
        self.reports.note(OTHER, "ann", LinkState.LOST)
        self.reports.note(ROOM, "bob", LinkState.RELAYED)
        self.reports.note(ROOM, "ann", LinkState.DIRECT)
        self.clock.advance(REPORT_SECONDS)
        first = LinkReport(ROOM, (("ann", LinkState.DIRECT), ("bob", LinkState.RELAYED)))
        self.assertEqual(self.sent, [first, LinkReport(OTHER, (("ann", LinkState.LOST),))])
        self.reports.note(ROOM, "bob", LinkState.DIRECT)
        self.clock.advance(REPORT_SECONDS)
        self.assertEqual(self.sent[2:], [LinkReport(ROOM, (("bob", LinkState.DIRECT),))])

    def test_many(self) -> None:
        """More peers than one report may name are told in several."""
        for number in range(300):
            self.reports.note(ROOM, f"user {number}", LinkState.RELAYED)
        self.clock.advance(REPORT_SECONDS)
        self.assertEqual([len(report.states) for report in self.sent], [255, 45])

    def test_stop(self) -> None:
        """After the end nothing is told."""
        self.reports.note(ROOM, "ann", LinkState.DIRECT)
        self.reports.stop()
        self.reports.stop()
        self.assertEqual((self.clock.getDelayedCalls(), self.sent), ([], []))
