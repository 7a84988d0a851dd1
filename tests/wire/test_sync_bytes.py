"""Sync bytes: the bytes of the specification, and nothing that lies about its size."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import MalformedPayload
from meshrelay.testing.contracts import check_codec
from meshrelay.wire.addresses import UdpAddress, make_address, parse_address
from meshrelay.wire.sync_bytes import (
    MAX_ADDRESSES,
    MAX_LINK_USERS,
    SyncBytes,
    SyncUser,
    decode_sync_bytes,
    encode_sync_bytes,
)
from tests.vectors import load_vectors

VECTORS = load_vectors("sync_bytes")
SECRET = bytes.fromhex(VECTORS["secret"])
ADDRESS = UdpAddress("203.0.113.5", 40000)


def users_of(vector: dict[str, Any]) -> tuple[SyncUser, ...]:
    """Return the users of a vector."""
    return tuple(SyncUser(name, tuple(map(parse_address, addresses))) for name, addresses in vector["users"])


def sized(field: bytes, size: int | None = None) -> bytes:
    """Return a field behind its size, or behind a wrong one."""
    return (len(field) if size is None else size).to_bytes(4, "big") + field


def user(addresses: bytes, user_id: bytes = b"ann") -> bytes:
    """Return one user with this address list, before base64."""
    return sized(user_id) + sized(b64encode(addresses))


addresses = st.builds(make_address, st.ip_addresses(v=4).map(str), st.integers(1, 65535)) | st.builds(
    make_address, st.ip_addresses(v=6).map(str), st.integers(1, 65535)
)
user_ids = st.text(st.characters(codec="utf-8"), min_size=1, max_size=32)
users = st.lists(
    st.builds(SyncUser, user_ids, st.lists(addresses, max_size=MAX_ADDRESSES).map(tuple)),
    max_size=6,
    unique_by=lambda each: each.user_id,
)


class VectorTests(SynchronousTestCase):
    def test_hand(self) -> None:
        """One user with one address, field by field."""
        hand = bytes.fromhex(VECTORS["hand"]["hex"])
        value = SyncBytes(SECRET, (SyncUser("ann", (UdpAddress("198.51.0.1", 9),)),))
        self.assertEqual(decode_sync_bytes(hand), value)
        self.assertEqual(encode_sync_bytes(*value), hand)

    def test_vectors(self) -> None:
        """Each shape is written and read byte for byte."""
        for vector in VECTORS["vectors"]:
            encoded = encode_sync_bytes(SECRET, users_of(vector))
            self.assertEqual(encoded.hex(), vector["hex"], vector["name"])
            self.assertEqual(decode_sync_bytes(encoded), SyncBytes(SECRET, users_of(vector)), vector["name"])

    def test_contract(self) -> None:
        """However they are cut or changed: a value that goes there and back, or the one error."""
        vectors = {bytes.fromhex(each["hex"]): SyncBytes(SECRET, users_of(each)) for each in VECTORS["vectors"]}
        check_codec(lambda value: encode_sync_bytes(*value), decode_sync_bytes, vectors, MalformedPayload)

    @settings(derandomize=True, max_examples=60, deadline=None)
    @given(st.binary(min_size=48, max_size=48), users)
    def test_any(self, secret: bytes, some: list[SyncUser]) -> None:
        """Any users go there and back."""
        self.assertEqual(decode_sync_bytes(encode_sync_bytes(secret, some)), SyncBytes(secret, tuple(some)))

    def test_public_first(self) -> None:
        """The order of the addresses is kept: the public one is the first."""
        vector = VECTORS["vectors"][1]
        decoded = decode_sync_bytes(bytes.fromhex(vector["hex"]))
        self.assertEqual([str(each.addresses[0]) for each in decoded.users], ["203.0.113.5:40000", "198.51.100.9:1"])


class BadInputTests(SynchronousTestCase):
    def problem(self, payload: bytes) -> str:
        """Return what the reader says."""
        problem: str = self.assertRaises(MalformedPayload, decode_sync_bytes, payload).text
        return problem

    def test_every_cut(self) -> None:
        """A truncated payload is refused with the name of the field, unless it ends between two users."""
        whole = bytes.fromhex(VECTORS["vectors"][1]["hex"])
        ends = {48, len(whole), len(encode_sync_bytes(SECRET, users_of(VECTORS["vectors"][1])[:1]))}
        for size in range(len(whole)):
            if size not in ends:
                problem = self.problem(whole[:size])
                self.assertTrue(problem.startswith(("keys", "user ID", "address list")), problem)

    def test_named_fields(self) -> None:
        """What is wrong is said, with the field."""
        one = sized(str(ADDRESS).encode())
        cases = {
            "keys: 48 bytes needed, 47 left": SECRET[:47],
            "user ID size: 4 bytes needed, 3 left": SECRET + b"\0\0\0",
            "user ID size: 4294967295 is over 128": SECRET + sized(b"ann", 0xFFFFFFFF),
            "user ID: 4 bytes needed, 3 left": SECRET + sized(b"ann", 4),
            "user ID: not UTF-8": SECRET + sized(b"\xff") + sized(b""),
            "user ID: user ID has 0 bytes, allowed are 1 to 128": SECRET + sized(b"") + sized(b""),
            "user ID: 'ann' is there twice": SECRET + user(one) + user(one),
            "address list size: 4 bytes needed, 0 left": SECRET + sized(b"ann"),
            "address list: 8 bytes needed, 4 left": SECRET + sized(b"ann") + sized(b"AAAA", 8),
            "address size: 4 bytes needed, 3 left": SECRET + user(b"\0\0\0"),
            "address size: 65 is over 64": SECRET + user(sized(b"1" * 65)),
            "address: 18 bytes needed, 17 left": SECRET + user(sized(b"203.0.113.5:40000", 18)),
            "address: not ASCII": SECRET + user(sized(b"\xff1.2.3.4:5")),
            "address: '1.2.3.4:99999' is not ip:port": SECRET + user(sized(b"1.2.3.4:99999")),
            f"address: more than {MAX_ADDRESSES} of one user": SECRET + user(one * (MAX_ADDRESSES + 1)),
        }
        for problem, payload in cases.items():
            self.assertEqual(self.problem(payload), problem)
        for text in (b"AAA", b"AA==AAAA", b"A-_A", b"AAAA\n", b" AAAA", b"A==="):
            self.assertIn("address list: not base64", self.problem(SECRET + sized(b"ann") + sized(text)))

    def test_bounds(self) -> None:
        """255 users and 16 addresses each fit; one more is refused, by the writer as well."""
        many = [SyncUser(f"user {number}", (ADDRESS,)) for number in range(MAX_LINK_USERS)]
        whole = encode_sync_bytes(SECRET, many)
        self.assertEqual(len(decode_sync_bytes(whole).users), 255)
        self.assertEqual(self.problem(whole + user(b"")), "user ID: more than 255 users")
        longest = parse_address("[2001:db8:1111:2222:3333:4444:5555:6666]:65535")
        full = [SyncUser("b" * 128, (longest,) * MAX_ADDRESSES)]
        self.assertEqual(decode_sync_bytes(encode_sync_bytes(SECRET, full)).users, tuple(full))
        self.assertRaises(ValueError, encode_sync_bytes, SECRET, [*many, SyncUser("one more", ())])
        self.assertRaises(ValueError, encode_sync_bytes, SECRET, [SyncUser("b", (ADDRESS,) * (MAX_ADDRESSES + 1))])
        self.assertRaises(ValueError, encode_sync_bytes, SECRET[1:], [])

    @settings(derandomize=True, max_examples=150, deadline=None)
    @given(st.binary(max_size=120))
    def test_garbage(self, garbage: bytes) -> None:
        """Garbage behind right keys is a value or the one error."""
        try:
            decoded = decode_sync_bytes(SECRET + garbage)
        except MalformedPayload:
            return
        self.assertEqual(decode_sync_bytes(encode_sync_bytes(*decoded)), decoded)
