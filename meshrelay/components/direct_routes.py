"""At the node of the sender: finds the peer, sends, and sends again where the peer has moved. Order is kept per pair.

::

    send --place is known--> DIRECT_SEND --> the peer's node --DIRECT_RESULTS--> done
      |                                                          |
      `--else--> look-up (directory) --> place <--not here-------'

While a pair is looked up its messages wait in order; what comes back goes in front of them. The peer's node remembers
for a moment what it refused, so that nothing sent behind that can be taken before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from itertools import count
from typing import NamedTuple, Protocol

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from meshrelay.background import Alarms, start
from meshrelay.components.direct_channels import TOUCH_SECONDS, Channel, ChannelTable, Item, Place
from meshrelay.directory.interfaces import IDirectory
from meshrelay.directory.records import UserRecord
from meshrelay.errors import (
    CommandError,
    InternalError,
    MeshError,
    NodesNotFound,
    ReliableTimeout,
    UserDeclined,
    UserNotFound,
)
from meshrelay.interfaces import INodes, ISession, ISessions
from meshrelay.wire.direct_node import Direct, Outcome, Parcel, encode_send
from meshrelay.wire.node_kinds import NodeKind

__all__ = ["CHECK_SECONDS", "MAX_PENDING", "DirectRoutes", "Outside", "RouteParts"]

#: Deadlines are looked at this often.
CHECK_SECONDS = 0.25

#: Messages of this node that are on their way or wait.
MAX_PENDING = 200_000

#: Look-ups that found the peer where it is not, before it counts as gone; the pause before each grows.
MAX_TRIES = 5
FIRST_PAUSE_SECONDS = 0.05

#: A user whom the directory does not know is looked up once more after this.
GRACE_SECONDS = 0.1

_ERRORS: Mapping[Outcome, type[CommandError]] = {
    Outcome.DECLINED: UserDeclined,
    Outcome.FAILED: InternalError,
    Outcome.TIMED_OUT: ReliableTimeout,
}


class RouteParts(NamedTuple):
    """What routes stand on."""

    nodes: INodes
    #: None = this node is alone: who is not here is nowhere.
    directory: IDirectory | None
    sessions: ISessions
    clock: IReactorTime
    alarms: Alarms


class Outside(Protocol):
    """Whoever can be written to like a user and signs in nowhere; `meshrelay.overlay.bridge_nodes` knows some."""

    def has(self, user_id: str) -> bool:
        """Whether this ID belongs to somebody outside, known or not; no user has it."""

    def send(self, direct: Direct, done: Callable[[CommandError | None], object]) -> None:
        """Bring a message to somebody outside; see `DirectRoutes.send`. No order is promised."""


class NoOutside:
    """`Outside` with nobody."""

    def has(self, user_id: str) -> bool:
        """See `Outside`."""
        return False

    def send(self, direct: Direct, done: Callable[[CommandError | None], object]) -> None:
        """See `Outside`."""
        done(UserNotFound())


class DirectRoutes:
    """See the module.

    :ivar outside: who is not looked for among the users.

    :param deliver: brings a message to a user of this node, see `DirectDelivery.deliver`.
    :param timeout_seconds: after that a message that was not answered is given up.
    """

    _log = Logger()

    def __init__(
        self,
        parts: RouteParts,
        table: ChannelTable,
        deliver: Callable[[Direct, ISession, Callable[[Outcome], object]], object],
        timeout_seconds: float,
    ) -> None:
        self._nodes = parts.nodes
        self._directory = parts.directory
        self._sessions = parts.sessions
        self._clock = parts.clock
        self._alarms = parts.alarms
        self._table = table
        self._deliver = deliver
        self._timeout_seconds = timeout_seconds
        self.outside: Outside = NoOutside()
        self._numbers = count(1)
        #: Number -> channel of what is on its way.
        self._flights: dict[int, Channel] = {}
        #: Of all channels: one that is made anew must not look older to other nodes than the one before it.
        self._generations = count(1)
        #: All that is to be done, oldest first.
        self._deadlines: deque[Item] = deque()
        self._swept_at = float("-inf")
        self._is_checking = False
        self.sent = 0
        self.lookups = 0
        self.stale = 0
        self.timeouts = 0

    @property
    def flight_count(self) -> int:
        """Messages on their way to other nodes."""
        return len(self._flights)

    @property
    def pending_count(self) -> int:
        """Messages that somebody waits for, at most `MAX_PENDING`, with those done since the last check."""
        return len(self._deadlines)

    def session_here(self, user_id: str, peer_id: str) -> ISession | None:
        """The session of a peer of this node for whom nothing of this pair waits; the channel is used now."""
        session = self._sessions.find_user(peer_id)
        if session is None:
            return None
        now = self._clock.seconds()
        channel = self._table.open(user_id, peer_id, now)
        if not channel.is_idle:
            return None
        self._is_here(channel, session, now)
        return session

    def send(self, direct: Direct, done: Callable[[CommandError | None], object]) -> None:
        """Bring a message to its peer.

        :param done: called once, perhaps before this returns: None when the peer's node has taken it.
        """
        self.sent += 1
        if self.outside.has(direct.peer_id):
            self.outside.send(direct, done)
            return
        now = self._clock.seconds()
        channel = self._table.open(direct.sender_id, direct.peer_id, now)
        session = self._sessions.find_user(direct.peer_id)
        is_free = channel.is_idle
        if session is not None and is_free:
            self._is_here(channel, session, now)
            self._deliver(direct, session, lambda outcome: self._here(outcome, done))
            return
        if self._directory is None and is_free:
            self._table.close(channel)
            done(UserNotFound())
            return
        if len(self._deadlines) >= MAX_PENDING and not self._sweep(now):
            self._table.close(channel)
            done(ReliableTimeout(f"{MAX_PENDING} direct messages wait, the limit of this node"))
            return
        item = Item(direct, done, now + self._timeout_seconds)
        self._deadlines.append(item)
        self._check_later()
        place = channel.place
        is_clear = not (channel.waiting or channel.refused or channel.is_resolving)
        is_there = place is not None and place.node_id != self._nodes.node_id
        # A message of the peer may have told a new place while older ones are on their way to the last one.
        is_same = not channel.flight or (place is not None and place.node_id == channel.flight_node)
        if place is not None and is_there and is_clear and is_same and not self._nodes.is_lost(place.node_id):
            self._transmit(channel, place, item)
        else:
            channel.waiting.append(item)
            self._resolve(channel)

    def wait_behind(self, channel: Channel, done: Callable[[CommandError | None], object]) -> bool:
        """Call `done` behind what waits until it is known where the peer is. False: nothing waits."""
        if not (channel.waiting or channel.refused or channel.is_resolving):
            return False
        now = self._clock.seconds()
        if len(self._deadlines) >= MAX_PENDING and not self._sweep(now):
            done(ReliableTimeout())
            return True
        item = Item(None, done, now + self._timeout_seconds)
        self._deadlines.append(item)
        self._check_later()
        channel.waiting.append(item)
        return True

    def _sweep(self, now: float) -> bool:
        """Make room among what is to be done, where one message that takes long holds up those done behind it."""
        if now - self._swept_at >= CHECK_SECONDS:
            self._swept_at = now
            self._deadlines = deque(item for item in self._deadlines if not item.is_done)
        return len(self._deadlines) < MAX_PENDING

    def _is_here(self, channel: Channel, session: ISession, now: float) -> None:
        """The peer is on this node: both ends of the channel are."""
        node_id, sid = self._nodes.node_id, session.user.sid
        if channel.place != (node_id, sid):
            channel.place = Place(node_id, sid)
        if channel.user_id and now - channel.backed_at > TOUCH_SECONDS and not self.outside.has(channel.user_id):
            channel.backed_at = now
            back = self._table.open(channel.peer_id, channel.user_id, now)
            sender = self._sessions.find_user(channel.user_id)
            if sender is not None and back.is_idle:
                back.place = Place(self._nodes.node_id, sender.user.sid)

    def _here(self, outcome: Outcome, done: Callable[[CommandError | None], object]) -> None:
        if outcome is Outcome.TAKEN:
            done(None)
        else:
            done(_ERRORS.get(outcome, UserNotFound)())

    def _transmit(self, channel: Channel, place: Place, item: Item) -> None:
        if self._nodes.is_lost(place.node_id):
            item.finish(ReliableTimeout("the user's node cannot be reached"))
            channel.place = None
            return
        if not channel.generation:
            channel.generation = self._next_generation()
        number = next(self._numbers)
        assert item.direct is not None
        payload = encode_send(Parcel(number, channel.generation, item.direct))
        channel.flight[number] = item
        channel.flight_node = place.node_id
        self._flights[number] = channel
        if not self._nodes.send(place.node_id, NodeKind.DIRECT_SEND, payload):
            del channel.flight[number], self._flights[number]
            channel.place = None
            item.finish(NodesNotFound())

    def _next_generation(self) -> int:
        # It is a u32 on the wire.
        return next(self._generations) & 0xFFFFFFFF

    def outcome_came(self, number: int, outcome: Outcome) -> None:
        """The peer's node says what became of a message."""
        channel = self._flights.pop(number, None)
        item = channel.flight.pop(number, None) if channel is not None else None
        if channel is None or item is None:
            return
        if outcome is Outcome.NOT_HERE:
            self.stale += 1
            channel.place = None
            channel.refused.append(item)
        elif outcome is Outcome.TAKEN:
            channel.tries = 0
            item.finish(None)
        else:
            item.finish(_ERRORS[outcome]())
        self._landed(channel)

    def _landed(self, channel: Channel) -> None:
        """Go on once nothing is on its way: what was refused comes first, in order, and then what waits."""
        if channel.flight:
            return
        if channel.refused:
            channel.waiting.extendleft(reversed(channel.refused))
            channel.refused.clear()
        if channel.waiting:
            self._resolve(channel)

    def _resolve(self, channel: Channel) -> None:
        """Find the peer, unless that is under way or something must come back before."""
        if channel.is_resolving or channel.flight or channel.refused:
            return
        channel.is_resolving = True
        start(self._find(channel), self._log, "looking a user up")

    async def _find(self, channel: Channel) -> None:
        error: CommandError | None = None
        try:
            if channel.tries > 1:
                await self._pause(FIRST_PAUSE_SECONDS * (1 << (channel.tries - 1)))
            channel.tries += 1
            channel.place = await self._look_up(channel)
        except CommandError as refused:
            error = refused
        finally:
            channel.is_resolving = False
        self._go_on(channel, error)

    async def _pause(self, seconds: float) -> None:
        over: Deferred[None] = Deferred()
        self._alarms.call_later(seconds, lambda: over.callback(None))
        await over

    async def _look_up(self, channel: Channel) -> Place:
        session = self._sessions.find_user(channel.peer_id)
        if session is not None:
            return Place(self._nodes.node_id, session.user.sid)
        if self._directory is None:
            raise UserNotFound
        self.lookups += 1
        record = await self._ask_directory(self._directory, channel.peer_id)
        if record is None and channel.tries == 1:
            # Nodes say who signed in a moment later than they tell the client.
            await self._pause(GRACE_SECONDS)
            record = await self._ask_directory(self._directory, channel.peer_id)
        session = self._sessions.find_user(channel.peer_id)
        if session is not None:
            # It signed in here meanwhile.
            return Place(self._nodes.node_id, session.user.sid)
        if record is None or channel.tries > MAX_TRIES:
            raise UserNotFound
        if self._nodes.is_lost(record.node_id):
            raise ReliableTimeout("the user's node cannot be reached")
        if record.node_id != self._nodes.node_id and record.node_id not in self._nodes.known():
            raise NodesNotFound
        return Place(record.node_id, record.sid)

    async def _ask_directory(self, directory: IDirectory, peer_id: str) -> UserRecord | None:
        try:
            asked: Deferred[UserRecord | None] = directory.find_user(peer_id)
            asked.addTimeout(self._timeout_seconds, self._clock)
            return await asked
        except (MeshError, TimeoutError) as error:
            raise ReliableTimeout("the directory did not answer in time") from error

    def _go_on(self, channel: Channel, error: CommandError | None) -> None:
        """Send what waited, or say why not."""
        if error is not None:
            channel.tries = 0
            waiting, channel.waiting = channel.waiting, deque()
            for item in waiting:
                item.finish(error)
            self._close_unused(channel)
            return
        channel.generation = self._next_generation()
        while channel.waiting and channel.place is not None:
            item = channel.waiting.popleft()
            if item.is_done:
                continue
            if item.direct is None:
                item.finish(None)
                continue
            session = self._sessions.find_user(channel.peer_id)
            if session is not None:
                channel.tries = 0
                self._deliver_waiting(channel, item, session)
            elif channel.place.node_id == self._nodes.node_id:
                # The directory is behind, or the user is on the way from here to another node.
                channel.waiting.appendleft(item)
                channel.place = None
            else:
                self._transmit(channel, channel.place, item)
        if channel.waiting:
            self._resolve(channel)

    def _deliver_waiting(self, channel: Channel, item: Item, session: ISession) -> None:
        self._is_here(channel, session, self._clock.seconds())
        assert item.direct is not None
        self._deliver(item.direct, session, lambda outcome: self._here(outcome, item.finish))

    def _close_unused(self, channel: Channel) -> None:
        if channel.place is None and channel.is_idle:
            self._table.close(channel)

    def node_lost(self, node_id: str) -> None:
        """A node cannot be reached: nobody waits for it, and its users are looked up again."""
        landed = {}
        for number, channel in list(self._flights.items()):
            if channel.flight_node == node_id:
                item = channel.flight.pop(number)
                del self._flights[number]
                landed[channel.user_id, channel.peer_id] = channel
                item.finish(ReliableTimeout("the user's node was lost"))
        for channel in landed.values():
            self._landed(channel)

    def _check_later(self) -> None:
        if not self._is_checking:
            self._is_checking = True
            self._alarms.call_later(CHECK_SECONDS, self._check)

    def _check(self) -> None:
        self._is_checking = False
        now = self._clock.seconds()
        deadlines = self._deadlines
        while deadlines and (deadlines[0].is_done or deadlines[0].gives_up_at <= now):
            item = deadlines.popleft()
            if not item.is_done:
                self.timeouts += 1
                item.finish(ReliableTimeout())
        if deadlines:
            self._check_later()
