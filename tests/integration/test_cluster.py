"""Clusters of real daemons that nothing happens to: groups on all nodes, users who move, and who may be a node."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.cluster import (
    AT_ONCE_SECONDS,
    PATIENCE_SECONDS,
    Node,
    cluster_config,
    links_of,
    wait_until,
)
from tests.integration.daemon import ROOT
from tests.integration.members import BROADCAST, CREATE, JOIN, LEAVE, LOST, Member, check_heard_once
from tests.integration.wire_clients import OK, Closed, TcpClient

__all__ = ["ClusterKit", "wait_members"]

STATIC_GROUP = "lobby".ljust(52, "-")

#: A group of 100 seconds that its maker joins.
GROUP = struct.pack("!BIH", 3, 100, 0)

TRANSPORTS = ("tcp", "ws", "rudp")


def run_program(*arguments: str) -> tuple[int, str]:
    """Run the ``meshrelay`` program.

    :returns: exit status, and all that it wrote.
    """
    command = [sys.executable, "-c", "from meshrelay.cli import main; main()", *arguments]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS, env=environ)
    return done.returncode, done.stdout + done.stderr


def wait_members(members: list[Member]) -> None:
    """Wait until the nodes of all these count them all and nobody else."""
    counts = [len(members)] * len(members)
    wait_until(lambda: [member.group()[1] for member in members] == counts, what=f"{len(members)} members")


class ClusterKit(SynchronousTestCase):
    """Starts nodes and members, and ends them with the test."""

    def setUp(self) -> None:
        """Nothing runs."""
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)

    def run_node(self, config: dict[str, dict[str, Any]]) -> Node:
        """Start one node."""
        return self.stack.enter_context(Node(config))

    def run_cluster(self, count: int, **sections: Any) -> list[Node]:
        """Start nodes n0, n1, ...; the directory is n0's."""
        first = self.run_node(cluster_config("n0", **sections))
        directory = "pb:" + first.places["mesh"]
        configs = [cluster_config(f"n{index}", directory, **sections) for index in range(1, count)]
        nodes = [first, *self.run_nodes(configs)]
        for node in nodes:
            node.wait_linked(count - 1)
        return nodes

    def run_nodes(self, configs: list[dict[str, Any]]) -> list[Node]:
        """Start nodes at the same time."""
        nodes = [Node(config) for config in configs]
        with ThreadPoolExecutor(max(1, len(nodes))) as pool:
            list(pool.map(Node.__enter__, nodes))
        for node in nodes:
            self.stack.push(node)
        return nodes

    def member(self, node: Node, user: str, transport: str = "tcp", resume: str = "") -> Member:
        """Sign a user in."""
        member = Member(node, user, transport, resume)
        self.stack.callback(member.close)
        return member

    def one_group(self, members: list[Member]) -> bytes:
        """Let the first member make a group and the others join it."""
        group_id = members[0].create()
        for member in members[1:]:
            member.join(group_id)
        return group_id

    def talk_for(self, members: list[Member], seconds: float, per_second: float) -> None:
        """Let all talk at once for a while."""
        for member in members:
            member.talk(per_second)
        time.sleep(seconds)
        for member in members:
            member.fall_silent()


