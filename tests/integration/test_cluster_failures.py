"""Clusters of real daemons to which everything happens: killed and stopped nodes, lines that are cut or swallow all."""

from __future__ import annotations

import signal
import time
from typing import Any

from tests.integration.cluster import (
    AT_ONCE_SECONDS,
    Line,
    Node,
    cluster_config,
    free_port,
    links_of,
    wait_until,
)
from tests.integration.members import BACK, LOST, Member, check_heard_once, longest_pause
from tests.integration.test_cluster import ClusterKit, wait_members

#: A dead node is known to be dead by then: five seconds are promised, to a machine that does nothing else.
KNOWN_SECONDS = 8.0

#: Whatever happened to the directory, all is registered again by then: half of it is promised.
HEAL_SECONDS = 20.0

#: No answer takes longer, whatever it is: half of it is promised.
ANSWER_SECONDS = 10.0

#: What waits for a node that is gone pauses for at least as long as it takes to be sure of that.
PAUSE_SECONDS = 2.0


class FailuresKit(ClusterKit):
    """What tests of failures look at."""

    def on_all(self, nodes: list[Node], transports: tuple[str, ...] = ("tcp", "ws")) -> list[Member]:
        """Members of one group, on each node one of each transport; the second node is its home."""
        members = [
            self.member(node, f"{node.node_id}-{transport}", transport) for node in nodes for transport in transports
        ]
        home = [member for member in members if member.user.startswith(nodes[1].node_id)]
        self.one_group(home + [member for member in members if member not in home])
        return members

    def check_lost_once(self, members: list[Member], lost: list[Member]) -> None:
        """Each member is told each loss once, all by the same node, which is one of theirs."""
        for gone in lost:
            told = {tuple(push.message for push in member.of(LOST, gone.user)) for member in members}
            self.assertEqual(len(told), 1, told)
            (messages,) = told
            self.assertEqual(len(messages), 1, messages)
            speaker = messages[0].decode().removeprefix("lost by ")
            self.assertIn(speaker, {member.user.split("-")[0] for member in members})

    def check_back_once(self, members: list[Member], lost: list[Member]) -> None:
        """Each member is told the return of each by the node that told it the loss."""
        for member in members:
            for gone in lost:
                expected = [push.message.replace(b"lost", b"back") for push in member.of(LOST, gone.user)]
                self.assertEqual([push.message for push in member.of(BACK, gone.user)], expected)


class KilledNodeTests(FailuresKit):
    """A node that dies without a word."""

    def kill_and_resume(self, victim_index: int) -> None:
        """Kill one of four nodes while all talk."""
        nodes = self.run_cluster(4)
        members = self.on_all(nodes)
        victim = nodes[victim_index]
        lost = [member for member in members if member.user.startswith(victim.node_id)]
        staying = [member for member in members if member not in lost]
        for member in members:
            member.talk(25)
        time.sleep(1)
        killed_at = time.monotonic()
        victim.kill()
        for member in staying:
            member.wait_for(LOST, count=len(lost), seconds=KNOWN_SECONDS)
            self.assertLess(member.of(LOST)[-1].at - killed_at, KNOWN_SECONDS)
        nodes.remove(victim)
        links = links_of(nodes[0])
        self.assertNotEqual(links.get(victim.node_id), "up")
        # Nobody has waited for the dead one.
        for member in staying:
            self.assertLess(longest_pause(member, staying), PAUSE_SECONDS)
        back = self.resume_elsewhere(lost, nodes)
        for member in staying:
            for again in back:
                member.wait_for(BACK, again.user)
        for again in back:
            again.talk(25)
        time.sleep(1)
        for member in [*staying, *back]:
            member.fall_silent()
        check_heard_once(staying, staying)
        self.check_lost_once(staying, lost)
        self.check_resumed(staying, lost, back)
        wait_members([*staying, *back])

    def resume_elsewhere(self, lost: list[Member], nodes: list[Node]) -> list[Member]:
        """Sign the users of a dead node in again, on the others."""
        back = []
        for index, member in enumerate(lost):
            self.assertEqual(member.wait_for_end(), -1)
            again = self.member(nodes[index % len(nodes)], member.user, "tcp", resume=member.sid)
            self.assertIs(again.welcome["resumed"], True)
            again.group_id = member.group_id
            back.append(again)
        return back

    def check_resumed(self, staying: list[Member], lost: list[Member], back: list[Member]) -> None:
        """What those who stayed and those who came back have heard of each other."""
        for again in back:
            for sender in staying:
                again.wait_heard(sender)
                heard = again.heard(sender.user)
                self.assertEqual(heard, list(range(heard[0], sender.sent + 1)))
        for member in staying:
            for old, new in zip(lost, back, strict=True):
                self.assertEqual(len(member.of(BACK, new.user)), 1)
                member.wait_heard(new)
                heard = member.heard(new.user)
                # What the dead node had taken and not passed on is lost; the new session counts from 1 again.
                first = heard.index(1, 1)
                self.assertEqual(heard[:first], list(range(1, first + 1)))
                self.assertLessEqual(first, old.sent)
                self.assertEqual(heard[first:], list(range(1, new.sent + 1)))

    def test_kill_any_node(self) -> None:
        """kill -9: known within 5 s, told once, the others go on without a gap, its users resume elsewhere."""
        self.kill_and_resume(3)

    def test_kill_the_home_of_the_group(self) -> None:
        """The same when the node that made the group is killed."""
        self.kill_and_resume(1)

    def test_kill_the_node_with_the_directory(self) -> None:
        """The same when the node that has the directory is killed."""
        self.kill_and_resume(0)

    def test_stopped_for_a_while(self) -> None:
        """A node that stands still for 8 s holds nobody up; afterwards nothing is lost or doubled."""
        nodes = self.run_cluster(3)
        members = self.on_all(nodes)
        asleep = [member for member in members if member.user.startswith("n2")]
        awake = [member for member in members if member not in asleep]
        for member in awake:
            member.talk(25)
        for member in asleep:
            member.say()
        nodes[2].send_signal(signal.SIGSTOP)
        time.sleep(8)
        for member in awake:
            member.wait_for(LOST, count=len(asleep))
        nodes[2].send_signal(signal.SIGCONT)
        wait_until(lambda: all(len(member.of(BACK)) >= 2 for member in awake), what="the return")
        for member in asleep:
            member.say()
        for member in awake:
            member.fall_silent()
            self.assertLess(longest_pause(member, awake), PAUSE_SECONDS)
        check_heard_once(members, members)
        self.check_lost_once(awake, asleep)
        self.check_back_once(awake, asleep)


