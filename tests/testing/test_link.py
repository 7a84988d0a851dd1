"""The link in memory keeps the promises of the real ones."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from meshrelay.interfaces import IConnection, IUplink
from meshrelay.model import CloseReason
from meshrelay.testing.contracts import DownlinkUnderTest, check_downlink
from meshrelay.testing.link import MemoryConnection, MemoryLink
from meshrelay.wire.frame import Frame, FrameRun, encode_push
from meshrelay.wire.prepared import Batch


@implementer(IUplink)
class Listener:
    """Writes down what a link tells it."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def heard(self) -> None:
        """See `IUplink`."""
        self.told.append("heard")

    def run_received(self, run: FrameRun) -> None:
        """See `IUplink`."""
        self.told.append(f"frame {run.cmd}")

    def read_ended(self) -> None:
        """See `IUplink`."""

    def protocol_broken(self, error: object) -> None:
        """See `IUplink`."""
        self.told.append("broken")

    def outbox_overflowed(self, queued_bytes: int) -> None:
        """See `IUplink`."""
        self.told.append(f"overflowed {queued_bytes}")

    def pushes_dropped(self, count: int) -> None:
        """See `IUplink`."""
        self.told.append(f"dropped {count}")

    def failed(self) -> None:
        """See `IUplink`."""
        self.told.append("failed")

    def connection_lost(self, detail: str) -> None:
        """See `IUplink`."""
        self.told.append(f"lost {detail}")


class LinkTests(SynchronousTestCase):
    """`MemoryLink`."""

    def setUp(self) -> None:
        """A link with somebody behind it."""
        self.link = MemoryLink(limit_bytes=30)
        self.listener = Listener()
        self.link.uplink = self.listener

    def test_contract(self) -> None:
        """It passes the check that the links of the daemon pass."""

        def make() -> DownlinkUnderTest:
            link = MemoryLink()
            return DownlinkUnderTest(link, lambda: list(link.received))

        check_downlink(make)
        verifyObject(IUplink, self.listener)

    def test_stalled(self) -> None:
        """A stalled client reads nothing until it reads again; too much is told to the node."""
        self.link.stall()
        self.link.send_frame(encode_push(1, 1, b"a"))
        self.assertEqual((self.link.received, self.link.queued_bytes, self.listener.told), ([], 13, []))
        self.link.send_batch(Batch([encode_push(1, 2, b"123456")]))
        self.assertEqual(self.listener.told, ["overflowed 31"])
        self.link.unstall()
        self.assertEqual([frame.cmd for frame in self.link.received], [1, 2])

    def test_slow_consumer(self) -> None:
        """A client that is closed for being slow reads why, and not what it missed."""
        self.link.stall()
        self.link.send_frame(encode_push(1, 1, b"a"))
        self.link.close(CloseReason.SLOW_CONSUMER, "slow")
        self.assertEqual([frame.cmd for frame in self.link.received], [4])
        self.assertEqual((self.link.close_reason, self.link.close_text), (CloseReason.SLOW_CONSUMER, "slow"))

    def test_reading(self) -> None:
        """What a client sends waits while reading is paused."""
        self.link.frame_sent(Frame(1, 0, 1, 0, b""))
        self.link.pause_reading()
        self.link.frame_sent(Frame(1, 0, 2, 0, b""))
        self.assertEqual(self.listener.told, ["heard", "frame 1"])
        self.link.resume_reading()
        self.link.read()
        self.assertEqual(self.listener.told[2:], ["heard", "frame 2"])

    def test_udp_is_never_paused(self) -> None:
        """Like the real one, a udp link cannot be paused."""
        link = MemoryLink("udp")
        link.pause_reading()
        self.assertFalse(link.is_reading_paused)

    def test_lost(self) -> None:
        """Whoever is behind a link hears of its end once."""
        self.link.lose("cable")
        self.link.lose("cable")
        self.link.send_frame(encode_push(1, 1, b""))
        self.link.frame_sent(Frame(1, 0, 1, 0, b""))
        self.assertEqual((self.listener.told, self.link.received), (["lost cable"], []))

    def test_connection(self) -> None:
        """The connection around it keeps why it was closed."""
        connection = MemoryConnection(self.link)
        verifyObject(IConnection, connection)
        connection.close(CloseReason.KICKED, "out")
        connection.close(None, "")
        self.assertEqual(connection.closes, [CloseReason.KICKED, None])
        self.assertIs(self.link.close_reason, CloseReason.KICKED)
