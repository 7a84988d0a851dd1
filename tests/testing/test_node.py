"""A whole node in memory."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.config.schema import Config, GroupConfig, SessionConfig
from meshrelay.interfaces import IMeshRelay
from meshrelay.model import CloseReason, Status
from meshrelay.testing.node import make_node
from meshrelay.wire.commands import Command, CoreCommand, PushedMessage, encode_gid_message


class NodeTests(SynchronousTestCase):
    """`make_node` and its clients, as the documentation shows them."""

    def test_example(self) -> None:
        """Two clients meet in a group, whatever their transports."""
        node = make_node()
        ann, bob = node.sign_in("ann"), node.sign_in("bob", "udp")
        lobby = ann.create_group()
        self.assertEqual(bob.join(lobby, b"hi").status, Status.OK)
        ann.request(Command.GROUP_BROADCAST, encode_gid_message(lobby, b"hello"))
        self.assertEqual(bob.messages(), [PushedMessage(lobby, "ann", b"hello")])
        self.assertEqual(bob.messages(), [])
        bob.leave(lobby, b"bye")
        self.assertEqual([message.message for message in ann.messages()], [b"hi", b"bye"])

    def test_same_each_time(self) -> None:
        """Two nodes do the same: IDs and sids come from a seed."""
        made = []
        for _ in range(2):
            ann = make_node().sign_in("ann")
            made.append((ann.sid, ann.create_group()))
        self.assertEqual(made[0], made[1])

    def test_configuration(self) -> None:
        """The sections [session] and [group] hold."""
        config = Config(session=SessionConfig(heartbeat_seconds=7), group=GroupConfig(expose_commands=False))
        ann = make_node(config).sign_in("ann")
        assert ann.welcome is not None
        self.assertEqual(ann.welcome.heartbeat_seconds, 7)
        self.assertEqual(ann.refusal(Command.GROUP_LIST)[1], 2)

    def test_application(self) -> None:
        """An application is set up before clients can use the group commands."""
        seen: list[str] = []

        def set_up(relay: IMeshRelay) -> None:
            relay.groups.before_create(lambda ver, cmd, payload, user: seen.append(user.user_id))

        make_node(set_up=set_up).sign_in("ann").create_group()
        self.assertEqual(seen, ["ann"])

    def test_exposed_by_the_application(self) -> None:
        """An application may expose the commands itself, whether the node would do it or not."""

        def set_up(relay: IMeshRelay) -> None:
            for component in (relay.groups, relay.rooms, relay.links, relay.direct):
                component.expose_commands()

        for is_exposed in (True, False):
            config = Config(group=GroupConfig(expose_commands=is_exposed))
            self.assertEqual(len(make_node(config, set_up).sign_in("ann").create_group()), 52)

    def test_refused(self) -> None:
        """What does not happen is said, not passed over."""
        node = make_node()
        ann = node.sign_in("ann")
        self.assertRaises(AssertionError, ann.refusal, Command.GROUP_LIST)
        self.assertRaises(AssertionError, ann.request, CoreCommand.PONG, b"", 0)
        self.assertRaises(AssertionError, node.sign_in, "")
        ann.lose()
        self.assertRaises(AssertionError, lambda: ann.connection)
        self.assertEqual(node.connect().sid, "")

    def test_time(self) -> None:
        """Time passes when the test says so; what is due happens."""
        node = make_node()
        client = node.connect()
        node.advance(11)
        self.assertIs(client.link.close_reason, CloseReason.HELLO_TIMEOUT)
        self.assertAlmostEqual(node.clock.seconds(), 11)
        self.assertEqual([frame.cmd for frame in client.frames()], [CoreCommand.GOODBYE])
        self.assertEqual(client.pushes(), [])

    def test_reliable_and_acks(self) -> None:
        """A client may ask for reliable pushes, acknowledge, and come back."""
        node = make_node()
        ann, bob = node.sign_in("ann"), node.sign_in("bob", acks=True)
        lobby = ann.create_group()
        bob.join(lobby)
        ann.broadcast(lobby, b"1")
        node.settle()
        bob.acknowledge(1)
        bob.lose()
        ann.broadcast(lobby, b"2", reliable=True)
        node.settle()
        again = node.sign_in("bob", acks=True, resume=bob.sid, received=1)
        assert again.welcome is not None
        self.assertTrue(again.welcome.recovered)
        self.assertEqual([message.message for message in again.messages()], [b"2"])