class FiveNodeTests(ClusterKit):
    """Five nodes with members on all."""

    def test_all_nodes(self) -> None:
        """Five nodes: each broadcast reaches each other member once and in order, and so does who comes and goes."""
        nodes = self.run_cluster(5)
        self.broadcast_everywhere(nodes)
        self.join_and_leave(nodes)

    def broadcast_everywhere(self, nodes: list[Node]) -> None:
        """Members of every transport on each node talk at once."""
        members = [
            self.member(node, f"{transport}-{index}", transport)
            for index, node in enumerate(nodes)
            for transport in TRANSPORTS
        ]
        # The home of the group is not the node with the directory.
        members.append(members.pop(0))
        self.one_group(members)
        self.talk_for(members, 2.0, 20.0)
        check_heard_once(members, members)
        # Forty, where the machine does nothing else.
        self.assertTrue(all(member.sent >= 10 for member in members), [member.sent for member in members])
        for member in members:
            held_by, count = member.group()
            self.assertEqual((len(held_by), count), (5, 15))

    def join_and_leave(self, nodes: list[Node]) -> None:
        """Other nodes are told the messages of joins and leaves; a node without members lets the group go."""
        members = [self.member(node, f"user-{index}") for index, node in enumerate(nodes)]
        group_id = members[0].create()
        for member in members[1:]:
            member.join(group_id, b"hello from " + member.user.encode())
        for index, member in enumerate(members):
            later = members[max(1, index + 1) :]
            member.wait_for(JOIN, count=len(later))
            # They come from different nodes, between which there is no order.
            told = {push.user: push.message for push in member.of(JOIN)}
            self.assertEqual(told, {other.user: f"hello from {other.user}".encode() for other in later})
        self.assertEqual(members[4].group()[1], 5)
        members[2].leave(b"bye")
        for member in (members[0], members[1], members[3], members[4]):
            member.wait_for(LEAVE, "user-2")
            self.assertEqual(member.of(LEAVE)[0].message, b"bye")
            member.wait_group(4, 4)
        members[2].join(group_id)
        self.assertEqual(members[2].group()[1], 5)
        for member in members[:2]:
            member.leave()
            member.join(group_id)
        self.talk_for(members, 1.0, 20.0)
        check_heard_once(members, members)

    def test_static_group(self) -> None:
        """A static group spans all nodes that name it, also those that start later, without anybody making it."""
        static = {"static_groups": [{"group_id": STATIC_GROUP, "interval_ms": 0}]}
        nodes = self.run_cluster(3, group=static)
        members = [self.member(node, f"user-{index}") for index, node in enumerate(nodes)]
        for member in members:
            member.join(STATIC_GROUP.encode())
        late = self.run_node(cluster_config("n3", "pb:" + nodes[0].places["mesh"], group=static))
        members.append(self.member(late, "user-3"))
        members[3].join(STATIC_GROUP.encode())
        wait_until(lambda: all(member.group() == members[3].group() for member in members), what="the members")
        self.assertEqual(members[0].group()[1], 4)
        self.talk_for(members, 1.0, 20.0)
        check_heard_once(members, members)


class TakeOverTests(ClusterKit):
    """One user, two nodes."""

    def test_resume_of_a_living_session(self) -> None:
        """Who resumes on another node while still connected takes the session along; the old connection is REPLACED."""
        nodes = self.run_cluster(2)
        for transport in TRANSPORTS:
            bob = self.member(nodes[0], f"bob-{transport}", transport)
            ann = self.member(nodes[0], f"ann-{transport}", transport)
            bob.join(ann.create())
            bob.say()
            moved = self.member(nodes[1], ann.user, transport, resume=ann.sid)
            self.assertIs(moved.welcome["resumed"], True, transport)
            self.assertEqual(moved.welcome["node"], "n1")
            self.assertEqual(ann.wait_for_end(AT_ONCE_SECONDS), 4500, transport)
            moved.group_id = ann.group_id
            bob.say()
            moved.say()
            moved.wait_heard(bob)
            bob.wait_heard(moved)
            self.assertEqual(bob.of(LOST), [])
            self.assertEqual(bob.group()[1], 2)

    def test_there_and_back(self) -> None:
        """A user who resumes on another node and at once on the first one again is one member all the time."""
        nodes = self.run_cluster(3)
        bob = self.member(nodes[2], "bob")
        ann = self.member(nodes[0], "ann")
        group_id = ann.create()
        bob.join(group_id)
        sid = ann.sid
        for sent, index in enumerate((1, 0, 1, 2, 0), 1):
            ann = self.member(nodes[index], "ann", resume=sid)
            self.assertIs(ann.welcome["resumed"], True)
            ann.group_id, sid = group_id, ann.sid
            bob.say()
            ann.say()
            ann.wait_heard(bob)
            bob.wait_for(BROADCAST, "ann", sent)
            wait_members([bob, ann])
        wait_until(lambda: len(bob.group()[0]) == 2, what="the exit of the node between")
        self.assertEqual(bob.of(LOST), [])

    def test_new_sign_in_elsewhere(self) -> None:
        """A sign-in of the same user on another node, without a resume, replaces the first one at once."""
        nodes = self.run_cluster(3)
        bob = self.member(nodes[2], "bob")
        ann = self.member(nodes[0], "ann")
        bob.join(ann.create())
        again = self.member(nodes[1], "ann")
        self.assertIs(again.welcome["resumed"], False)
        self.assertEqual(ann.wait_for_end(AT_ONCE_SECONDS), 4500)
        bob.wait_for(LOST, "ann")
        wait_until(lambda: bob.group()[1] == 1, what="one member")


