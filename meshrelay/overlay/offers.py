"""Offers of links, their answers, and the dials that follow: how a peer that is heard of becomes a neighbour. Pure.

::

    offer --> answer of the other --> dial its URL, or WebRTC --> link
    offer of another --> answer, and the other dials

`meshrelay.overlay.handshakes` decides, this module does it.

Source: npm peer-relay 0.0.2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from meshrelay.background import Alarms
from meshrelay.overlay.control import ControlMessages
from meshrelay.overlay.counters import OverlayCounters
from meshrelay.overlay.dial_policy import DialPolicy
from meshrelay.overlay.handshakes import Handshakes
from meshrelay.overlay.interfaces import IDialler, ILinkReceiver, IOverlayLink, IWrtcMaker, WrtcAttempt
from meshrelay.overlay.switch import Switch
from meshrelay.wire.overlay import Answer, Envelope, decode_answer

__all__ = ["MAX_ATTEMPTS", "Offers", "OffersOwner", "Surroundings"]

#: WebRTC connections on their way that others began: each costs much, and anybody may send a signal in any name.
MAX_ATTEMPTS = 64


class Surroundings(NamedTuple):
    """What a peer stands on."""

    alarms: Alarms
    #: None: this peer cannot dial.
    dialler: IDialler | None = None
    #: None: this peer does not speak WebRTC.
    wrtc: IWrtcMaker | None = None
    #: The URL by which others dial this peer; "": nobody can.
    url: Callable[[], str] = str
    #: What may be dialled because another peer says so; None = what is no nearer than the bootstraps are.
    policy: DialPolicy | None = None


class OffersOwner(Protocol):
    """Whom the links are for; `meshrelay.overlay.neighbourhood.Neighbourhood` is one."""

    def link_opened(self, link: IOverlayLink, peer_id: bytes) -> ILinkReceiver | None:
        """A link is open, to the peer as it seems; see `LinkOpened`."""

    def try_ended(self, peer_id: bytes, now: float) -> None:
        """A try to reach a peer came to nothing."""


class Offers:
    """See the module. One for each peer."""

    def __init__(
        self,
        owner: OffersOwner,
        handshakes: Handshakes,
        switch: Switch,
        control: ControlMessages,
        surroundings: Surroundings,
        policy: DialPolicy,
        counters: OverlayCounters,
    ) -> None:
        self._owner = owner
        self.handshakes = handshakes
        self._switch = switch
        self._control = control
        self._surroundings = surroundings
        self._alarms = surroundings.alarms
        self._policy = policy
        self._counters = counters
        #: What can be given up of a try to reach a peer.
        self._tries: dict[bytes, Callable[[], object]] = {}
        self._attempts: dict[bytes, WrtcAttempt] = {}

    @property
    def try_count(self) -> int:
        """Tries that have begun to dial."""
        return len(self._tries)

    def offer(self, peer_id: bytes, now: float, *, by_user: bool = False) -> bool:
        """Offer a link.

        :param by_user: somebody asked for it: it need not wait because it failed before.
        :returns: False: a try is under way, or failed not long ago.
        """
        self.update_reachable()
        if not self.handshakes.want(peer_id, now, by_user=by_user):
            return False
        self._switch.post(self._control.offer(peer_id))
        return True

    def update_reachable(self) -> None:
        """See whether others can dial this peer; that changes when it begins to listen."""
        self.handshakes.is_reachable = bool(self._surroundings.url()) or self._surroundings.wrtc is not None

    def _send_answer(self, peer_id: bytes) -> None:
        answer = Answer(self._surroundings.url() or None, self._surroundings.wrtc is not None)
        self._switch.post(self._control.answer(peer_id, answer))

    def offered(self, envelope: Envelope, now: float) -> None:
        """Another peer offers a link."""
        peer_id = envelope.sender
        if not self._control.is_believable(envelope):
            self._counters.dropped["offer"] += 1
            return
        self.update_reachable()
        reply = self.handshakes.offer_came(peer_id, now, peer_id in self._switch.channels)
        if reply.sends_answer:
            self._send_answer(peer_id)
        if reply.sends_offer:
            self._switch.post(self._control.offer(peer_id))

    def answered(self, envelope: Envelope, now: float) -> None:
        """Another peer says how it can be reached.

        :raises BadFrame: the answer cannot be read.
        """
        peer_id = envelope.sender
        answer = decode_answer(envelope.data or b"null")
        # A forged one must not use up the offer; and what nobody waits for is not worth a look at its signature.
        is_awaited = self.handshakes.is_pending(peer_id) and peer_id not in self._switch.channels
        if is_awaited and not self._control.is_believable(envelope):
            is_awaited = False
        if not (is_awaited and self.handshakes.answer_came(peer_id, now)):
            self._counters.dropped["answer"] += 1
            return
        wrtc, dialler = self._surroundings.wrtc, self._surroundings.dialler
        if answer is not None and answer.wrtc and wrtc is not None:
            self._attempt(peer_id, now, is_initiator=True)
            return
        url = self._policy.usable_url(answer.ws, None) if answer is not None and answer.ws else None
        if url is None or dialler is None:
            # It lives, and says so: it may be told of, and sent to.
            self.handshakes.unusable(peer_id, now)
            self._invite(peer_id, now)
            return
        self._counters.dials += 1
        self._tries[peer_id] = dialler.dial(
            url,
            lambda link: self._owner.link_opened(link, peer_id),
            lambda why: self.try_failed(peer_id, self._alarms.now(), is_dial=True),
            is_checked=True,
        )

    def _attempt(self, peer_id: bytes, now: float, *, is_initiator: bool) -> WrtcAttempt | None:
        wrtc = self._surroundings.wrtc
        if wrtc is None:
            return None
        self.handshakes.dialling(peer_id, now)
        self._counters.dials += 1
        attempt = self._attempts[peer_id] = wrtc.attempt(
            is_initiator,
            lambda signal: self._send_signal(peer_id, signal),
            lambda link: self._owner.link_opened(link, peer_id),
            lambda why: self.try_failed(peer_id, self._alarms.now(), is_dial=True),
        )
        self._tries[peer_id] = attempt.cancel
        return attempt

    def _send_signal(self, peer_id: bytes, signal: bytes) -> None:
        self._switch.post(self._control.signal(peer_id, signal))

    def signalled(self, envelope: Envelope, now: float) -> None:
        """A signal came for a WebRTC connection on its way, or for a new one that we have agreed to."""
        peer_id = envelope.sender
        attempt = self._attempts.get(peer_id)
        if attempt is None and len(self._attempts) < MAX_ATTEMPTS and self._may_attempt(peer_id, now):
            attempt = self._attempt(peer_id, now, is_initiator=False)
        if attempt is None or envelope.data is None:
            self._counters.dropped["unexpected_signal"] += 1
        else:
            attempt.signal(envelope.data)

    def _may_attempt(self, peer_id: bytes, now: float) -> bool:
        is_new = peer_id not in self._switch.channels and peer_id not in self._tries
        return is_new and self.handshakes.is_awaited(peer_id, now)

    def stop_try(self, peer_id: bytes) -> None:
        """Give up what is under way, without a word."""
        self._attempts.pop(peer_id, None)
        give_up = self._tries.pop(peer_id, None)
        if give_up is not None:
            give_up()

    def try_failed(self, peer_id: bytes, now: float, *, is_dial: bool = False) -> None:
        """Who was reached is somebody else, or nobody was."""
        self._counters.dials_failed += is_dial
        self.handshakes.failed(peer_id, now)
        self.try_over(peer_id, now)

    def try_over(self, peer_id: bytes, now: float) -> None:
        """A try came to nothing."""
        self.stop_try(peer_id)
        self._owner.try_ended(peer_id, now)
        self._invite(peer_id, now)

    def _invite(self, peer_id: bytes, now: float) -> None:
        if self.handshakes.invites(peer_id, now):
            self._send_answer(peer_id)

    def expire(self, now: float) -> None:
        """End the tries whose time is over."""
        for peer_id in self.handshakes.expire(now):
            self.try_over(peer_id, now)

    def stop(self) -> None:
        """Give up all tries."""
        for peer_id in tuple(self._tries):
            self.stop_try(peer_id)
