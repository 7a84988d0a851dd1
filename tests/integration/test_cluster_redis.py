"""Clusters of real daemons whose directory is a Redis server, and what becomes of them when it is wiped or away."""

from __future__ import annotations

import threading
import time

from tests.integration.cluster import AT_ONCE_SECONDS, Node, cluster_config, links_of, wait_until
from tests.integration.members import GROUP_ID_BYTES, JOIN, Member, check_heard_once, longest_pause
from tests.integration.test_cluster import ClusterKit
from tests.integration.test_directory_redis import MISSING, RedisProcess

#: Whatever happened to Redis, all is registered again by then: half of it is promised, to a machine that is not busy.
HEAL_SECONDS = 20.0

#: No answer takes longer, whatever it is: half of it is promised.
ANSWER_SECONDS = 10.0

#: What waits for Redis pauses for at least as long as a node waits for its answer.
PAUSE_SECONDS = 2.0

REMOTE_TIMEOUT, GROUP_UNKNOWN = 6, 21

#: Made by nobody, so that only the directory can tell.
UNKNOWN = b"nobody-made-it".ljust(GROUP_ID_BYTES, b"x")


class Newcomer:
    """A member who comes to a group and leaves it again all the time.

    :ivar joins: that worked.
    :ivar refusals: answers that were no OK.
    :ivar longest: seconds that joining and leaving took together, at most.
    """

    def __init__(self, member: Member, group_id: bytes) -> None:
        self._member = member
        self._group_id = group_id
        self.joins = 0
        self.refusals: list[str] = []
        self.longest = 0.0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._is_over.wait(0.02):
            started = time.monotonic()
            try:
                self._member.join(self._group_id)
                self._member.leave()
            except AssertionError as refusal:
                self.refusals.append(str(refusal))
            else:
                self.joins += 1
            self.longest = max(self.longest, time.monotonic() - started)

    def stop(self) -> None:
        """Come no more."""
        self._is_over.set()
        self._thread.join(2 * ANSWER_SECONDS)
        assert not self._thread.is_alive(), "an answer never came"


class RedisDirectoryTests(ClusterKit):
    """Three nodes; members of two of them talk, one of the third comes and goes."""

    skip = MISSING or None

    def setUp(self) -> None:
        """All runs, and one group outlives the node that made it: only the directory tells who holds it."""
        super().setUp()
        self.redis = RedisProcess()
        self.stack.callback(self.redis.remove)
        url = f"redis://127.0.0.1:{self.redis.port}/0"
        *self.nodes, home = self.run_nodes([cluster_config(f"n{index}", url) for index in range(4)])
        for node in (*self.nodes, home):
            node.wait_linked(3)
            node.wait_ready(HEAL_SECONDS)
        self.members = [self.member(self.nodes[index // 2], f"user-{index}") for index in range(4)]
        self.seeker = self.member(self.nodes[2], "seeker")
        self.orphaned = self.one_group([self.member(home, "maker"), self.members[2]])
        home.terminate()
        group_id = self.one_group(self.members)
        self.newcomer = Newcomer(self.member(self.nodes[2], "newcomer"), group_id)
        for member in self.members:
            member.talk(25)
        wait_until(lambda: self.newcomer.joins >= 3, what="the first joins")

    def lookup(self) -> int:
        """Code of the refusal to join a group that nobody made; it must come in time."""
        started = time.monotonic()
        code = self.seeker.refused(1, JOIN, UNKNOWN)
        self.assertLess(time.monotonic() - started, ANSWER_SECONDS)
        return code

    def check_healed(self, since: float) -> None:
        """All nodes are ready, groups and users are found by those who did not know them, and nobody felt anything."""
        for node in self.nodes:
            node.wait_ready(HEAL_SECONDS)
        wait_until(lambda: self.lookup() == GROUP_UNKNOWN, HEAL_SECONDS, "an answer of the directory")
        wait_until(lambda: self.is_joined(self.orphaned), HEAL_SECONDS, "a group that is found")
        for member in self.members[::2]:
            member.fall_silent()
            moved = self.member(self.nodes[2], member.user, resume=member.sid)
            self.assertIs(moved.welcome["resumed"], True)
            self.assertEqual(member.wait_for_end(AT_ONCE_SECONDS), 4500)
        self.assertLess(time.monotonic() - since, HEAL_SECONDS)
        joins = self.newcomer.joins
        wait_until(lambda: self.newcomer.joins > joins, what="another join")
        self.newcomer.stop()
        self.assertEqual(self.newcomer.refusals, [])
        self.assertLess(self.newcomer.longest, ANSWER_SECONDS)
        staying = self.members[1::2]
        for member in staying:
            member.fall_silent()
        check_heard_once(staying, self.members)
        for member in staying:
            self.assertLess(longest_pause(member, self.members), PAUSE_SECONDS)

    def is_joined(self, group_id: bytes) -> bool:
        """Let a user whose node does not hold the group join it, and leave it again."""
        try:
            self.seeker.join(group_id)
        except AssertionError:
            return False
        self.seeker.leave()
        return True

    def test_wiped(self) -> None:
        """FLUSHALL while all talk, come and go: 10 s later all is registered again, and nobody has felt anything."""
        time.sleep(0.5)
        self.assertEqual(self.redis.tell("FLUSHALL").strip(), "OK")
        self.check_healed(time.monotonic())

    def test_killed_and_restarted(self) -> None:
        """Redis is away for 4 s: what is known goes on, look-ups fail in time; 10 s after it is back all is found."""
        self.redis.kill()
        deadline = time.monotonic() + 4
        wait_until(lambda: self.lookup() == REMOTE_TIMEOUT, ANSWER_SECONDS, "a refusal")
        while time.monotonic() < deadline:
            self.assertEqual(self.lookup(), REMOTE_TIMEOUT)
            time.sleep(0.2)
        wait_until(lambda: all(node.get("/health/ready")[0] == 503 for node in self.nodes), what="no node is ready")
        self.assertEqual(set(self.linked(self.nodes)), {2})
        self.redis.start()
        self.check_healed(time.monotonic())

    def linked(self, nodes: list[Node]) -> list[int]:
        """How many others each is linked to."""
        return [list(links_of(node).values()).count("up") for node in nodes]
