"""Signed envelopes."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.overlay.identity import Identity, unpadded
from meshrelay.overlay.signing import (
    BAD,
    MAX_NUMBER,
    NOT_SIGNED,
    NotVerified,
    Unsignable,
    Verified,
    public_key_of,
    shown_key,
    sign,
    verify,
    verify_seconds,
)
from meshrelay.wire.overlay import EXTRA_KEY, Envelope, decode_frame, encode_frame, new_envelope

ANNA, BEN, EVE = (Identity(bytes([number]) * 32) for number in (1, 2, 3))
RUN = b"r" * 16
KNOWN_SIGNATURE = "kXB9kg48RqYbdYM5RF2cTbWuSGWazsTldLexw5-KkU4RXn02E9Ycxle5_gP9gYqKxotEA60IMBUbR8vepbqkCA"


def envelope(data: bytes | None = b'{"a":[1,2.5,"x"]}', type: str = "user") -> Envelope:
    """From Anna to Ben."""
    return new_envelope(BEN.peer_id, ANNA.peer_id, "123456", type, data)


def relayed(sent: Envelope) -> Envelope:
    """What comes out of one of our relays."""
    return decode_frame(encode_frame(decode_frame(encode_frame(sent, sent.sender)), BEN.peer_id))


def proof(sent: Envelope) -> dict[str, Any]:
    """What the envelope carries."""
    found: dict[str, Any] = json.loads(sent.extras[EXTRA_KEY])
    return found


def with_proof(sent: Envelope, **changes: Any) -> Envelope:
    """The envelope with parts of the proof changed."""
    return sent._replace(extras={EXTRA_KEY: msgspec.json.encode(proof(sent) | changes)})


class SigningTests(SynchronousTestCase):
    """Anna signs; Ben looks at it."""

    def test_verified(self) -> None:
        """What Anna signed is hers, also behind relays."""
        self.assertEqual(verify(relayed(sign(envelope(), ANNA))), Verified(ANNA.public, 0, b""))
        self.assertEqual(verify(relayed(sign(envelope(None), ANNA))), Verified(ANNA.public, 0, b""))

    def test_numbered(self) -> None:
        """A message has a number, and it is Anna's too."""
        self.assertEqual(verify(relayed(sign(envelope(), ANNA, 7, RUN))), Verified(ANNA.public, 7, RUN))

    def test_known_value(self) -> None:
        """The signature is the same in every version, or our nodes would not know each other any more."""
        self.assertEqual(proof(sign(envelope(), ANNA, 7, RUN))["sig"], KNOWN_SIGNATURE)

    def test_not_signed(self) -> None:
        """What JavaScript peers send is not signed, and not bad."""
        self.assertIs(verify(relayed(envelope())), NOT_SIGNED)
        self.assertEqual(verify_seconds(envelope()), 0.0)

    def test_changed(self) -> None:
        """Whatever a relay changes in it, the signature tells."""
        signed = sign(envelope(), ANNA, 7, RUN)
        changed = [
            signed._replace(to=EVE.peer_id),
            signed._replace(nonce="123457"),
            signed._replace(type="signal"),
            signed._replace(data=b'{"a":[1,2.5,"y"]}'),
            signed._replace(data=None),
            with_proof(signed, id=8),
            with_proof(signed, run=unpadded(b"R" * 16)),
            sign(envelope(), ANNA)._replace(data=b"null"),
        ]
        self.assertEqual([verify(each) for each in changed], [BAD] * len(changed))

    def test_path_is_free(self) -> None:
        """Relays put themselves into the path, which breaks nothing."""
        signed = sign(envelope(), ANNA)
        self.assertIsInstance(verify(signed._replace(path=(EVE.peer_id,) * 5)), Verified)

    def test_forged(self) -> None:
        """Eve cannot sign for Anna: neither with her own key, nor with her signature under Anna's key."""
        self.assertIs(verify(sign(envelope(), EVE)), BAD)
        self.assertIs(verify(with_proof(sign(envelope(), EVE), key=unpadded(ANNA.public))), BAD)
        mixed = ANNA.public[:32] + EVE.public[32:]
        self.assertIs(verify(with_proof(sign(envelope(), ANNA), key=unpadded(mixed))), BAD)

    def test_malformed(self) -> None:
        """A proof of any other form is bad, and never an error."""
        signed = sign(envelope(), ANNA, 7, RUN)
        changes: list[dict[str, Any]] = [
            {"v": 2},
            {"v": "1"},
            {"v": None},
            {"key": ""},
            {"key": unpadded(ANNA.public) + "="},
            {"key": "é" * 86},
            {"key": 5},
            {"sig": "!"},
            {"sig": unpadded(bytes(64))},
            {"sig": unpadded(bytes(63))},
            {"sig": 5},
            {"id": -1},
            {"id": 0},
            {"id": True},
            {"id": MAX_NUMBER + 1},
            {"id": 1 << 80},
            {"run": ""},
            {"run": unpadded(b"r" * 15)},
            {"run": "?"},
        ]
        for change in changes:
            self.assertIs(verify(with_proof(signed, **change)), BAD, change)
        for raw in (b"null", b"[]", b"{}", b'"x"', b"1", b"[" * 100 + b"]" * 100):
            self.assertIs(verify(signed._replace(extras={EXTRA_KEY: raw})), BAD, raw)

    def test_later_versions(self) -> None:
        """What later versions add to the proof is no reason to refuse it."""
        self.assertIsInstance(verify(with_proof(sign(envelope(), ANNA), more=[1])), Verified)

    def test_other_extras(self) -> None:
        """What else an envelope carries stays."""
        signed = sign(envelope()._replace(extras={"other": b"1"}), ANNA)
        self.assertEqual((signed.extras["other"], type(verify(signed))), (b"1", Verified))

    def test_cost(self) -> None:
        """What a signature will cost to look at can be told beforehand, and grows with what is to be looked at."""
        small, large = sign(envelope(b"1"), ANNA), sign(envelope(b"[" + b"1," * 1000 + b"1]"), ANNA)
        self.assertGreater(verify_seconds(large), 2 * verify_seconds(small))


