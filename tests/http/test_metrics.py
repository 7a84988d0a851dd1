"""Counters as prometheus samples."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

import meshrelay
from meshrelay.counters import NodeCounters
from meshrelay.errors import ErrorCode
from meshrelay.http.lag import LagMeter
from meshrelay.http.metrics import DROPS, REFUSALS, REJECTIONS, RESUMES, MetricSources, make_registry
from meshrelay.interfaces import IComponent, ISession
from meshrelay.model import CloseReason, User
from meshrelay.session.auth import OpenAuthenticator
from meshrelay.testing.memory_mesh import MemoryMesh
from tests.http.exchange import SiteUnderTest, parse_responses


class _Session:
    """As much of a session as the page reads."""

    def __init__(self, transport: str, is_attached: bool, queued_bytes: int, replay_bytes: int) -> None:
        self.user = User("alice", "0" * 32, transport)
        self.is_attached = is_attached
        self.queued_bytes = queued_bytes
        self.replay_bytes = replay_bytes


class _Component:
    name = "groups"

    def statistics(self) -> Mapping[str, int]:
        return {"groups": 3, "group_members": 7}


class MetricsTests(SynchronousTestCase):
    """What an operator's prometheus reads."""

    def setUp(self) -> None:
        """Make a node's counters, and the page over them."""
        self.counters = NodeCounters()
        self.clock = Clock()
        self.lag = LagMeter(self.clock, self.counters)
        self.sessions: list[Any] = []
        components: list[Any] = [_Component()]
        self.sources = MetricSources(
            node_id="node-1",
            version="1.2",
            counters=self.counters,
            sessions=cast("list[ISession]", self.sessions),
            components=cast("list[IComponent]", components),
            udp_reservations=lambda: 4,
            lag=self.lag,
            udp_socket_buffers=lambda: (4096, 8192),
        )
        self.under_test = SiteUnderTest(OpenAuthenticator(), registry=make_registry(self.sources))

    def test_page_of_all(self) -> None:
        """A page that is made of several processes is sent when they have answered."""
        coming: Deferred[bytes] = Deferred()
        under_test = SiteUnderTest(OpenAuthenticator(), metrics_page=lambda: coming)
        transport = under_test.begin("/metrics")
        self.assertEqual(transport.value(), b"")
        coming.callback(b"x 1\n")
        (response,) = parse_responses(transport.value())
        self.assertEqual((response.status, response.body), (200, b"x 1\n"))
        self.assertTrue(response.headers["Content-Type"].startswith("text/plain; version=0.0.4"))

    def samples(self) -> dict[tuple[str, tuple[str, ...]], float]:
        """Return the page: (name, values of labels by the order of their names) -> value."""
        response = self.under_test.ask("/metrics")
        self.assertEqual(response.status, 200)
        self.assertTrue(response.headers["Content-Type"].startswith("text/plain; version=0.0.4"))
        families = text_string_to_metric_families(response.body.decode("utf-8"))
        return {
            (sample.name, tuple(sample.labels[label] for label in sorted(sample.labels))): sample.value
            for family in families
            for sample in family.samples
        }

    def test_zeros(self) -> None:
        """Every fixed label stands there before anything happened."""
        samples = self.samples()
        expected = [
            ("meshrelay_sessions", ("udp",)),
            ("meshrelay_connections", ("tcp",)),
            ("meshrelay_connections_total", ("websocket",)),
            ("meshrelay_messages_total", ("received", "tcp")),
            ("meshrelay_bytes_total", ("sent", "udp")),
            ("meshrelay_outbox_dropped_total", ("drop_oldest",)),
            ("meshrelay_packets_rejected_total", ("replayed",)),
            ("meshrelay_packets_dropped_total", ("too_large",)),
            ("meshrelay_refused_total", ("max_connections",)),
            ("meshrelay_resumes_total", ("recovered",)),
            ("meshrelay_closes_total", ("lost", "udp")),
            *(("meshrelay_errors_total", (code.name.lower(),)) for code in ErrorCode),
            *(("meshrelay_closes_total", (reason.name.lower(), "tcp")) for reason in CloseReason),
        ]
        self.assertEqual([samples.get(key) for key in expected], [0.0] * len(expected))

    def test_counters(self) -> None:
        """What was counted is what is read."""
        counters = self.counters
        tcp = counters.transports["tcp"]
        tcp.connections, tcp.connections_total, tcp.messages_sent, tcp.bytes_received = 2, 5, 11, 1300
        tcp.direct_writes = 6
        counters.closes["websocket", "slow_consumer"] += 3
        counters.errors[ErrorCode.NOT_MEMBER] += 4
        counters.errors[999] += 2
        counters.packets_rejected["seal"] += 8
        counters.resumes["recovered"] += 1
        counters.deliveries, counters.batches, counters.commands = 100, 10, 20
        counters.address_changes = 6
        samples = self.samples()
        expected = {
            ("meshrelay_connections", ("tcp",)): 2,
            ("meshrelay_connections_total", ("tcp",)): 5,
            ("meshrelay_messages_total", ("sent", "tcp")): 11,
            ("meshrelay_bytes_total", ("received", "tcp")): 1300,
            ("meshrelay_writes_total", ("direct", "tcp")): 6,
            ("meshrelay_closes_total", ("slow_consumer", "websocket")): 3,
            ("meshrelay_errors_total", ("not_member",)): 4,
            ("meshrelay_errors_total", ("other",)): 2,
            ("meshrelay_packets_rejected_total", ("seal",)): 8,
            ("meshrelay_resumes_total", ("recovered",)): 1,
            ("meshrelay_deliveries_total", ()): 100,
            ("meshrelay_batches_total", ()): 10,
            ("meshrelay_commands_total", ()): 20,
            ("meshrelay_address_changes_total", ()): 6,
        }
        self.assertEqual({key: samples.get(key) for key in expected}, expected)

    def test_sessions(self) -> None:
        """Sessions are counted by transport, those that are away apart; what waits for them is summed."""
        self.sessions += [_Session("tcp", True, 10, 1), _Session("tcp", True, 20, 2), _Session("udp", False, 0, 300)]
        samples = self.samples()
        expected = {
            ("meshrelay_sessions", ("tcp",)): 2,
            ("meshrelay_sessions", ("udp",)): 0,
            ("meshrelay_sessions_away", ()): 1,
            ("meshrelay_outbox_bytes", ()): 30,
            ("meshrelay_replay_bytes", ()): 303,
            ("meshrelay_udp_reservations", ()): 4,
            ("meshrelay_udp_socket_buffer_bytes", ("received",)): 4096,
            ("meshrelay_udp_socket_buffer_bytes", ("sent",)): 8192,
        }
        self.assertEqual({key: samples.get(key) for key in expected}, expected)

    def test_components(self) -> None:
        """Each component's own numbers are there."""
        samples = self.samples()
        self.assertEqual(samples["meshrelay_groups", ()], 3)
        self.assertEqual(samples["meshrelay_group_members", ()], 7)

    def test_lag(self) -> None:
        """The greatest lag is told once, the histogram each time."""
        self.lag.startService()
        self.clock.advance(0.75)
        first, second = self.samples(), self.samples()
        self.assertEqual(first["meshrelay_reactor_lag_seconds", ()], 0.25)
        self.assertEqual(second["meshrelay_reactor_lag_seconds", ()], 0)
        self.assertEqual(second["meshrelay_reactor_delay_seconds_bucket", ("0.25",)], 1)
        self.assertEqual(second["meshrelay_reactor_delay_seconds_count", ()], 1)

    def test_process(self) -> None:
        """The process itself is there: memory, descriptors, garbage collections, version of Python."""
        names = {name for name, _ in self.samples()}
        wanted = {"process_open_fds", "process_resident_memory_bytes", "python_gc_collections_total", "python_info"}
        self.assertLessEqual(wanted, names)

    def test_labels(self) -> None:
        """No label holds anything that a user can choose."""
        self.sessions.append(_Session("tcp", True, 0, 0))
        values = {value for _, labels in self.samples() for value in labels}
        self.assertFalse({"alice", "0" * 32} & values)

    def test_reasons(self) -> None:
        """Every reason that the code counts is one of the fixed ones, which stand there from the start."""
        patterns = {
            r'\brefused\["(\w+)"\] \+=': REFUSALS,
            r'\bpackets_dropped\["(\w+)"\] \+=': DROPS,
            r'\bresumes\["(\w+)"\] \+=': RESUMES,
            r'\bPacketRejected\("(\w+)"\)': REJECTIONS,
        }
        package = Path(meshrelay.__file__).parent
        # A node passes packets between peers on and never opens one.
        paths = [path for path in package.rglob("*.py") if path.name not in ("peer_packet.py", "peer_link.py")]
        # What the overlay counts has a page of its own.
        paths = [path for path in paths if "overlay" not in str(path.relative_to(package))]
        source = "".join(path.read_text(encoding="utf-8") for path in paths)
        for pattern, known in patterns.items():
            found = set(re.findall(pattern, source))
            self.assertTrue(found, pattern)
            self.assertLessEqual(found, set(known))

    def test_each_family_once(self) -> None:
        """No family stands there twice: prometheus would refuse the page."""
        lines = self.under_test.ask("/metrics").body.decode("utf-8").splitlines()
        names = [line.split()[2] for line in lines if line.startswith("# TYPE")]
        self.assertEqual(sorted(names), sorted(set(names)))

    def test_cluster(self) -> None:
        """Links and the directory are on the page of a node that has them, and no family twice then either."""
        mesh = MemoryMesh()
        links = mesh.add_node("n1").links
        sources = self.sources._replace(links=links, directory=lambda: {"users": 3, "calls": 4})
        self.under_test = SiteUnderTest(OpenAuthenticator(), registry=make_registry(sources))
        samples = self.samples()
        self.assertEqual(samples["meshrelay_directory_calls_total", ()], 4)
        self.assertEqual(samples["meshrelay_links", ("up",)], 0)
        self.test_each_family_once()

    def test_two_nodes(self) -> None:
        """Two nodes in one process do not see each other's numbers."""
        other = MetricSources("node-2", "1.2", NodeCounters(), [], [], lambda: 0, self.lag)
        make_registry(other)
        self.counters.commands = 7
        self.assertEqual(self.samples()["meshrelay_commands_total", ()], 7)
