"""Tests of `meshrelay.client.udp`; what it needs a node for is in `tests.integration.test_client_udp`."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.client.address import parse_url
from meshrelay.client.errors import ConnectFailed
from meshrelay.client.links import Credentials
from meshrelay.client.options import ClientOptions
from meshrelay.client.udp import make_udp_link, open_udp_link
from tests.client.memory_udp import ENDPOINT, MemoryUdpReactor, UdpNodeEnd
from tests.client.test_links import RecordingReceiver


class OpenUdpLinkTests(SynchronousTestCase):
    """Opening."""

    def test_needs_a_user(self) -> None:
        """The endpoint call names the user, so one has to be given."""
        address = parse_url("udp+http://127.0.0.1:7000")
        opened = open_udp_link(Clock(), address, RecordingReceiver(), Credentials(None, "jwt"), ClientOptions())
        self.failureResultOf(opened, ConnectFailed)

    def test_made_for_the_endpoint(self) -> None:
        """The link talks to the place of the endpoint, with its secrets and a sequence number chosen by chance."""
        reactor = MemoryUdpReactor()
        options = ClientOptions(uniform=lambda low, high: high - 0.5)
        link = make_udp_link(reactor, RecordingReceiver(), ENDPOINT, "127.0.0.1", options)
        link.open()
        node = UdpNodeEnd(reactor)
        reactor.advance(0)
        [packet] = reactor.port.packets
        self.assertEqual(node.codec.open(packet).content[:4], ((1 << 32) - 2).to_bytes(4, "big"))
        self.assertEqual(reactor.port.peer, ("127.0.0.1", 7100))
        link.abort()
