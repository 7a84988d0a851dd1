"""What a node knows of its sessions for links."""

from __future__ import annotations

from meshrelay.components.link_facts import LinkFacts
from meshrelay.components.link_parts import LinkRules
from meshrelay.config.schema import LinkConfig
from meshrelay.interfaces import ISession
from meshrelay.testing.node import MemoryClient
from meshrelay.wire.commands import Command, CoreCommand
from meshrelay.wire.link_commands import MAX_LOCAL_ADDRESSES
from tests.components.link_kit import LinkTestCase, link_config


def payload(*addresses: str) -> bytes:
    """LINK_ADDRESSES as a client sends it that checks nothing."""
    return b"".join(bytes((len(each),)) + each.encode() for each in addresses)


class FactsTests(LinkTestCase):
    """One node."""

    node_ids = ("a",)

    def setUp(self) -> None:
        """Ann by UDP."""
        super().setUp()
        self.ann = self.client("ann")

    def session(self, client: MemoryClient) -> ISession:
        """Of a client."""
        session = client.connection.session
        assert session is not None
        return session

    def facts(self, **rules: bool) -> LinkFacts:
        """Facts of the node, by themselves."""
        return LinkFacts("a", self.rooms(), LinkRules.of(link_config(LinkConfig()))._replace(**rules))

    def addresses(self, facts: LinkFacts, client: MemoryClient) -> list[str]:
        """What others are told."""
        return [str(each) for each in facts.of(self.session(client)).addresses]

    def test_bad_addresses(self) -> None:
        """What is no address, or leads where nobody may be sent to, is refused as a whole."""
        for bad in (
            "", "10.0.0.1", "10.0.0.1:0", "host:1", "127.0.0.1:80", "169.254.169.254:80", "224.0.0.1:1", "0.0.0.0:1",
            "[fe80::1]:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "100.100.100.200:80", "255.255.255.255:1", "240.0.0.1:1",
        ):  # fmt: skip
            status, code, _ = self.ann.refusal(Command.LINK_ADDRESSES, payload("10.0.0.1:1", bad))
            self.assertEqual((status, code), (4, 1), bad)
        for cut in (b"\x09short", b"\xff", payload(*["10.0.0.1:1"] * (MAX_LOCAL_ADDRESSES + 1))):
            self.assertEqual(self.ann.refusal(Command.LINK_ADDRESSES, cut)[1], 1)
        self.assertEqual(self.count("sessions_with_addresses"), 0)

    def test_replaced(self) -> None:
        """Each LINK_ADDRESSES takes the place of the one before; an empty one leaves the public address."""
        facts = self.facts()
        for local in (["10.0.0.1:1", "10.0.0.2:1"], ["10.0.0.3:1"], []):
            facts.tell(self.session(self.ann), payload(*local))
            self.assertEqual(self.addresses(facts, self.ann), ["198.51.100.1:4000", *local])
            self.assertEqual(len(facts), bool(local))

    def test_bound(self) -> None:
        """At most 16 addresses of one client are told, each once."""
        facts = self.facts()
        most = [f"10.0.0.{number}:1" for number in range(1, MAX_LOCAL_ADDRESSES + 1)]
        facts.tell(self.session(self.ann), payload(*most))
        self.assertEqual(self.addresses(facts, self.ann), ["198.51.100.1:4000", *most])
        facts.tell(self.session(self.ann), payload("198.51.100.1:4000", "10.0.0.1:1", "10.0.0.1:1"))
        self.assertEqual(self.addresses(facts, self.ann), ["198.51.100.1:4000", "10.0.0.1:1"])

    def test_forgotten(self) -> None:
        """What a client has said ends with its session, and outlives a broken connection."""
        self.tell(self.ann, "10.0.0.1:1")
        self.ann.link.lose()
        self.cluster.run(0.1)
        self.assertEqual(self.count("sessions_with_addresses"), 1)
        self.ann = self.cluster["a"].sign_in("ann", "udp", resume=self.ann.sid)
        self.assertEqual(self.count("sessions_with_addresses"), 1)
        self.ann.send(CoreCommand.GOODBYE, ver=0)
        self.cluster.run(0.1)
        self.assertEqual(self.count("sessions_with_addresses"), 0)

    def test_who_has_no_address(self) -> None:
        """By TCP, away, not proved to be there, or at a link-local place: no address at all."""
        facts = self.facts()
        bob = self.client("bob", transport="tcp")
        self.assertIsNone(facts.tell(self.session(bob), payload("10.0.0.1:1")))
        self.assertEqual(self.addresses(facts, bob), [])
        session = self.session(self.ann)
        facts.tell(session, payload("10.0.0.1:1"))
        for address in (None, ("fe80::1%eth0", 1), ("fe80::1", 1), ("127.0.0.1", 1)):
            self.ann.link.udp_address = address
            self.assertEqual(self.addresses(facts, self.ann), [], address)
        self.ann.link.lose()
        self.assertEqual(facts.of(session).addresses, ())

    def test_loopback_and_private(self) -> None:
        """Loopback is told where it is allowed, private addresses are not where they are not."""
        self.ann.link.udp_address = ("127.0.0.1", 9)
        facts = self.facts(allow_loopback=True)
        facts.tell(self.session(self.ann), payload("127.0.0.1:8", "10.0.0.1:8"))
        self.assertEqual(self.addresses(facts, self.ann), ["127.0.0.1:9", "127.0.0.1:8", "10.0.0.1:8"])
        self.ann.link.udp_address = ("203.0.113.1", 9)
        facts = self.facts(allow_private=False)
        facts.tell(self.session(self.ann), payload("10.0.0.1:8", "203.0.113.1:8"))
        self.assertEqual(self.addresses(facts, self.ann), ["203.0.113.1:9", "203.0.113.1:8"])

    def test_measures(self) -> None:
        """A client that has said where it is is measured at once, rather than at the next heartbeat."""
        self.tell(self.ann)
        [ping] = [frame for frame in self.ann.frames() if frame.ver == 0]
        self.cluster.run(0.2)
        self.ann.send(CoreCommand.PONG, ping.payload, ver=0)
        latency = self.session(self.ann).latency_seconds
        assert latency is not None
        self.assertAlmostEqual(latency, 0.2, places=1)
        self.tell(self.ann)
        self.assertEqual(self.ann.frames(), [])
