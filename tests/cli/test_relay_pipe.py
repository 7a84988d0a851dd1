"""Tests of `meshrelay.cli.relay_pipe`; the command as a process is in tests/interop."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.cli.relay import command
from meshrelay.cli.relay_pipe import Pipe, PipeTarget, RawStream, Traffic
from meshrelay.relay.errors import ConnClosed
from meshrelay.relay_client.errors import StreamBroken
from meshrelay.relay_client.options import TransportMode, transports
from tests.relay_client.memory_relay import MemoryRelays


class OptionTests(SynchronousTestCase):
    """What is asked on the command line."""

    def test_refused(self) -> None:
        """What cannot work is refused, with a word on what to do."""
        bad = Path(self.mktemp())
        bad.write_text("no hex")
        for options, status, text in (
            (("--to", "b"), 2, "--server"),
            (("--server", "rel://x", "--peer", "a", "--to", "a"), 2, "different names"),
            (("--server", "rel://x", "--peer", "a", "--to", "b", "--transport", "quic"), 2, "--raw"),
            (("--server", "rel://x", "--peer", "a", "--to", "b", "--secret-file", "gone"), 1, "cannot read gone"),
            (("--server", "rel://x", "--peer", "a", "--to", "b", "--token-file", str(bad)), 1, "hex"),
            (
                ("--server", "rel://x", "--peer", "a", "--to", "b", "--token-file", "t", "--secret-file", "s"),
                2,
                "--secret-file or --token-file",
            ),
        ):
            result = CliRunner().invoke(command, ["pipe", *options])
            self.assertEqual((result.exit_code, result.stdout), (status, ""), options)
            self.assertIn(text, result.stderr, options)

    def test_transports(self) -> None:
        """A stream leaves QUIC alone; raw messages may use it."""
        for is_raw, wanted in ((False, ("ws",)), (True, ("quic", "ws"))):
            target = PipeTarget("rel://x", "a", "b", None, None, TransportMode.AUTO, is_raw)
            options = target.options()
            self.assertEqual(transports(options.transport, options.mtu), wanted)

    def test_health_threshold(self) -> None:
        """How many silences end a connection is told by upstream's variable; what is no number means one."""
        for text, wanted in ((None, 1), ("3", 3), ("many", 1)):
            self.patch(os, "environ", {} if text is None else {"NB_RELAY_HC_ATTEMPT_THRESHOLD": text})
            target = PipeTarget("rel://x", "a", "b", None, None, TransportMode.AUTO, False)
            self.assertEqual(target.options().health_threshold, wanted)


class TrafficTests(SynchronousTestCase):
    """The line for people."""

    def test_line(self) -> None:
        """It has the totals and the speed since the last line; the summary has the speed over all."""
        now = [0.0]
        traffic = Traffic(lambda: now[0])
        traffic.sent_bytes, traffic.received_bytes = 1500, 2_500_000
        now[0] = 1.0
        self.assertEqual(traffic.line(), "sent 1.5 kB (1.5 kB/s), received 2.5 MB (2.5 MB/s)")
        now[0] = 2.0
        self.assertEqual(traffic.line(), "sent 1.5 kB (0 B/s), received 2.5 MB (0 B/s)")
        traffic.received_bytes = 4_000_000_000
        self.assertEqual(traffic.summary(), "sent 1.5 kB (750 B/s), received 4.0 GB (2.0 GB/s)")


class MemoryStdio:
    """Standard input and output in memory."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """See `IConsumer`."""

    def unregisterProducer(self) -> None:
        """See `IConsumer`."""

    def write(self, data: bytes) -> None:
        """See `ITransport`."""
        self.calls.append(data)

    def pauseProducing(self) -> None:
        """See `IPushProducer`."""
        self.calls.append("pause")

    def resumeProducing(self) -> None:
        """See `IPushProducer`."""
        self.calls.append("resume")

    def loseWriteConnection(self) -> None:
        """See `IHalfCloseableProtocol`."""
        self.calls.append("lose output")

    def loseConnection(self) -> None:
        """See `ITransport`."""
        self.calls.append("lose")


class MemoryStream:
    """Notes what a pipe wants."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.has_room = True

    def write(self, data: bytes) -> bool:
        """See `RelayStream`."""
        self.calls.append(data)
        return self.has_room

    def finish(self) -> None:
        """See `RelayStream`."""
        self.calls.append("finish")

    def abort(self) -> None:
        """See `RelayStream`."""
        self.calls.append("abort")

    def pause_reading(self) -> None:
        """See `RelayStream`."""
        self.calls.append("pause")

    def resume_reading(self) -> None:
        """See `RelayStream`."""
        self.calls.append("resume")


