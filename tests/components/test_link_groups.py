"""Cutting members into groups, and their sync bytes."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.components.link_groups import cut_into_groups, group_size, make_sync_bytes
from meshrelay.errors import LinkGroupSizeInvalid, MessageTooLarge
from meshrelay.wire.addresses import UdpAddress, parse_address
from meshrelay.wire.link_node import LinkFact
from meshrelay.wire.sync_bytes import decode_sync_bytes

SECRET = bytes(range(48))


def fact(user_id: str, latency: float | None = None, *addresses: str) -> LinkFact:
    """A member."""
    return LinkFact(user_id, "s", "n", "udp", latency, tuple(map(parse_address, addresses)))


class GroupTests(SynchronousTestCase):
    """Sizes and cuts."""

    def test_size(self) -> None:
        """0 is the configured size; anything below 2 or above that is refused."""
        self.assertEqual([group_size(each, 8) for each in (0, 2, 8)], [8, 2, 8])
        for wanted in (-1, 1, 9):
            with self.assertRaises(LinkGroupSizeInvalid):
                group_size(wanted, 8)

    def test_cut(self) -> None:
        """The nearest first; who was not measured comes last, in join order; the last group has the rest."""
        facts = [fact("e"), fact("c", 0.3), fact("a", 0.0), fact("d"), fact("b", 0.1)]
        groups = [[each.user_id for each in group] for group in cut_into_groups(facts, 2)]
        self.assertEqual(groups, [["a", "b"], ["c", "e"], ["d"]])
        self.assertEqual(cut_into_groups([], 2), [])


class SyncBytesTests(SynchronousTestCase):
    """What members are pushed."""

    def test_users(self) -> None:
        """All users in the order of the group, with their addresses, the public one first; none for who has none."""
        sync = decode_sync_bytes(
            make_sync_bytes(SECRET, [fact("b", 0, "198.51.100.1:1", "10.0.0.1:2"), fact("a")], 1000)
        )
        self.assertEqual(sync.secret, SECRET)
        self.assertEqual([user.user_id for user in sync.users], ["b", "a"])
        self.assertEqual(sync.users[0].addresses, (UdpAddress("198.51.100.1", 1), UdpAddress("10.0.0.1", 2)))
        self.assertEqual(sync.users[1].addresses, ())

    def test_too_long(self) -> None:
        """Where not all addresses fit the public one stays; if that does not fit the start fails."""
        many = ["198.51.100.1:1", *(f"10.0.0.{number}:4000" for number in range(1, 16))]
        facts = [fact(f"user{number}", 0, *many) for number in range(20)]
        sizes = {}
        for limit in (20_000, 5000, 2000, 1000):
            data = make_sync_bytes(SECRET, facts, limit)
            self.assertLessEqual(len(data), limit)
            users = decode_sync_bytes(data).users
            sizes[limit] = len(users[0].addresses)
            self.assertEqual({user.addresses[0] for user in users}, {UdpAddress("198.51.100.1", 1)})
        self.assertEqual(sizes, {20_000: 16, 5000: 8, 2000: 2, 1000: 1})
        with self.assertRaises(MessageTooLarge):
            make_sync_bytes(SECRET, facts, 700)