class ShownKeyTests(SynchronousTestCase):
    """An envelope that shows a key and is not signed."""

    def test_shown(self) -> None:
        """The key is found, and nothing is proved."""
        shown = relayed(shown_key(envelope(), ANNA))
        self.assertEqual((public_key_of(shown), verify(shown)), (ANNA.public, NOT_SIGNED))
        self.assertEqual(public_key_of(sign(envelope(), ANNA)), ANNA.public)

    def test_not_shown(self) -> None:
        """No key, or one of somebody else, is none."""
        self.assertIsNone(public_key_of(envelope()))
        self.assertIsNone(public_key_of(shown_key(envelope(), EVE)))
        self.assertIsNone(public_key_of(with_proof(shown_key(envelope(), ANNA), v=3)))


class ValueTests(SynchronousTestCase):
    """Values as JavaScript sees them."""

    def same(self, signed_as: bytes, arrives_as: bytes) -> bool:
        outcome = verify(sign(envelope(signed_as), ANNA)._replace(data=arrives_as))
        return not isinstance(outcome, NotVerified)

    def test_spellings(self) -> None:
        """Two spellings of one value are one value."""
        pairs = [
            (b"1.0", b"1"),
            (b"-0", b"0"),
            (b"-0.0", b"0"),
            (b"1e21", b"1000000000000000000000"),
            (b"9007199254740993", b"9007199254740992"),
            (b"123456789012345678901234567890", b"1.2345678901234568e+29"),
            (b'{"b":1,"a":2}', b'{"a":2,"b":1}'),
            (b'{"10":1,"9":2}', b'{"9":2,"10":1}'),
            (b'{"a":1,"a":2}', b'{"a":2}'),
            (b'"\\u00e9\\/"', '"é/"'.encode()),
            (b" [ 1 , 2 ] ", b"[1,2]"),
            (b'"\\ud83d\\ude00"', '"😀"'.encode()),
        ]
        self.assertEqual([pair for pair in pairs if not self.same(*pair)], [])

    def test_values(self) -> None:
        """Two values are never one, however alike they look."""
        pairs = [
            (b"1", b'"1"'),
            (b"0", b"false"),
            (b"1", b"true"),
            (b"null", b'"null"'),
            (b"[1,2]", b"[2,1]"),
            (b"[1,2]", b'{"0":1,"1":2}'),
            (b"9007199254740991", b"9007199254740992"),
            (b'"e\\u0301"', '"é"'.encode()),
            (b"{}", b"[]"),
        ]
        self.assertEqual([pair for pair in pairs if self.same(*pair)], [])

    def test_unsignable(self) -> None:
        """What JavaScript cannot hold is refused before it is sent, with a reason."""
        for data in (b"1e400", b"-1e400", b"1" + b"0" * 400, b'"\\ud800"', b"NaN", b"Infinity", b"nope", b""):
            self.assertTrue(str(self.assertRaises(Unsignable, sign, envelope(data), ANNA)), data)
        self.assertRaises(Unsignable, sign, envelope(b"[" * 5000 + b"]" * 5000), ANNA)
