"""What the admin API does, on one node of three and for users of all."""

from __future__ import annotations

from meshrelay.http.admin_actions import MAX_REASON_BYTES, AdminActions
from meshrelay.http.admin_bodies import Announcement, GroupMessage, NewMessage
from meshrelay.testing.builders import make_group_id
from meshrelay.wire.commands import Command
from tests.http.admin_cluster import STATIC, AdminTestCase

NOWHERE = make_group_id("nowhere")


class PublishTests(AdminTestCase):
    """Messages of the server in groups."""

    def setUp(self) -> None:
        """Ann and bob are in a group of node b; cat is elsewhere."""
        super().setUp()
        self.ann, self.bob = self.sign_in("ann", "b"), self.sign_in("bob", "c")
        self.lobby = self.ann.create_group()
        self.cluster.join(self.bob, self.lobby)
        self.heard(self.ann)

    def test_elsewhere(self) -> None:
        """A group that the asked node does not hold gets the message by a node that does: all members, once."""
        done = self.act(AdminActions.publish, GroupMessage(text="hi"), group=self.lobby)
        self.assertIn(done.node, ("b", "c"))
        for client in (self.ann, self.bob):
            self.assertEqual(self.heard(client), [("server", b"hi")])

    def test_here(self) -> None:
        """In a group that the asked node holds it is published there."""
        cat = self.sign_in("cat", "a")
        self.cluster.join(cat, self.lobby)
        done = self.act(AdminActions.publish, GroupMessage(body=b"\xff"), group=self.lobby)
        self.assertEqual((done.node, done.group), ("a", self.lobby))
        for client in (self.ann, self.bob, cat):
            self.assertEqual(self.heard(client), [("server", b"\xff")])

    def test_sender(self) -> None:
        """It may come from any user ID that is one."""
        self.act(AdminActions.publish, GroupMessage(text="x", sender="ann"), group=self.lobby)
        self.assertEqual(self.heard(self.bob), [("ann", b"x")])
        for sender in ("", "\u00e9" * 65):
            bad = GroupMessage(text="x", sender=sender)
            self.assertEqual(self.problem(AdminActions.publish, bad, group=self.lobby), ("invalid_body", "sender"))

    def test_as_the_application(self) -> None:
        """With ver and cmd the members get exactly that push."""
        self.act(AdminActions.publish, GroupMessage(text="raw", ver=9, cmd=300), group=self.lobby)
        self.cluster.run(0.05)
        [push] = self.bob.pushes()
        self.assertEqual((push.ver, push.cmd, push.payload), (9, 300, b"raw"))

    def test_refused(self) -> None:
        """A group that is none, an ID that is none, and a message that no client takes."""
        short = GroupMessage(text="x")
        self.assertEqual(self.problem(AdminActions.publish, short, group=NOWHERE), ("group_not_found", "group"))
        for group_id in ("short", "x" * 53, " " * 52, "\u00e9" * 52):
            self.assertEqual(self.problem(AdminActions.publish, short, group=group_id), ("bad_path", "group"))
        limit = 65536 - 53 - len("server")
        self.act(AdminActions.publish, GroupMessage(body=b"x" * limit), group=self.lobby)
        long = GroupMessage(body=b"x" * (limit + 1))
        self.assertEqual(self.problem(AdminActions.publish, long, group=self.lobby), ("too_large", "body"))
        self.act(AdminActions.publish, GroupMessage(body=b"x" * 65536, ver=2, cmd=1), group=self.lobby)

    def test_node_away(self) -> None:
        """While the only holder cannot be reached the caller is told to come back."""
        den = self.ann.create_group()
        self.cluster.run(0.05)
        self.cluster.links.mesh.part("a", "b")
        found = self.problem(AdminActions.publish, GroupMessage(text="x"), group=den)
        self.assertEqual(found[0], "node_unreachable")

    def test_all_groups(self) -> None:
        """Each group gets an announcement once, whichever nodes hold it; static groups too."""
        cat = self.sign_in("cat", "c")
        self.cluster.join(cat, STATIC)
        self.cluster.run(0.2)
        done = self.act(AdminActions.announce, Announcement(text="all"))
        self.assertEqual((done.groups, done.nodes_left_out), (2, ()))
        for client in (self.ann, self.bob, cat):
            self.assertEqual(self.heard(client), [("server", b"all")])

    def test_one_group(self) -> None:
        """An announcement may be for one group."""
        done = self.act(AdminActions.announce, Announcement(text="one", group=self.lobby))
        self.assertEqual(done.group, self.lobby)
        self.assertEqual(self.heard(self.bob), [("server", b"one")])
        bad = Announcement(text="one", group="x")
        self.assertEqual(self.problem(AdminActions.announce, bad), ("bad_path", "group"))


