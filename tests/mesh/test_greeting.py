"""Hello and Proof."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import LocalProtocolError, RemoteProtocolError
from meshrelay.mesh.errors import LinkRefused
from meshrelay.mesh.greeting import AcceptorGreeting, DialerGreeting, NodeIdentity
from meshrelay.wire.node import Refusal, Resume, encode_refusal

ONE, TWO = NodeIdentity("n1", b"1" * 16, 6), NodeIdentity("n2", b"2" * 16, 3)
HERE, THERE = Resume(1, 2, 3), Resume(4, 5, 6)


def dialer(
    identity: NodeIdentity = ONE, secret: bytes = b"secret", names: tuple[str, ...] | None = None
) -> DialerGreeting:
    """The end that dials."""
    return DialerGreeting(identity, secret, b"d" * 32, names)


def acceptor(
    identity: NodeIdentity = TWO, secret: bytes = b"secret", names: tuple[str, ...] | None = None
) -> AcceptorGreeting:
    """The end that is dialled."""
    return AcceptorGreeting(identity, secret, b"a" * 32, names)


class GreetingTests(SynchronousTestCase):
    """Two nodes meet."""

    def refused(self, left: DialerGreeting, right: AcceptorGreeting, expected: str | None = None) -> LinkRefused:
        """Greet and return why one of the two refuses."""
        with self.assertRaises(LinkRefused) as caught:
            left.hello_answered(right.hello_received(left.hello()), expected)
            right.proof_received(left.proof(HERE))
            left.proof_answered(right.welcome(THERE))
        refused: LinkRefused = caught.exception
        return refused

    def test_greeting(self) -> None:
        """Both learn who the other is, what it can, and where its batches stand."""
        left, right = dialer(names=("n2",)), acceptor(names=("n1", "other"))
        peer = left.hello_answered(right.hello_received(left.hello()), "n2")
        self.assertEqual((peer.node_id, peer.features, peer.incarnation), ("n2", 3, b"2" * 16))
        assert right.peer is not None
        self.assertEqual((right.peer.node_id, right.peer.features), ("n1", 6))
        self.assertEqual(right.proof_received(left.proof(HERE)), HERE)
        self.assertEqual(left.proof_answered(right.welcome(THERE)), THERE)

    def test_secret(self) -> None:
        """Different secrets are refused by the acceptor, which names both nodes and no secret."""
        refused = self.refused(dialer(), acceptor(secret=b"other"))
        self.assertEqual((refused.code, refused.text), (Refusal.SECRET, "n1 and n2 differ in the secret"))
        self.assertEqual(self.refused(dialer(secret=b""), acceptor()).code, Refusal.SECRET)

    def test_acceptor_without_secret(self) -> None:
        """An acceptor that does not know the secret cannot send the dialer's proof back as its own."""
        left, right = dialer(), acceptor()
        left.hello_answered(right.hello_received(left.hello()), None)
        proof = left.proof(HERE)
        refused = self.assertRaises(LinkRefused, left.proof_answered, b"\0" + proof)
        self.assertEqual(refused.code, Refusal.SECRET)

    def test_changed_on_the_way(self) -> None:
        """A Hello that was changed on the way, to speak an older version, breaks the proof."""
        left, right = dialer(NodeIdentity("n1", b"1" * 16, protocol=2)), acceptor()
        hello = bytearray(left.hello())
        hello[1] = 1
        left.hello_answered(right.hello_received(bytes(hello)), None)
        self.assertRaises(LinkRefused, right.proof_received, left.proof(HERE))

    def test_replay(self) -> None:
        """A proof of another connection is no proof."""
        left, right = dialer(), acceptor()
        left.hello_answered(right.hello_received(left.hello()), None)
        recorded = left.proof(HERE)
        other = AcceptorGreeting(TWO, b"secret", b"n" * 32, None)
        other.hello_received(left.hello())
        self.assertRaises(LinkRefused, other.proof_received, recorded)

    def test_versions(self) -> None:
        """Neighbouring versions link; without a common one either end refuses and says which it speaks."""
        new, old = NodeIdentity("n1", b"1" * 16, 0, 2, 1), TWO
        left, right = dialer(new), acceptor(old)
        left.hello_answered(right.hello_received(left.hello()), None)
        newer = NodeIdentity("n1", b"1" * 16, 0, 3, 2)
        refused = self.refused(dialer(newer), acceptor(old))
        self.assertEqual(refused.code, Refusal.VERSION)
        self.assertIn("n2 speaks versions 1 to 1, n1 2 to 3", refused.text)
        self.assertEqual(self.refused(dialer(old), acceptor(newer)).code, Refusal.VERSION)

    def test_certificates(self) -> None:
        """A node whose certificate is for another one is refused, by either end; one for no node as well."""
        for refused in (
            self.refused(dialer(), acceptor(names=("n3",))),
            self.refused(dialer(names=("n3",)), acceptor()),
            self.refused(dialer(), acceptor(names=())),
        ):
            self.assertEqual(refused.code, Refusal.WRONG_NODE)

    def test_expected(self) -> None:
        """Who dialled one node and met another goes away."""
        self.assertEqual(self.refused(dialer(), acceptor(), "n9").code, Refusal.WRONG_NODE)

    def test_self(self) -> None:
        """A node that dials itself, or another one of its own ID, is told which of the two it is."""
        self.assertEqual(self.refused(dialer(ONE), acceptor(ONE)).code, Refusal.SELF)
        twin = NodeIdentity("n1", b"x" * 16)
        self.assertEqual(self.refused(dialer(ONE), acceptor(twin)).code, Refusal.TWICE)

    def test_refused_by_the_other(self) -> None:
        """What the other end says is passed on as its words."""
        left = dialer()
        answer = encode_refusal(Refusal.BUSY, "later")
        refused = self.assertRaises(LinkRefused, left.hello_answered, answer, None)
        self.assertEqual((refused.code, refused.text, refused.is_peers), (Refusal.BUSY, "later", True))
        self.assertTrue(self.assertRaises(LinkRefused, left.proof_answered, answer).is_peers)

    def test_out_of_turn(self) -> None:
        """A Proof before a Hello and a second Hello are the peer's fault; a welcome before both is ours."""
        right = acceptor()
        self.assertRaises(RemoteProtocolError, right.proof_received, b"")
        self.assertRaises(LocalProtocolError, right.welcome, HERE)
        right.hello_received(dialer().hello())
        self.assertRaises(RemoteProtocolError, right.hello_received, dialer().hello())
        self.assertRaises(RemoteProtocolError, right.proof_received, b"rubbish")
