"""Broadcasts in a group on many nodes in memory, checked at every member."""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.model import Status
from meshrelay.testing.memory_groups import GroupCluster
from meshrelay.testing.memory_mesh import Line
from meshrelay.wire.commands import Command, encode_gid_message

__all__ = ["TreeKit"]


class TreeKit(SynchronousTestCase):
    """For tests of the tree."""

    def run_tree(self, count: int, seed: int, loss: float, is_cut: bool) -> GroupCluster:
        """Broadcast from random members of a group on `count` nodes."""
        names = [f"n{number:03d}" for number in range(count)]
        random = Random(seed)
        cluster = GroupCluster(names, seed=seed, line=Line(0.001, 0.02, loss))
        clients = {name: cluster[name].sign_in("u-" + name) for name in names}
        lobby = clients[names[0]].create_group()
        asked = [
            (clients[name], clients[name].ask(Command.GROUP_JOIN, encode_gid_message(lobby, b""))) for name in names[1:]
        ]
        cluster.run(8, 0.02)
        for client, request_id in asked:
            answer = client.answer_to(request_id)
            assert answer is not None
            self.assertEqual(answer.status, Status.OK)
        sent: dict[str, list[bytes]] = {}
        for number in range(60):
            name = random.choice(names[:10])
            text = b"%s %d" % (name.encode(), number)
            sent.setdefault(name, []).append(text)
            clients[name].broadcast(lobby, text, reliable=True)
            if is_cut and number % 10 == 5:
                one, other = random.sample(names, 2)
                cluster.links.mesh.cut(one, other)
            cluster.run(0.04, 0.02)
        cluster.run(12, 0.05)
        for name, client in clients.items():
            came: dict[str, list[bytes]] = {}
            for pushed in client.messages():
                came.setdefault(pushed.user_id[2:], []).append(pushed.message)
            self.assertEqual(came, {other: texts for other, texts in sent.items() if other != name}, name)
        return cluster