class AdmissionTests(ClusterKit):
    """Who may be a node."""

    def setUp(self) -> None:
        """A folder for keys."""
        super().setUp()
        self.folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))

    def ca(self, *arguments: str, name: str = "ca") -> None:
        """Run ``meshrelay ca``."""
        status, text = run_program("ca", *arguments, "--directory", str(self.folder / name))
        self.assertEqual(status, 0, text)

    def secured(self, node_id: str, directory: str = "memory", name: str = "ca", **mesh: Any) -> dict[str, Any]:
        """The configuration of a node with certificates."""
        folder = self.folder / name
        files = {
            "ca_file": str(folder / "ca.pem"),
            "certificate_file": str(folder / f"{node_id}.pem"),
            "key_file": str(folder / f"{node_id}.key"),
            "insecure": False,
        }
        return cluster_config(node_id, directory, mesh={**files, **mesh})

    def secret(self, name: str, text: str) -> str:
        """A file with a secret."""
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o600)
        return str(path)

    def test_certificates_of_the_command_line(self) -> None:
        """Certificates that `meshrelay ca` made link two nodes over TLS; one of another authority is refused."""
        for name in ("ca", "other"):
            self.ca("init", name=name)
        for node_id in ("n0", "n1"):
            self.ca("issue", node_id, "--host", "127.0.0.1")
        self.ca("issue", "n2", "--host", "127.0.0.1", name="other")
        first = self.run_node(self.secured("n0"))
        directory = "pb:" + first.places["mesh"]
        second = self.run_node(self.secured("n1", directory))
        ann, bob = self.member(first, "ann"), self.member(second, "bob")
        self.one_group([ann, bob])
        self.talk_for([ann, bob], 0.5, 20)
        check_heard_once([ann, bob], [ann, bob])
        stranger = self.run_node(self.secured("n2", directory, "other"))
        stranger.wait_for_log("certificate")
        first.wait_for_log("no link from")
        self.assertEqual(links_of(first), {"n1": "up"})

    def test_wrong_secret(self) -> None:
        """A node with another secret is refused, both logs say so, and the others do not care."""
        right, wrong = self.secret("right", "r" * 40), self.secret("wrong", "w" * 40)
        first = self.run_node(cluster_config("n0", mesh={"secret_file": right}))
        directory = "pb:" + first.places["mesh"]
        self.run_node(cluster_config("n1", directory, mesh={"secret_file": right}))
        stranger = self.run_node(cluster_config("n2", directory, mesh={"secret_file": wrong}))
        for node in (first, stranger):
            node.wait_for_log("differ in the secret")
        self.assertEqual(links_of(first), {"n1": "up"})
        self.assertEqual(stranger.get("/health/ready")[0], 503)

    def test_node_id_twice(self) -> None:
        """The second node of an ID is told so in its log; the first one keeps its link and its members."""
        nodes = self.run_cluster(2)
        ann, bob = self.member(nodes[0], "ann"), self.member(nodes[1], "bob")
        self.one_group([ann, bob])
        ann.talk(20)
        bob.talk(20)
        twin = self.run_node(cluster_config("n1", "pb:" + nodes[0].places["mesh"]))
        twin.wait_for_log("two nodes have the ID n1")
        time.sleep(1.5)
        ann.fall_silent()
        bob.fall_silent()
        check_heard_once([ann, bob], [ann, bob])
        self.assertEqual(ann.of(LOST), [])
        self.assertEqual(links_of(nodes[0]), {"n1": "up"})


