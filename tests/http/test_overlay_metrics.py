"""The overlay on the metrics page."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from twisted.trial.unittest import SynchronousTestCase

import meshrelay
from meshrelay.http.overlay_metrics import OVERLAY_COUNTS, OVERLAY_SIZES, OverlayCollector
from meshrelay.overlay.counters import OverlayCounters
from meshrelay.transport.overlay_webrtc_link import WrtcCounters
from tests.every_metric import node_with_everything


class MemoryOverlay:
    """Counters without a peer."""

    def __init__(self) -> None:
        self.counters = OverlayCounters()

    def links(self) -> Mapping[str, int]:
        """See `OverlaySource`."""
        return {"ws": 5}

    def sizes(self) -> Mapping[str, int]:
        """See `OverlaySource`."""
        return {"candidates": 7, "bridge_to_users": 8, "wonders": 2}

    def refused(self) -> Mapping[str, int]:
        """See `OverlaySource`."""
        return {"full": 9}


class OverlayCollectorTests(SynchronousTestCase):
    """What stands on the page."""

    def setUp(self) -> None:
        """A peer that has counted something of everything."""
        overlay = MemoryOverlay()
        counters = overlay.counters
        counters.frames_received, counters.dials_failed = 11, 12
        counters.bad_frames["nonce"] = 3
        counters.dropped["duplicate"] = 4
        counters.links_closed["lost"] = 6
        counters.deliveries["resent"] = 10
        counters.handshakes["invited"] = 13
        registry = CollectorRegistry()
        registry.register(OverlayCollector(overlay))
        self.lines = generate_latest(registry).decode().splitlines()

    def test_counted(self) -> None:
        """What was counted stands there, with its reason where it has one."""
        for line in (
            "meshrelay_overlay_frames_received_total 11.0",
            "meshrelay_overlay_dials_failed_total 12.0",
            'meshrelay_overlay_peers{transport="ws"} 5.0',
            "meshrelay_overlay_candidates 7.0",
            "meshrelay_overlay_bridge_to_users_total 8.0",
            'meshrelay_overlay_deliveries_total{outcome="resent"} 10.0',
            'meshrelay_overlay_handshakes_total{outcome="invited"} 13.0',
            'meshrelay_overlay_bad_frames_total{reason="nonce"} 3.0',
            'meshrelay_overlay_dropped_total{reason="duplicate"} 4.0',
            'meshrelay_overlay_links_closed_total{reason="lost"} 6.0',
            'meshrelay_overlay_connections_refused_total{reason="full"} 9.0',
        ):
            self.assertIn(line, self.lines)

    def test_zeros(self) -> None:
        """What has not happened yet stands there with 0, so that alerts work before the first time."""
        for line in (
            'meshrelay_overlay_peers{transport="wrtc"} 0.0',
            'meshrelay_overlay_bad_frames_total{reason="json"} 0.0',
            'meshrelay_overlay_dropped_total{reason="hop_limit"} 0.0',
            'meshrelay_overlay_dropped_total{reason="link_too_fast"} 0.0',
            'meshrelay_overlay_links_closed_total{reason="duplicate"} 0.0',
            'meshrelay_overlay_connections_refused_total{reason="busy"} 0.0',
            'meshrelay_overlay_deliveries_total{outcome="refused_unsigned"} 0.0',
            'meshrelay_overlay_deliveries_total{outcome="not_delivered"} 0.0',
        ):
            self.assertIn(line, self.lines)

    def test_kinds(self) -> None:
        """What only grows is a counter, what there is now a gauge; what nobody has described is told all the same."""
        for line in (
            "# TYPE meshrelay_overlay_bridge_to_users_total counter",
            "# TYPE meshrelay_overlay_candidates gauge",
            "# TYPE meshrelay_overlay_wonders gauge",
            "meshrelay_overlay_wonders 2.0",
        ):
            self.assertIn(line, self.lines)

    def test_described(self) -> None:
        """All that a node counts as a peer is described, and whether it only grows; add what this test names."""
        pages = node_with_everything().overlay.pages("n1")
        assert pages is not None
        told = {*pages.counts(), *(f"wrtc_{name}" for name in WrtcCounters.__slots__)}
        told -= {
            *OverlayCounters().totals(),
            "overlay_bridge_nodes",
            "overlay_bridge_pending",
            "overlay_bridge_timeouts",
        }
        self.assertEqual({*OVERLAY_COUNTS, *OVERLAY_SIZES}, told)
        self.assertEqual(OVERLAY_COUNTS.keys() & OVERLAY_SIZES.keys(), set())

    def test_once(self) -> None:
        """Each sample stands there once."""
        samples = [line.rsplit(" ", 1)[0] for line in self.lines if not line.startswith("#")]
        self.assertEqual(len(samples), len(set(samples)))

    def test_reasons(self) -> None:
        """Every reason that the code counts is one of the fixed ones, which stand there from the start."""
        package = Path(meshrelay.__file__).parent
        overlay, transport = list((package / "overlay").glob("*.py")), (package / "transport").glob("overlay_*.py")
        deliveries, handshakes = ([package / "overlay" / f"{name}.py"] for name in ("deliveries", "handshakes"))
        for paths, pattern, name, form in (
            (overlay, r'\bdropped\["(\w+)"\] \+=', "dropped", 'reason="{}"'),
            (overlay, r'\b_?counters\["(\w+)"\] \+=', "deliveries", 'outcome="{}"'),
            (deliveries, r'\b_refuse\("(\w+)"\)', "deliveries", 'outcome="refused_{}"'),
            (handshakes, r'(?:\bcounts\[|\b_end\()"(\w+)"', "handshakes", 'outcome="{}"'),
            (transport, r'(?:\brefused\[|\b_refuse\()"(\w+)"', "connections_refused", 'reason="{}"'),
        ):
            source = "".join(path.read_text(encoding="utf-8") for path in paths)
            found = set(re.findall(pattern, source))
            self.assertTrue(found, pattern)
            for reason in found:
                sample = f"meshrelay_overlay_{name}_total{{{form.format(reason)}}} "
                self.assertTrue(any(line.startswith(sample) for line in self.lines), sample)