class UserTests(AdminTestCase):
    """Users of any node."""

    def setUp(self) -> None:
        """Ann is on node b."""
        super().setUp()
        self.ann = self.sign_in("\u00e4nn/1", "b", "udp")

    def test_look_up(self) -> None:
        """A user is found on any node, with what it is in."""
        lobby = self.ann.create_group()
        room = self.create_room(self.ann)
        self.sign_in("bob", "a")
        for user, node_id, transport in (("\u00e4nn/1", "b", "udp"), ("bob", "a", "tcp")):
            view = self.act(AdminActions.user, user=user)
            self.assertEqual(
                (view.user, view.node, view.transport, view.is_connected), (user, node_id, transport, True)
            )
            self.assertGreater(view.since, 0.0)
        self.assertEqual(self.act(AdminActions.user, user="\u00e4nn/1").groups, (lobby,))
        self.assertEqual(self.act(AdminActions.user, user="\u00e4nn/1").rooms, (room,))

    def test_away(self) -> None:
        """A user whose connection is lost is signed in, and said to be away."""
        self.ann.lose()
        self.assertFalse(self.act(AdminActions.user, user="\u00e4nn/1").is_connected)

    def test_kick(self) -> None:
        """A user of any node is told why, and is gone."""
        done = self.act(AdminActions.kick, None, {"reason": "be nice"}, user="\u00e4nn/1")
        self.assertEqual((done.user, done.node), ("\u00e4nn/1", "b"))
        self.cluster.run(0.1)
        self.assertTrue(self.ann.link.is_closed)
        goodbye = self.ann.link.received[-1].payload
        self.assertEqual((int.from_bytes(goodbye[:2], "big"), b"be nice" in goodbye), (4504, True))
        self.assertEqual(self.problem(AdminActions.kick, user="\u00e4nn/1"), ("user_not_found", "user"))
        bob = self.sign_in("bob", "a")
        self.assertEqual(self.act(AdminActions.kick, user="bob").node, "a")
        self.cluster.run(0.1)
        self.assertTrue(bob.link.is_closed)

    def test_reason(self) -> None:
        """The reason fits a close frame."""
        long = {"reason": "\u00e9" * (MAX_REASON_BYTES // 2 + 1)}
        self.assertEqual(self.problem(AdminActions.kick, None, long, user="\u00e4nn/1"), ("bad_query", "reason"))
        self.act(AdminActions.kick, None, {"reason": "x" * MAX_REASON_BYTES}, user="\u00e4nn/1")

    def test_direct(self) -> None:
        """A direct message reaches the user on its node, as the server's or as any push."""
        self.act(AdminActions.send_direct, NewMessage(text="hi"), user="\u00e4nn/1")
        self.act(AdminActions.send_direct, NewMessage(text="raw", ver=7, cmd=1), user="\u00e4nn/1")
        self.cluster.run(0.1)
        first, second = self.ann.pushes()
        self.assertEqual((first.ver, first.cmd, first.payload), (1, Command.DM_SEND, b"\x00hi"))
        self.assertEqual((second.ver, second.cmd, second.payload), (7, 1, b"raw"))

    def test_refused(self) -> None:
        """Nobody of that name, a name that is none, and a message that is none."""
        message = NewMessage(text="x")
        for run, body in ((AdminActions.send_direct, message), (AdminActions.user, None), (AdminActions.kick, None)):
            self.assertEqual(self.problem(run, body, user="nobody")[0], "user_not_found")
            self.assertEqual(self.problem(run, body, user="")[0], "bad_path")
            self.assertEqual(self.problem(run, body, user="x" * 129)[0], "bad_path")
        empty = NewMessage(text="")
        self.assertEqual(self.problem(AdminActions.send_direct, empty, user="\u00e4nn/1")[0], "message_empty")

    def test_directory_away(self) -> None:
        """Without the directory nobody is said to be gone."""
        self.cluster.directory.stop()
        for run in (AdminActions.user, AdminActions.kick):
            self.assertEqual(self.problem(run, user="\u00e4nn/1")[0], "directory_away")

    def test_node_away(self) -> None:
        """A user whose node cannot be reached is not said to be gone."""
        self.cluster.links.mesh.part("a", "b")
        for run in (AdminActions.user, AdminActions.kick):
            self.assertEqual(self.problem(run, user="\u00e4nn/1")[0], "node_unreachable")


class ListTests(AdminTestCase):
    """Groups and rooms of all nodes."""

    def setUp(self) -> None:
        """Six groups on three nodes, and the static one on all."""
        super().setUp()
        self.clients = [self.sign_in(f"user-{node_id}", node_id) for node_id in self.node_ids]
        self.groups = [client.create_group() for client in self.clients for _ in range(2)]
        self.cluster.run(0.1)

    def page(self, **query: str) -> tuple[list[str], str | None]:
        """IDs of one page, and its cursor."""
        page = self.act(AdminActions.groups, None, query)
        self.assertEqual(page.nodes_left_out, ())
        return [group.id for group in page.groups], page.next

    def test_all(self) -> None:
        """All groups stand there once, sorted, however many nodes hold one."""
        self.cluster.join(self.clients[0], self.groups[5])
        self.assertEqual(self.page(), (sorted([*self.groups, STATIC]), None))
        row = next(row for row in self.act(AdminActions.groups).groups if row.id == self.groups[5])
        self.assertEqual((row.members, row.nodes, row.is_static), (2, 2, False))

    def test_pages(self) -> None:
        """Page by page nothing is missing or doubled, also when groups come and go between."""
        everything = sorted([*self.groups, STATIC])
        first, cursor = self.page(limit="3")
        self.assertEqual(first, everything[:3])
        assert cursor is not None
        gone = next(group_id for group_id in self.groups if group_id in everything[:2])
        self.clients[self.groups.index(gone) // 2].leave(gone)
        self.cluster.run(0.1)
        second, cursor = self.page(limit="4", cursor=cursor)
        self.assertEqual((second, cursor), (everything[3:], None))
        self.assertEqual(self.page(cursor="~" * 52), ([], None))

    def test_query(self) -> None:
        """A limit is 1 to 1,000, a cursor what an earlier page said."""
        for limit in ("0", "1001", "-1", "x", "", "1.5", "\u0663", "9" * 30):
            self.assertEqual(self.problem(AdminActions.groups, None, {"limit": limit}), ("bad_query", "limit"))
        self.assertEqual(self.problem(AdminActions.rooms, None, {"cursor": "x" * 53}), ("bad_query", "cursor"))
        self.assertEqual(len(self.page(limit="1000")[0]), 7)

    def test_one_more(self) -> None:
        """Also when all the rest is on one node, a full page says whether there is more."""
        for node_id in ("b", "c"):
            self.cluster.links.mesh.part("a", node_id)
        for limit, is_last in (("2", False), ("3", True)):
            page = self.act(AdminActions.groups, None, {"limit": limit})
            self.assertEqual((len(page.groups), page.next is None), (int(limit), is_last))

    def test_left_out(self) -> None:
        """A node that does not answer is named, and the others' groups are told."""
        self.cluster.links.mesh.part("a", "b")
        page = self.act(AdminActions.groups)
        self.assertEqual(page.nodes_left_out, ("b",))
        self.assertEqual([row.id for row in page.groups], sorted([*self.groups[:2], *self.groups[4:], STATIC]))
        self.assertEqual(self.act(AdminActions.announce, Announcement(text="x")).nodes_left_out, ("b",))

    def test_group(self) -> None:
        """A group shows its members with their nodes, asked where it is held and elsewhere."""
        group_id = self.groups[2]
        self.cluster.join(self.clients[2], group_id)
        for _ in range(2):
            view = self.act(AdminActions.group, group=group_id)
            members = {(member.user, member.node) for member in view.members}
            self.assertLessEqual({("user-b", "b"), ("user-c", "c")}, members)
            self.assertEqual((view.members_left_out, view.is_static), (0, False))
            self.cluster.join(self.clients[0], group_id)
        self.assertEqual(self.act(AdminActions.group, group=group_id).nodes, ("a", "b", "c"))
        self.assertEqual(self.problem(AdminActions.group, group=NOWHERE), ("group_not_found", "group"))

    def test_rooms(self) -> None:
        """So do rooms."""
        den = self.create_room(self.clients[1], max_members=5)
        hall = self.create_room(self.clients[0])
        page = self.act(AdminActions.rooms)
        self.assertEqual([room.id for room in page.rooms], sorted([den, hall]))
        [row] = [room for room in page.rooms if room.id == den]
        self.assertEqual((row.members, row.max_members, row.owner, row.node), (1, 5, "user-b", "b"))
        view = self.act(AdminActions.room, room=den)
        self.assertEqual([(member.user, member.node) for member in view.members], [("user-b", "b")])
        self.assertEqual((view.owner, view.max_members, view.members_left_out), ("user-b", 5, 0))
        self.assertEqual(self.problem(AdminActions.room, room="x")[0], "bad_path")


class NodeTests(AdminTestCase):
    """Nodes."""

    def test_drain(self) -> None:
        """The named node is told to drain, once, and no other."""
        for node_id in ("b", "a", "b"):
            self.assertEqual(self.act(AdminActions.drain, node=node_id).node, node_id)
        self.assertEqual(self.drained, ["b", "a"])

    def test_unknown(self) -> None:
        """A node that nobody knows, and one that cannot be reached."""
        self.assertEqual(self.problem(AdminActions.drain, node="x"), ("node_not_found", "node"))
        self.cluster.links.mesh.part("a", "b")
        self.assertEqual(self.problem(AdminActions.drain, node="b")[0], "node_unreachable")
        self.assertEqual(self.drained, [])

    def test_nodes(self) -> None:
        """The cluster is told as on its own page."""
        self.assertEqual(self.act(AdminActions.nodes), {"asked": "a", "nodes": []})
