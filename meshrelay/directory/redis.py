"""The directory on a Redis server, alone or behind Sentinel: what a larger cluster runs on.

Two connections: one for calls, one that hears the tokens of `loopback`. Once `start` was called the epoch is asked for
each ``check_seconds``: that keeps the connection tried, and another epoch, as well as a connection that is back, tells
the watchers that data may be lost. A server that was replaced by its replica has another epoch even when the data look
the same: its last writes may be missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from random import Random
from typing import Any

from twisted.internet.defer import Deferred, FirstError, execute, gatherResults
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from meshrelay.background import start
from meshrelay.directory.errors import DirectoryUnavailable, NodeUnknown
from meshrelay.directory.interfaces import IDirectory
from meshrelay.directory.options import DirectoryOptions
from meshrelay.directory.records import GroupRecord, NodeRecord, UserRecord, check_name
from meshrelay.directory.redis_dial import RedisConnection, RedisDialer, TlsMaker, open_dialer
from meshrelay.directory.redis_link import RedisLink
from meshrelay.directory.redis_script import RedisScripts, ScriptCall
from meshrelay.directory.watchers import EpochWatch, LossWatchers

__all__ = ["MAX_LOOPBACKS", "REFRESH_BATCH", "RedisDirectory", "open_redis_directory"]

#: Users or groups that one script takes in: about a millisecond in which Redis serves nobody else.
REFRESH_BATCH = 200
#: Batches that are on their way at once.
_REFRESH_WINDOW = 4
#: Tokens on their way at once.
MAX_LOOPBACKS = 100
#: Each so many checks Sentinel is asked whether the master is still the one.
_MASTER_CHECK_EVERY = 5
#: Part of the lifetime of an entry after which its node says it again.
_REFRESH_SHARE = 1 / 3


def open_redis_directory(
    reactor: Any,
    url: str,
    cluster: str,
    random: Random,
    options: DirectoryOptions = DirectoryOptions(),  # noqa: B008  (frozen)
    tls: TlsMaker | None = None,
) -> RedisDirectory:
    """Put a directory together; nothing is connected before its first call.

    :param url: see `meshrelay.directory.redis_url`.
    :param cluster: clusters of different names do not see each other on one server.
    :param tls: used when the URL says TLS; None = trust the authorities of the platform.
    :raises ConfigError: the URL is wrong, or txredisapi is not installed.
    """
    dialer, library = open_dialer(reactor, url, options.deadline_seconds, tls)
    return RedisDirectory(reactor, dialer, library, RedisScripts(cluster, options), random, options)


@implementer(IDirectory)
class RedisDirectory:
    """`IDirectory` on Redis; see the module. Put together by `open_redis_directory`.

    :param library: txredisapi.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        dialer: RedisDialer,
        library: Any,
        scripts: RedisScripts,
        random: Random,
        options: DirectoryOptions,
    ) -> None:
        self.lease_seconds = options.lease_seconds
        self.refresh_seconds = options.entry_seconds * _REFRESH_SHARE
        self._clock = clock
        self._dialer = dialer
        self._library = library
        self._scripts = scripts
        self._random = random
        self._options = options
        self._link = RedisLink(clock, "directory", library, self._connect, options, random.uniform, self._link_changed)
        self._ear = RedisLink(clock, "loopback", library, self._connect_ear, options, random.uniform, self._ear_changed)
        # Of this node alone: a thousand nodes that test their readiness must not hear each other.
        self._channel = f"{scripts.prefix}loopback:{self._random_name()}"
        self._tokens: dict[str, Deferred[None]] = {}
        self._tokens_refused = 0
        self._watchers = LossWatchers()
        self._watch = EpochWatch(self._watchers)
        self._checks = 0
        self._looping = LoopingCall(self._check)
        self._looping.clock = clock

    def start(self) -> None:
        """As `IDirectory.start`."""
        done = self._looping.start(self._options.check_seconds)
        done.addErrback(lambda failure: self._log.failure("the check of the directory failed", failure=failure))

    def stop(self) -> Deferred[None]:
        """As `IDirectory.stop`."""
        if self._looping.running:
            self._looping.stop()
        return gatherResults([self._link.stop(), self._ear.stop()]).addCallback(lambda _: None)

    def register_node(self, record: NodeRecord) -> Deferred[bool]:
        """As `IDirectory.register_node`."""
        answer = self._ask(self._scripts.register, record, self._random_name())
        return answer.addCallback(self._scripts.read_register, record.node_id)

    def withdraw_node(self, node_id: str, incarnation: str) -> Deferred[bool]:
        """As `IDirectory.withdraw_node`."""
        return self._ask(self._scripts.withdraw, node_id, incarnation).addCallback(_is_yes)

    def nodes(self) -> Deferred[list[NodeRecord]]:
        """As `IDirectory.nodes`."""
        return self._ask(self._scripts.nodes).addCallback(self._scripts.read_nodes)

    def claim_user(self, record: UserRecord) -> Deferred[UserRecord | None]:
        """As `IDirectory.claim_user`."""
        answer = self._ask(self._scripts.claim, record.node_id, [record])
        return answer.addCallback(self._scripts.read_claim, record.node_id)

    def release_user(self, user_id: str, sid: str, node_id: str) -> Deferred[bool]:
        """As `IDirectory.release_user`."""
        return self._ask(self._scripts.release, user_id, sid, node_id).addCallback(_is_yes)

    def find_user(self, user_id: str) -> Deferred[UserRecord | None]:
        """As `IDirectory.find_user`."""
        return self._ask(self._scripts.find_user, user_id).addCallback(self._scripts.read_user)

    def join_group(self, group_id: str, node_id: str, settings: bytes) -> Deferred[GroupRecord]:
        """As `IDirectory.join_group`."""
        answer = self._ask(self._scripts.join, node_id, [(group_id, settings)])
        return answer.addCallback(self._scripts.read_join, group_id, node_id)

    def leave_group(self, group_id: str, node_id: str) -> Deferred[bool]:
        """As `IDirectory.leave_group`."""
        return self._ask(self._scripts.leave, group_id, node_id).addCallback(_is_yes)

    def find_group(self, group_id: str) -> Deferred[GroupRecord | None]:
        """As `IDirectory.find_group`."""
        return self._ask(self._scripts.find_group, group_id).addCallback(self._scripts.read_group, group_id)

    def refresh(
        self, node_id: str, users: Iterable[UserRecord], groups: Iterable[tuple[str, bytes]]
    ) -> Deferred[list[UserRecord]]:
        """As `IDirectory.refresh`; a few batches are on their way at once."""
        return Deferred.fromCoroutine(self._refresh(node_id, iter(users), iter(groups)))

    def epoch(self) -> Deferred[str]:
        """As `IDirectory.epoch`."""
        return Deferred.fromCoroutine(self._ask_epoch())

    def loopback(self, token: str) -> Deferred[None]:
        """As `IDirectory.loopback`: published on one connection, heard on the other."""
        done = Deferred.fromCoroutine(self._loop_back(token))
        done.addTimeout(self._options.deadline_seconds, self._clock)
        return done.addErrback(self._loopback_failed)

    def watch_lost(self, callback: Callable[[], object]) -> None:
        """As `IDirectory.watch_lost`."""
        self._watchers.add(callback)

    def statistics(self) -> dict[str, int]:
        """As `IDirectory.statistics`."""
        return {
            **self._link.statistics(),
            "loopback_connections": self._ear.statistics()["connections"],
            "loopbacks_refused": self._tokens_refused,
            "losses": self._watchers.losses,
            "unreadable": self._scripts.unreadable,
        }

    def _random_name(self) -> str:
        return f"{self._random.getrandbits(64):016x}"

    async def _connect(self) -> RedisConnection:
        return await self._dialer.connect(self._library.RedisProtocol)

    async def _connect_ear(self) -> RedisConnection:
        return await self._dialer.connect(self._library.SubscriberProtocol, self._subscribe)

    async def _subscribe(self, protocol: Any) -> None:
        protocol.messageReceived = self._heard
        await protocol.subscribe([self._channel])

    def _ask(self, make: Callable[..., ScriptCall], *arguments: Any) -> Deferred[Any]:
        return execute(make, *arguments).addCallback(self._run)

    def _run(self, call: ScriptCall) -> Deferred[Any]:
        # The library sends EVALSHA, and EVAL where the server does not know the script (any more).
        return self._link.call(lambda protocol: protocol.eval(call.script, call.keys, call.arguments))

    async def _refresh(
        self, node_id: str, users: Iterator[UserRecord], groups: Iterator[tuple[str, bytes]]
    ) -> list[UserRecord]:
        newer: list[UserRecord] = []
        for answer in await self._run_all(self._scripts.claim(node_id, batch) for batch in _batches(users)):
            newer += self._scripts.read_claims(answer, node_id)
        for answer in await self._run_all(self._scripts.join(node_id, batch) for batch in _batches(groups)):
            if answer == b"unknown":
                raise NodeUnknown(node_id)
        return newer

    async def _run_all(self, calls: Iterator[ScriptCall]) -> list[bytes]:
        answers: list[bytes] = []
        while window := list(islice(calls, _REFRESH_WINDOW)):
            try:
                answers += await gatherResults([self._run(call) for call in window], consumeErrors=True)
            except FirstError as error:
                error.subFailure.raiseException()
        return answers

    async def _ask_epoch(self) -> str:
        stored = await self._run(self._scripts.epoch(self._random_name()))
        connection = self._link.connection
        if connection is None:
            raise DirectoryUnavailable("connection lost")
        return f"{connection.run_id}:{stored.decode('utf-8', 'replace')}"

    def _check(self) -> Deferred[None]:
        return start(self._look(), self._log, "the check of the directory")

    async def _look(self) -> None:
        try:
            epoch = await self._ask_epoch()
        except DirectoryUnavailable:
            # The link has said so in the log, and goes on trying.
            return
        self._watch.heard(epoch)
        self._checks += 1
        if self._checks % _MASTER_CHECK_EVERY == 0:
            await self._check_master()

    async def _check_master(self) -> None:
        # A master that only the Sentinels cannot reach goes on answering us, but what it takes in will be lost.
        try:
            master = await self._dialer.find_master()
        except DirectoryUnavailable:
            return
        for link in (self._link, self._ear):
            if link.connection is not None and link.connection.address != master:
                link.drop("Sentinel names another master")

    def _link_changed(self, is_up: bool) -> None:
        if not is_up:
            self._watch.went_away()
        elif self._looping.running:
            self._check()

    def _ear_changed(self, is_up: bool) -> None:
        if not is_up:
            for heard in list(self._tokens.values()):
                heard.errback(DirectoryUnavailable("the connection that listens was lost"))
            self._tokens.clear()

    async def _loop_back(self, token: str) -> None:
        check_name(token, "token")
        if token in self._tokens:
            raise ValueError("the same token is on its way")
        if len(self._tokens) >= MAX_LOOPBACKS:
            self._tokens_refused += 1
            raise DirectoryUnavailable(f"{MAX_LOOPBACKS} tokens are on their way")
        heard = self._tokens[token] = Deferred()
        try:
            await self._ear.when_up()
            if not await self._link.call(lambda protocol: protocol.publish(self._channel, token)):
                self._ear.drop("nobody hears what is published")
            await heard
        finally:
            if self._tokens.get(token) is heard:
                del self._tokens[token]
            # It may have failed before anybody waited for it.
            heard.addErrback(lambda _: None)

    def _heard(self, pattern: object, channel: object, message: bytes) -> None:
        heard = self._tokens.pop(message.decode("ascii", "replace"), None)
        if heard is not None:
            heard.callback(None)

    def _loopback_failed(self, failure: Failure) -> None:
        failure.trap(DeferredTimeoutError)
        self._ear.drop("a token did not come back")
        raise DirectoryUnavailable("a token did not come back") from None


def _is_yes(answer: bytes) -> bool:
    return answer == b"yes"


def _batches(entries: Iterator[Any]) -> Iterator[list[Any]]:
    while batch := list(islice(entries, REFRESH_BATCH)):
        yield batch