class CutLineTests(FailuresKit):
    """Lines between living nodes."""

    def line(self) -> Line:
        """A line that ends with the test."""
        line = Line()
        self.stack.callback(line.close)
        return line

    def cut_off(self, how: str) -> None:
        """Three nodes; the third one is cut off for 10 s, and nobody stops talking."""
        far, near = self.line(), self.line()
        first = self.run_node(cluster_config("n0"))
        second = self.run_node(cluster_config("n1", "pb:" + first.places["mesh"]))
        near.lead_to(first)
        third = self.run_far(far, near)
        nodes = [first, second, third]
        for node in nodes:
            node.wait_linked(2)
        members = self.on_all(nodes)
        for member in members:
            member.talk(25)
        time.sleep(1)
        for line in (far, near):
            getattr(line, how)()
        time.sleep(10)
        sides = (members[:4], members[4:])
        for here, there in (sides, sides[::-1]):
            for member in here:
                member.wait_for(LOST, count=len(there))
        for line in (far, near):
            line.mend()
        third.wait_linked(2)
        time.sleep(1)
        for member in members:
            member.fall_silent()
        check_heard_once(members, members)
        for here, there in (sides, sides[::-1]):
            for member in here:
                for cmd in (LOST, BACK):
                    # Who was on the same side all the time was never lost, whatever the other side thought.
                    told = sorted(push.user for push in member.of(cmd))
                    self.assertEqual(told, sorted(other.user for other in there), (how, member.user, cmd))
            self.check_lost_once(here, there)
            self.check_back_once(here, there)

    def run_far(self, far: Line, near: Line) -> Node:
        """The node at the end of a line."""
        port = free_port()
        mesh: dict[str, Any] = {
            "listen": f"tcp:{port}:interface=127.0.0.1",
            "advertised_address": far.address,
        }
        far.target = ("127.0.0.1", port)
        return self.run_node(cluster_config("n2", "pb:" + near.address, mesh=mesh))

    def test_cut(self) -> None:
        """A node that is cut off for 10 s: no broadcast, in either direction, is lost or comes twice."""
        self.cut_off("cut")

    def test_black_hole(self) -> None:
        """The same when the lines do not end but let nothing through."""
        self.cut_off("hold")


class MemoryDirectoryTests(FailuresKit):
    """The node with the directory ends, and another one takes its place."""

    def test_directory_begins_anew(self) -> None:
        """Nothing stops while the directory is away; 10 s after another node serves it, all is found again."""
        port = free_port()
        place = f"tcp:{port}:interface=127.0.0.1"
        holder = self.run_node(cluster_config("n0", mesh={"listen": place}))
        directory = f"pb:127.0.0.1:{port}"
        nodes = [self.run_node(cluster_config(f"n{index}", directory)) for index in (1, 2)]
        third = self.run_node(cluster_config("n3", directory))
        members = self.on_all(nodes)
        for member in members:
            member.talk(25)
        time.sleep(0.5)
        holder.kill()
        late = self.member(third, "late")
        started = time.monotonic()
        group_id = members[0].group_id
        unknown = b"nobody-made-it".ljust(52, b"x")
        self.assertEqual(late.refused(1, 111, unknown), 6)
        self.assertLess(time.monotonic() - started, ANSWER_SECONDS)
        # Its home is linked: the directory is not needed for this one.
        late.join(group_id)
        late.leave()
        self.run_node(cluster_config("n9", mesh={"listen": place}))
        anew_at = time.monotonic()
        for node in (*nodes, third):
            node.wait_ready(HEAL_SECONDS)
        wait_until(lambda: late.refused(1, 111, unknown) == 21, HEAL_SECONDS, "an answer of the directory")
        # A user who was known to the old directory is found by the new one.
        moving = members[0]
        moving.fall_silent()
        moved = self.member(third, moving.user, resume=moving.sid)
        self.assertIs(moved.welcome["resumed"], True)
        self.assertEqual(moving.wait_for_end(AT_ONCE_SECONDS), 4500)
        self.assertLess(time.monotonic() - anew_at, HEAL_SECONDS)
        for member in members[1:]:
            member.fall_silent()
        check_heard_once(members[1:], members)