class PipeTests(SynchronousTestCase):
    """Between standard input and output and a stream."""

    def setUp(self) -> None:
        self.make(is_interactive=False)

    def make(self, is_interactive: bool) -> None:
        """A pipe in memory."""
        self.traffic = Traffic(lambda: 0.0)
        self.pipe = Pipe(self.traffic, is_interactive)
        self.stream: Any = MemoryStream()
        self.stdio: Any = MemoryStdio()
        self.pipe.join(self.stream)
        self.pipe.makeConnection(self.stdio)

    def test_flow(self) -> None:
        """Bytes go both ways and are counted; who is full pauses the other."""
        self.pipe.dataReceived(b"in")
        self.stream.has_room = False
        self.pipe.dataReceived(b"more")
        self.pipe.drained()
        self.pipe.data_received(b"out")
        self.pipe.pauseProducing()
        self.pipe.resumeProducing()
        self.pipe.stopProducing()
        self.assertEqual(self.stream.calls, [b"in", b"more", "pause", "resume"])
        self.assertEqual(self.stdio.calls, ["pause", "resume", b"out"])
        self.assertEqual((self.traffic.sent_bytes, self.traffic.received_bytes), (6, 3))

    def test_end(self) -> None:
        """All is done when the stream and both files are; what the peer has said stays written."""
        self.pipe.readConnectionLost()
        self.pipe.peer_finished()
        self.pipe.writeConnectionLost()
        self.assertEqual(self.stream.calls, ["finish"])
        self.assertNoResult(self.pipe.ended)
        self.pipe.stream_ended(None)
        self.successResultOf(self.pipe.ended)

    def test_interactive(self) -> None:
        """Where somebody types, the peer's end is the end."""
        self.make(is_interactive=True)
        self.pipe.peer_finished()
        self.assertEqual(self.stream.calls, ["finish"])
        self.pipe.stream_ended(None)
        self.pipe.connectionLost(Failure(ConnectionDone()))
        self.pipe.connectionLost(Failure(ConnectionDone()))
        self.successResultOf(self.pipe.ended)

    def test_reader_goes(self) -> None:
        """When nobody reads the output any more the pipe ends."""
        self.pipe.writeConnectionLost()
        self.assertEqual(self.stream.calls, ["abort"])
        self.pipe.stream_ended(ConnClosed())
        self.pipe.connectionLost(Failure(ConnectionDone()))
        self.failureResultOf(self.pipe.ended, ConnClosed)

    def test_broken(self) -> None:
        """A stream that breaks ends the pipe with its error."""
        self.pipe.stream_ended(StreamBroken("gone"))
        self.assertEqual(self.stdio.calls, ["lose"])
        self.pipe.connectionLost(Failure(ConnectionDone()))
        self.failureResultOf(self.pipe.ended, StreamBroken)


class RawTests(SynchronousTestCase):
    """Messages as they are."""

    def setUp(self) -> None:
        self.relays = MemoryRelays()
        self.relays.add_server()
        self.alice, self.bob = self.relays.pair()
        self.pipe = Pipe(Traffic(lambda: 0.0), False)
        self.stdio: Any = MemoryStdio()
        self.raw = RawStream(self.alice, self.pipe)
        self.pipe.join(self.raw)
        self.pipe.makeConnection(self.stdio)
        self.raw.start()

    def test_messages(self) -> None:
        """Each read is one message, a long one several; each message is one write."""
        self.pipe.dataReceived(b"hello")
        self.pipe.dataReceived(bytes(10000))
        self.relays.settle()
        sizes = [len(self.successResultOf(self.bob.read())) for _ in range(3)]
        self.assertEqual(sizes, [5, 8782, 1218])
        self.bob.write_nowait(b"back")
        self.relays.settle()
        self.assertEqual(self.stdio.calls[-1], b"back")
        self.raw.finish()
        self.assertFalse(self.alice.is_closed)

    def test_pause(self) -> None:
        """While the output is full nothing is read."""
        self.pipe.pauseProducing()
        for payload in (b"one", b"two"):
            self.bob.write_nowait(payload)
        self.relays.settle()
        self.assertEqual(self.stdio.calls, [b"one"])
        self.pipe.resumeProducing()
        self.assertEqual(self.stdio.calls, [b"one", b"two"])

    def test_peer_goes(self) -> None:
        """When the peer goes the pipe ends."""
        self.relays.links[1].cut()
        self.relays.settle()
        self.pipe.connectionLost(Failure(ConnectionDone()))
        self.failureResultOf(self.pipe.ended, ConnClosed)
        self.raw.abort()
