"""What two linked meshrelay peers say to each other: proof of who they are, and whom else they are linked to. Pure.

::

    {"challenge": "32 hex digits"}  -->
                                    <--  {"answer": "the same"}, signed
    {"added": [ids]}                -->     whom it is linked to; then what has changed, a few times a second
    {"added": [ids], "removed": [ids]} -->
    {"added": [ids], "plain": [ids]} -->    those of them that acknowledge nothing: npm's package
    {"kin": [ids]}                  -->     which of those are of our kind, so that all of us can find each other

Nothing of npm's package proves that an ID belongs to who says it. Between our own peers an ID is the hash of a key, and
a fresh challenge shows that the other end has the key. Only then is it believed what it is linked to, which is how a
message finds its way in one step where npm's package would look around. The same challenge asks later whether the other
end is still there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import msgspec

from meshrelay.overlay.channel import Channel, LinkEnd
from meshrelay.overlay.control import ControlMessages
from meshrelay.overlay.counters import OverlayCounters
from meshrelay.overlay.links import MAX_HOLDINGS, LinkTable
from meshrelay.overlay.switch import Switch
from meshrelay.wire.overlay import ID_BYTES, Envelope, Fault

__all__ = ["MAX_NAMED_KIN", "OwnLinks"]

#: IDs in one message, so that it fits a frame of every link, also where each is named twice: as added and as plain.
_IDS_OF_MESSAGE = 2500

#: Neighbours of our kind that are named to a new one, and taken of one message.
MAX_NAMED_KIN = 1000

_CHALLENGE_BYTES = 16


class _Message(msgspec.Struct, omit_defaults=True):
    challenge: str = ""
    answer: str = ""
    added: list[str] = msgspec.field(default_factory=list)
    removed: list[str] = msgspec.field(default_factory=list)
    plain: list[str] = msgspec.field(default_factory=list)
    kin: list[str] = msgspec.field(default_factory=list)


class OwnLinks:
    """See the module.

    :param random_bytes: like `secrets.token_bytes`.
    :param schedule: called when the next `flush` has something to do; once, until then.
    :param kin_named: called with a neighbour, the others of our kind that it names, and the time.
    """

    def __init__(
        self,
        switch: Switch,
        links: LinkTable,
        control: ControlMessages,
        random_bytes: Callable[[int], bytes],
        schedule: Callable[[], object],
        kin_named: Callable[[bytes, list[bytes], float], object],
        counters: OverlayCounters,
    ) -> None:
        self._switch = switch
        self._links = links
        self._control = control
        self._random_bytes = random_bytes
        self._schedule = schedule
        self._kin_named = kin_named
        self._counters = counters
        self._proved: dict[Channel, None] = {}
        #: Peers that the proved neighbours know of, or will at the next flush.
        self._announced: set[bytes] = set()
        #: Peers linked or lost since the last flush, True: linked.
        self._changed: dict[bytes, bool] = {}
        #: Neighbours that have proved themselves since then.
        self._new_kin: dict[bytes, None] = {}
        #: What could not be told, as a link took no more; as in `_changed`. It is told with the next flush.
        self._missed: dict[Channel, dict[bytes, bool]] = {}
        self._is_planned = False

    def __len__(self) -> int:
        """Channels that are proved."""
        return len(self._proved)

    def opened(self, channel: Channel) -> None:
        """A channel is open: ask for proof if it may give one."""
        if channel.is_ours:
            self.challenge(channel)

    def challenge(self, channel: Channel) -> None:
        """Ask the other end to show that it is there, and who it is."""
        channel.challenge = self._random_bytes(_CHALLENGE_BYTES)
        self._tell(channel, _Message(challenge=channel.challenge.hex()))

    def announce(self, peer_id: bytes) -> None:
        """A link is a way to its peer, and others may know: it has proved itself, or asked this peer for others.

        A peer of npm's package that has no room for us takes nothing from us either.
        """
        if peer_id not in self._announced:
            self._announced.add(peer_id)
            self._change(peer_id, True)

    def closed(self, channel: Channel) -> None:
        """A channel is no more."""
        self._proved.pop(channel, None)
        self._missed.pop(channel, None)
        peer_id = channel.peer_id
        if peer_id not in self._switch.channels and peer_id in self._announced:
            self._announced.remove(peer_id)
            self._change(peer_id, False)

    def _change(self, peer_id: bytes, is_linked: bool) -> None:
        self._plan_flush()
        self._changed[peer_id] = is_linked

    def _plan_flush(self) -> None:
        if not self._is_planned:
            self._is_planned = True
            self._schedule()

    def flush(self) -> None:
        """Tell the proved neighbours what has changed."""
        self._is_planned = False
        changed, self._changed = self._changed, {}
        new_kin, self._new_kin = self._new_kin, {}
        missed, self._missed = self._missed, {}
        for channel in tuple(self._proved):
            due = {**missed.get(channel, {}), **changed}
            if not self._tell_changes(channel, due):
                # Nobody asks for it, and nothing else would ever say it again; twice does no harm.
                self._missed[channel] = due
            for part in _parts(peer_id for peer_id in new_kin if peer_id != channel.peer_id):
                self._tell(channel, _Message(kin=_hex(part)))
        if self._missed:
            self._plan_flush()

    def _tell_changes(self, channel: Channel, changes: dict[bytes, bool]) -> bool:
        removed = [peer_id for peer_id, is_linked in changes.items() if not is_linked]
        added = [peer_id for peer_id, is_linked in changes.items() if is_linked]
        is_told = all(self._tell(channel, _Message(removed=_hex(part))) for part in _parts(removed))
        return is_told and self._tell_added(channel, added)

    def _tell_added(self, channel: Channel, peer_ids: Iterable[bytes]) -> bool:
        """Name peers that are linked. False: not all of them, the link takes no more."""
        others = (peer_id for peer_id in peer_ids if peer_id != channel.peer_id)
        channels = self._switch.channels
        for part in _parts(others):
            plain = [peer_id for peer_id in part if peer_id in channels and not channels[peer_id].is_ours]
            if not self._tell(channel, _Message(added=_hex(part), plain=_hex(plain))):
                return False
        return True

    def _tell(self, channel: Channel, message: _Message, *, is_signed: bool = False) -> bool:
        data = msgspec.json.encode(message)
        return self._switch.tell(channel, self._control.own_link(channel.peer_id, data, is_signed=is_signed))

    def received(self, channel: Channel, envelope: Envelope, now: float) -> None:
        """Take what the other end of `channel` says."""
        try:
            message = msgspec.json.decode(envelope.data or b"", type=_Message)
        except (ValueError, RecursionError):
            self._counters.bad_frames[Fault.VALUE] += 1
            return
        if len(message.challenge) == 2 * _CHALLENGE_BYTES and channel.takes_request(now):
            self._tell(channel, _Message(answer=message.challenge), is_signed=True)
        if message.answer:
            self._answered(channel, envelope, message.answer, now)
        if channel in self._proved:
            self._told(channel, message, now)

    def _told(self, channel: Channel, message: _Message, now: float) -> None:
        try:
            added, removed, kin = _ids(message.added), _ids(message.removed), _ids(message.kin[:MAX_NAMED_KIN])
            plain = _ids(message.plain[:MAX_HOLDINGS])
        except ValueError:
            self._counters.bad_frames[Fault.VALUE] += 1
            return
        if added or removed:
            self._links.set_holdings(channel.peer_id, added[:MAX_HOLDINGS], removed)
        for peer_id in plain:
            self._links.mark_plain(peer_id)
        if kin:
            self._kin_named(channel.peer_id, kin, now)

    def _answered(self, channel: Channel, envelope: Envelope, answer: str, now: float) -> None:
        if not channel.challenge:
            self._counters.dropped["bad_proof"] += 1
            return
        challenge, channel.challenge = channel.challenge, b""
        if answer != challenge.hex() or not self._control.is_proved(envelope):
            self._counters.dropped["bad_proof"] += 1
            if not channel.is_proved:
                channel.close(LinkEnd.UNPROVED)
        elif channel.is_proved:
            self._switch.alive(channel)
        else:
            self._switch.proved(channel, now)
            self._welcome(channel)

    def _welcome(self, channel: Channel) -> None:
        """Tell who has just proved itself all that the others know."""
        known = list(islice(self._announced, MAX_HOLDINGS))
        if not self._tell_added(channel, known):
            self._missed[channel] = dict.fromkeys(known, True)
        kin = {other.peer_id: None for other in islice(self._proved, MAX_NAMED_KIN)}
        kin.pop(channel.peer_id, None)
        if kin:
            self._tell(channel, _Message(kin=_hex(kin)))
        self._plan_flush()
        self._new_kin[channel.peer_id] = None
        self._proved[channel] = None
        if channel.peer_id in self._switch.channels:
            self.announce(channel.peer_id)


def _hex(peer_ids: Iterable[bytes]) -> list[str]:
    return [peer_id.hex() for peer_id in peer_ids]


def _ids(texts: list[str]) -> list[bytes]:
    peer_ids = [bytes.fromhex(text) for text in texts]
    if any(len(peer_id) != ID_BYTES for peer_id in peer_ids):
        raise ValueError(f"an ID has {ID_BYTES} bytes")
    return peer_ids


def _parts(peer_ids: Iterable[bytes]) -> Iterator[list[bytes]]:
    iterator = iter(peer_ids)
    while part := list(islice(iterator, _IDS_OF_MESSAGE)):
        yield part
