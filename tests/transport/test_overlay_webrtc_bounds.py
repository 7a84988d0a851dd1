"""Bounds around aiortc, without a network."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from twisted.trial.unittest import SkipTest

from meshrelay.transport.overlay_webrtc_link import WrtcCounters
from tests.transport.test_overlay_webrtc import LoopTests, turns

try:
    from aioice import Candidate
    from aioice.ice import Connection
    from aiortc import RTCCertificate, RTCDtlsTransport, RTCIceGatherer, RTCIceTransport, RTCSctpTransport
    from aiortc.rtcsctptransport import DataChunk, InboundStream
    from twisted.logger import Logger

    from meshrelay.transport.overlay_webrtc_bounds import (
        MAX_CANDIDATES,
        MAX_DATAGRAMS,
        MAX_FRAGMENTS,
        MAX_PARTIAL_BYTES,
        MAX_STREAMS,
        bound_ice,
        bound_sctp,
        use_addresses,
    )
except ImportError as error:
    missing = f"missing: the extra webrtc ({error})"
else:
    missing = ""


def candidate(address: str, port: int = 9) -> Candidate:
    """One of the other end."""
    return Candidate("1", 1, "udp", 7, address, port, "host")


class BoundsTests(LoopTests):
    """Needs the extra."""

    def setUp(self) -> None:
        """Skip without it."""
        if missing:
            raise SkipTest(missing)
        self.counters = WrtcCounters()


class IceTests(BoundsTests):
    """What comes in before anybody has proved anything."""

    def connection(self, *refused: str) -> Any:
        """A bounded one."""
        made = Connection(ice_controlling=True)
        bound_ice(made, lambda address: address not in refused, self.counters)
        return made

    def test_datagrams(self) -> None:
        """At most 2,048 datagrams wait, whoever sends them; empty ones never do; the end always gets through."""

        async def test() -> None:
            ice = self.connection()
            ice.data_received(b"", 1)
            self.assertEqual(self.counters.datagrams_dropped, 1)
            for _ in range(MAX_DATAGRAMS + 5):
                ice.data_received(b"x", 1)
            self.assertEqual((ice._queue.qsize(), self.counters.datagrams_dropped), (MAX_DATAGRAMS, 6))
            ice._queue.put_nowait(None)
            self.assertEqual(ice._queue.qsize(), MAX_DATAGRAMS + 1)

        self.run_in_loop(test())

    def test_candidates(self) -> None:
        """At most 64 addresses of the other end are kept, and only such as are addresses and allowed."""

        async def test() -> None:
            ice = self.connection("10.0.0.9")
            for bad in (candidate("10.0.0.9"), candidate("localhost"), candidate("10.0.0.1", 0)):
                await ice.add_remote_candidate(bad)
            await ice.add_remote_candidate(candidate("10.0.0.1", 65536))
            self.assertEqual((ice.remote_candidates, self.counters.candidates_refused), ([], 4))
            for number in range(MAX_CANDIDATES + 1):
                await ice.add_remote_candidate(candidate(f"10.1.0.{number}"))
            self.assertEqual(len(ice.remote_candidates), MAX_CANDIDATES)
            self.assertEqual(self.counters.candidates_refused, 5)

        self.run_in_loop(test())

    def test_checks(self) -> None:
        """Checks from ever new addresses make no more than 64 of them known; those that are known still count."""

        async def test() -> None:
            ice = self.connection()
            protocol: Any = SimpleNamespace(local_candidate=candidate("10.2.0.1"))
            message: Any = SimpleNamespace(attributes={"PRIORITY": 7})
            started: list[Any] = []
            ice.check_start_task = started.append
            for port in range(1, MAX_CANDIDATES + 11):
                ice.check_incoming(message, ("10.2.0.2", port), protocol)
            self.assertEqual(len(ice.remote_candidates), MAX_CANDIDATES)
            self.assertEqual((len(started), self.counters.candidates_refused), (MAX_CANDIDATES, 10))
            ice.check_incoming(message, ("10.2.0.2", 1), protocol)
            self.assertEqual(len(started), MAX_CANDIDATES + 1)

        self.run_in_loop(test())

    def test_addresses(self) -> None:
        """Of the local addresses only those are used that were named."""

        async def test() -> None:
            ice = self.connection()
            asked: list[Any] = []

            async def gather(**options: Any) -> list[Candidate]:
                asked.append(options)
                return []

            ice.get_component_candidates = gather
            use_addresses(ice, ("127.0.0.1",))
            await ice.gather_candidates()
            self.assertEqual(asked, [{"component": 1, "addresses": ["127.0.0.1"]}])

        self.run_in_loop(test())


class SctpTests(BoundsTests):
    """What the other end sends when it is known."""

    def sctp(self) -> tuple[Any, list[str]]:
        """A bounded one, and what it says when it breaks."""
        dtls = RTCDtlsTransport(RTCIceTransport(RTCIceGatherer([])), [RTCCertificate.generateCertificate()])
        sctp = RTCSctpTransport(dtls)
        broken: list[str] = []
        return sctp, broken

    def bound(self, sctp: Any, broken: list[str]) -> None:
        """Lay the bounds around it."""
        bound_sctp(sctp, broken.append, self.counters, Logger())

    def test_honest(self) -> None:
        """What may wait may wait, to the last fragment."""

        async def test() -> None:
            sctp, broken = self.sctp()
            self.bound(sctp, broken)
            stream = sctp._inbound_streams[0] = InboundStream()
            stream.reassembly = [DataChunk()] * MAX_FRAGMENTS
            sctp._advertised_rwnd = -MAX_PARTIAL_BYTES
            await sctp._handle_data(b"no packet")
            self.assertEqual((broken, self.counters.faults), ([], 0))

        self.run_in_loop(test())

    def test_bounds(self) -> None:
        """One fragment, one byte or one stream too many ends the connection."""

        async def test() -> None:
            for case in range(4):
                sctp, broken = self.sctp()
                self.bound(sctp, broken)
                stream = sctp._inbound_streams[0] = InboundStream()
                if case == 0:
                    stream.reassembly = [DataChunk()] * (MAX_FRAGMENTS + 1)
                elif case == 1:
                    sctp._advertised_rwnd = -MAX_PARTIAL_BYTES - 1
                elif case == 2:
                    sctp._inbound_streams.update({number: InboundStream() for number in range(MAX_STREAMS + 1)})
                else:
                    sctp._sack_misordered = set(range(MAX_FRAGMENTS + 1))
                await sctp._handle_data(b"no packet")
                self.assertEqual(broken, ["it sent more than may wait"])
            self.assertEqual(self.counters.faults, 4)

        self.run_in_loop(test())

    def test_raises(self) -> None:
        """A packet that aiortc raises at ends the connection, and nothing else."""

        async def test() -> None:
            sctp, broken = self.sctp()

            async def handle(data: bytes) -> None:
                raise AssertionError("as aiortc does")

            sctp._handle_data = handle
            self.bound(sctp, broken)
            await sctp._handle_data(b"bad")
            self.assertEqual((broken, self.counters.faults), (["it broke the rules of SCTP"], 1))

        self.run_in_loop(test())

    def test_too_late(self) -> None:
        """What SCTP sends behind the end of DTLS is no error."""

        async def test() -> None:
            sctp, broken = self.sctp()
            self.bound(sctp, broken)
            sctp._remote_port = 5000
            await sctp._init()
            await sctp.stop()
            await turns()
            self.assertEqual(broken, [])

        self.run_in_loop(test())