class OperatorTests(ClusterKit):
    """What operators and clients ask."""

    def status(self, node: Node, *options: str) -> tuple[int, str]:
        """Run ``meshrelay cluster status``."""
        return run_program("cluster", "status", "--url", node.url(""), *options)

    def test_status(self) -> None:
        """`meshrelay cluster status` shows all nodes with status 0, and with status 1 one that was killed."""
        nodes = self.run_cluster(3)
        self.member(nodes[1], "ann")
        status, text = self.status(nodes[0])
        self.assertEqual(status, 0, text)
        for node in nodes:
            self.assertIn(node.places["mesh"], text)
        status, text = self.status(nodes[2], "--json")
        self.assertEqual(status, 0, text)
        self.assertEqual([node["users"] for node in json.loads(text)["nodes"]], [0, 1, 0])
        nodes[1].kill()
        status, text = self.status(nodes[0])
        self.assertEqual(status, 1, text)
        self.assertIn("node n1 does not answer", text)

    def test_least_loaded(self) -> None:
        """A busy node sends new clients to an idle one, whatever they speak, and the secrets of UDP work there."""
        busy, idle = self.run_cluster(2, session={"max_connections": 20})
        for index in range(8):
            self.member(busy, f"user-{index}")
        question = "/endpoint/type/TCP/user/ann"
        wait_until(lambda: busy.get(question)[1]["serverPort"] == idle.address("tcp")[1], what="the loads to be told")
        for server_type, place in (("TCP", "tcp"), ("WS", "websocket"), ("UDP", "udp")):
            status, told = busy.get(f"/endpoint/type/{server_type}/user/ann")
            self.assertEqual(status, 200)
            self.assertEqual((told["serverHost"], told["serverPort"]), idle.address(place))
        ann = self.member(busy, "ann", "rudp")
        self.assertEqual(ann.welcome["node"], "n1")
        ann.create()
        ann.say()

    def last_answer(self, crowd: list[TcpClient]) -> int:
        """Code of the refusal of a GROUP_CREATE by one who is still connected."""
        for client in reversed(crowd):
            with contextlib.suppress(Closed, OSError):
                # The node says that it drains a moment before it does.
                while (frame := client.answer(client.send(1, CREATE, GROUP))).status == OK:
                    pass
                return int(struct.unpack_from("!H", frame.payload)[0])
        raise AssertionError("nobody was left")

    def test_drain(self) -> None:
        """SIGTERM: clients are told to come back, no group is made there any more, and they resume on another node."""
        nodes = self.run_cluster(3, node={"drain_seconds": 3})
        going, staying = nodes[1], nodes[2]
        members = [self.member(going, f"user-{index}") for index in range(6)]
        bob = self.member(staying, "bob")
        self.one_group([bob, *members])
        crowd = []
        # So many that the last of them are still there for a while: 50 go in each tenth of a second.
        for index in range(500):
            crowd.append(TcpClient(going))
            self.stack.callback(crowd[-1].close)
            crowd[-1].hello(f"crowd-{index}")
        bob.talk(50)
        going.send_signal(signal.SIGTERM)
        going.wait_for_log("draining")
        self.assertEqual(self.last_answer(crowd), 12)
        moved = []
        for member in members:
            self.assertEqual(member.wait_for_end(), 4000)
            again = self.member(staying, member.user, resume=member.sid)
            self.assertIs(again.welcome["resumed"], True)
            moved.append(again)
        assert going.process is not None
        self.assertEqual(going.process.wait(PATIENCE_SECONDS), 0)
        self.assertNotIn("Traceback", going.log)
        bob.fall_silent()
        for old, new in zip(members, moved, strict=True):
            new.wait_heard(bob)
            # What was on its way when the old connection ended may be lost without acks; nothing comes twice.
            heard = old.heard("bob") + new.heard("bob")
            self.assertEqual(heard, sorted(set(heard)))
        self.assertEqual(bob.group()[1], 7)
