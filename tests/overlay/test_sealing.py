"""Contents that only one peer can read, and nobody can change."""

from __future__ import annotations

from base64 import b64decode, b64encode

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.overlay.identity import PUBLIC_BYTES, Identity
from meshrelay.overlay.sealing import SEAL_BYTES, BadSeal, Opened, Sealer, SealFault

ANNA, BEN, EVE = (Identity(bytes([number]) * 32) for number in (1, 2, 3))
RUN = b"r" * 16


class SealingTests(SynchronousTestCase):
    """Anna writes to Ben; Eve would like to read it."""

    def setUp(self) -> None:
        self.anna = Sealer(ANNA, RUN)
        self.ben = Sealer(BEN, b"R" * 16)

    def seal(self, content: bytes = b"hello") -> bytes:
        return self.anna.seal(BEN.peer_id, BEN.public, content)

    def fault(self, data: bytes | None, sender: Identity = ANNA, opener: Sealer | None = None) -> SealFault:
        error: BadSeal = self.assertRaises(BadSeal, (opener or self.ben).open, sender.peer_id, sender.public, data)
        return error.fault

    def test_open(self) -> None:
        """Ben reads what Anna wrote, and knows from which start of hers it is."""
        self.assertEqual(self.ben.open(ANNA.peer_id, ANNA.public, self.seal()), Opened(RUN, b"hello"))
        self.assertEqual(self.ben.open(ANNA.peer_id, ANNA.public, self.seal(b"")), Opened(RUN, b""))

    def test_size(self) -> None:
        """A seal adds what it says."""
        self.assertEqual(len(b64decode(self.seal(b"x" * 100)[1:-1])), SEAL_BYTES + 100)

    def test_never_the_same(self) -> None:
        """The same words look different each time."""
        self.assertEqual(len({self.seal() for _ in range(5)}), 5)

    def test_directions(self) -> None:
        """What Anna wrote to Ben cannot be turned round as if Ben had written it."""
        data = self.seal()
        self.assertEqual(self.fault(data, BEN, self.anna), SealFault.SEAL)

    def test_eve(self) -> None:
        """Eve can neither read it nor pass it off as hers or as somebody else's."""
        data = self.seal()
        self.assertEqual(self.fault(data, ANNA, Sealer(EVE, b"e" * 16)), SealFault.SEAL)
        self.assertEqual(self.fault(data, EVE), SealFault.SEAL)
        self.assertEqual(self.fault(Sealer(EVE, RUN).seal(BEN.peer_id, BEN.public, b"hello")), SealFault.SEAL)

    def test_every_bit(self) -> None:
        """A box in which anything was changed does not open."""
        sealed = b64decode(self.seal()[1:-1])
        for index in range(len(sealed)):
            changed = sealed[:index] + bytes([sealed[index] ^ 1]) + sealed[index + 1 :]
            self.assertIn(self.fault(b'"%b"' % b64encode(changed)), (SealFault.SEAL, SealFault.VERSION))

    def test_every_cut(self) -> None:
        """A box that was cut off anywhere does not open."""
        sealed = b64decode(self.seal()[1:-1])
        for length in range(len(sealed)):
            self.assertIn(self.fault(b'"%b"' % b64encode(sealed[:length])), (SealFault.SEAL, SealFault.MALFORMED))
        self.assertEqual(self.fault(b'"%b"' % b64encode(sealed + b"x")), SealFault.SEAL)

    def test_malformed(self) -> None:
        """What is no string of base64 is refused as such."""
        for data in (
            None,
            b"",
            b'"',
            b'""',
            b"null",
            b"{}",
            b'"AAAA',
            b'"!!!!"',
            b'"AAA"',
            b'"\\u0041AAA"',
            b'["AA=="]',
        ):
            self.assertEqual(self.fault(data), SealFault.MALFORMED)

    def test_version(self) -> None:
        """A box of a later version is refused as such."""
        sealed = b64decode(self.seal()[1:-1])
        self.assertEqual(self.fault(b'"%b"' % b64encode(b"\2" + sealed[1:])), SealFault.VERSION)

    def test_weak_key(self) -> None:
        """A peer with a public key that makes every secret the same is not written to."""
        self.assertFalse(self.anna.prepare(b"z" * 20, bytes(PUBLIC_BYTES)))
        self.assertTrue(self.anna.prepare(BEN.peer_id, BEN.public))
        error = self.assertRaises(BadSeal, self.anna.seal, b"z" * 20, bytes(PUBLIC_BYTES), b"")
        self.assertEqual(error.fault, SealFault.KEY)

    def test_bound(self) -> None:
        """Keys are bounded in both directions, and one that was forgotten is derived again."""
        anna = Sealer(ANNA, RUN, max_keys=2)
        others = [Identity(bytes([number]) * 32) for number in range(10, 15)]
        for other in others:
            data = anna.seal(other.peer_id, other.public, b"x")
            self.assertEqual(Sealer(other, b"o" * 16).open(ANNA.peer_id, ANNA.public, data).content, b"x")
            back = Sealer(other, b"o" * 16).seal(ANNA.peer_id, ANNA.public, b"y")
            anna.open(other.peer_id, other.public, back)
        self.assertEqual(anna.key_count, 4)
        self.assertEqual(anna.seal(others[0].peer_id, others[0].public, b"x")[:1], b'"')

    def test_invented_runs(self) -> None:
        """Boxes that do not open push no key out."""
        self.ben.open(ANNA.peer_id, ANNA.public, self.seal())
        for number in range(20):
            forged = bytes([1]) + bytes([number]) * 16 + bytes(8) + bytes(16)
            self.assertEqual(self.fault(b'"%b"' % b64encode(forged)), SealFault.SEAL)
        self.assertEqual(self.ben.key_count, 1)
