"""ICE, DTLS and SCTP of one WebRTC connection with one data channel, by aiortc.

::

    WrtcLink --text--> RTCDataChannel -> RTCSctpTransport -> RTCDtlsTransport -> RTCIceTransport -> UDP sockets
    WrtcLink <-bytes-- AiortcStack <------- the same, backwards

The parts are used without aiortc's RTCPeerConnection: that would take a description with a thousand video sections at
its word, and shows its parts too late for `meshrelay.transport.overlay_webrtc_bounds`. Of their insides are used
``_connection`` of an ICE gatherer, its ``_nominated`` to say who the other end is, and ``_set_role`` of DTLS.

Needs the extra ``webrtc``, and an asyncio loop that runs.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, NamedTuple

from aiortc import (
    InvalidStateError,
    RTCCertificate,
    RTCDataChannel,
    RTCDataChannelParameters,
    RTCDtlsParameters,
    RTCDtlsTransport,
    RTCIceCandidate,
    RTCIceGatherer,
    RTCIceParameters,
    RTCIceServer,
    RTCIceTransport,
    RTCSctpCapabilities,
    RTCSctpTransport,
)
from aiortc.sdp import GroupDescription, MediaDescription, SessionDescription, candidate_from_sdp
from twisted.logger import Logger

from meshrelay.transport.overlay_signal import BadSignal, Description
from meshrelay.transport.overlay_webrtc_bounds import MAX_CANDIDATES, bound_ice, bound_sctp, use_addresses
from meshrelay.transport.overlay_webrtc_link import NotConnected, StackOwner, Tasks, WrtcCounters, WrtcOptions

__all__ = ["AiortcStack"]

#: RFC 8839, section 5.4.
_ICE_TEXT = re.compile(r"[a-zA-Z0-9+/]{4,256}")

#: What is taken for a peer's limit that names none; RFC 8841, section 6.1.
_UNSAID_MESSAGE_BYTES = 65536

#: What a parser raises that expects well-formed text.
_PARSE_ERRORS = (ArithmeticError, AssertionError, AttributeError, LookupError, StopIteration, TypeError, ValueError)


class _RemoteEnd(NamedTuple):
    """What matters of a description."""

    mid: str
    #: ``UDP/DTLS/SCTP``, or ``DTLS/SCTP`` of browsers before 2019.
    profile: str
    ice: RTCIceParameters
    dtls: RTCDtlsParameters
    sctp_port: int
    #: 0: any.
    max_message_bytes: int
    candidates: list[RTCIceCandidate]
    has_all_candidates: bool


def _read(description: Description) -> _RemoteEnd:
    try:
        session = SessionDescription.parse(description.sdp)
        media = next(media for media in session.media if media.kind == "application")
        is_old = media.profile == "DTLS/SCTP"
        port = int(media.fmt[0]) if is_old else media.sctp_port
        size = media.sctpCapabilities.maxMessageSize if media.sctpCapabilities else _UNSAID_MESSAGE_BYTES
    except _PARSE_ERRORS as error:
        raise BadSignal(f"no description of a data channel: {error!r}") from None
    ice, dtls = media.ice, media.dtls
    if port is None or not 0 < port < 65536 or size < 0:
        raise BadSignal("no usable port or size of SCTP")
    if ice is None or not all(_ICE_TEXT.fullmatch(text or "") for text in (ice.usernameFragment, ice.password)):
        raise BadSignal("no usable name or password of ICE")
    if dtls is None or not dtls.fingerprints or (dtls.role == "auto" and not description.is_offer):
        raise BadSignal("no fingerprint, or no role of DTLS")
    candidates = media.ice_candidates[:MAX_CANDIDATES]
    mid = str(media.rtp.muxId or "0")
    return _RemoteEnd(mid, media.profile, ice, dtls, port, size, candidates, media.ice_candidates_complete)


class AiortcStack:
    """See the module. To be made while the loop runs; `stop` ends it, whatever state it is in.

    :param label: of the channel that is made, or "": the other end makes it.
    """

    _log = Logger()

    def __init__(
        self, owner: StackOwner, label: str, options: WrtcOptions, counters: WrtcCounters, tasks: Tasks
    ) -> None:
        self.owner = owner
        self._counters = counters
        self._start = tasks.start
        self._is_offerer = bool(label)
        self._is_stopped = False
        self._candidate_count = 0
        self._gathering: asyncio.Task[Any] | None = None
        self._remote: _RemoteEnd | None = None
        certificate = RTCCertificate.generateCertificate()
        # None would be a public server of somebody else.
        self._gatherer = RTCIceGatherer(iceServers=[RTCIceServer(url) for url in options.stun])
        self._connection = self._gatherer._connection
        self._connection.ice_controlling = self._is_offerer
        bound_ice(self._connection, options.allows, counters)
        if options.addresses:
            use_addresses(self._connection, options.addresses)
        self._ice = RTCIceTransport(self._gatherer)
        self._dtls = RTCDtlsTransport(self._ice, [certificate])
        self._dtls.on("statechange", self._dtls_changed)
        self._sctp = RTCSctpTransport(self._dtls)
        bound_sctp(self._sctp, self._lost, counters, self._log)
        self._channel: RTCDataChannel | None = None
        if label:
            self._use(RTCDataChannel(self._sctp, RTCDataChannelParameters(label=label)))
        else:
            self._sctp.on("datachannel", self._channel_came)

    @property
    def max_message_bytes(self) -> int:
        """What the other end takes; 0: any."""
        return self._remote.max_message_bytes if self._remote else 0

    @property
    def waiting_bytes(self) -> int:
        """What SCTP has not begun to send."""
        return self._channel.bufferedAmount if self._channel else 0

    @property
    def remote_address(self) -> str:
        """Where the other end is, or "" before the first datagram of DTLS."""
        pair = self._connection._nominated.get(1)
        if pair is None:
            return ""
        host, port = pair.remote_addr
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def take(self, description: Description) -> bool:
        """Take the other end's description, once.

        :returns: False: it makes no sense, or none now.
        """
        if self._remote is not None or description.is_offer is self._is_offerer:
            return False
        try:
            self._remote = _read(description)
        except BadSignal as error:
            self._log.debug("a description was ignored: {error}", error=error)
            return False
        return True

    def add_candidate(self, text: str) -> bool:
        """Take one more address of the other end, before its description or after. As `take`."""
        # Browsers say the end of candidates so; the deadline does without.
        if not text:
            return True
        try:
            candidate = candidate_from_sdp(text)
        except _PARSE_ERRORS:
            return False
        if self._candidate_count >= MAX_CANDIDATES or self._is_stopped:
            return False
        self._candidate_count += 1
        self._start(self._add([candidate], False), "adding a candidate")
        return True

    async def _add(self, candidates: list[RTCIceCandidate], are_all: bool) -> None:
        added = await asyncio.gather(*map(self._ice.addRemoteCandidate, candidates), return_exceptions=True)
        failures = [failure for failure in added if failure is not None]
        self._counters.candidates_refused += len(failures)
        if are_all and not self._is_stopped:
            await self._ice.addRemoteCandidate(None)

    async def describe(self) -> Description:
        """Find out where this end can be reached, and say it; as the answerer after `take`."""
        self._gathering = self._start(self._gatherer.gather(), "gathering candidates")
        # Half of gathering would leave sockets that nobody knows.
        await asyncio.shield(self._gathering)
        remote = self._remote
        media = MediaDescription(
            "application", 9, remote.profile if remote else "UDP/DTLS/SCTP", ["webrtc-datachannel"]
        )
        if media.profile == "DTLS/SCTP":
            media.fmt = [self._sctp.port]
            media.sctpmap[self._sctp.port] = "webrtc-datachannel 65535"
        else:
            media.sctp_port = self._sctp.port
        media.host = "0.0.0.0"
        media.rtp.muxId = remote.mid if remote else "0"
        media.sctpCapabilities = RTCSctpCapabilities(maxMessageSize=RTCSctpTransport.getCapabilities().maxMessageSize)
        media.ice = self._gatherer.getLocalParameters()
        media.ice_candidates = self._gatherer.getLocalCandidates()
        media.ice_candidates_complete = True
        media.dtls = self._dtls.getLocalParameters()
        if remote:
            media.dtls.role = "server" if remote.dtls.role == "client" else "client"
            self._dtls._set_role(media.dtls.role)
        session = SessionDescription()
        session.origin = "- 1 1 IN IP4 0.0.0.0"
        session.group.append(GroupDescription("BUNDLE", [media.rtp.muxId]))
        session.media.append(media)
        return Description(self._is_offerer, str(session))

    async def connect(self) -> None:
        """Reach the other end; after `take` and `describe`. The channel opens later.

        :raises NotConnected: it cannot be reached, or is somebody else.
        """
        remote = self._remote
        assert remote is not None
        if self._is_offerer:
            self._dtls._set_role("server" if remote.dtls.role == "client" else "client")
        names = [candidate for candidate in remote.candidates if candidate.ip.endswith(".local")]
        # At once: the first check would be 20 ms late otherwise. A name of mDNS takes its time, and may have none.
        await self._add([candidate for candidate in remote.candidates if candidate not in names], False)
        self._start(self._add(names, remote.has_all_candidates), "adding candidates")
        await self._ice.start(remote.ice)
        if self._ice.state != "completed":
            raise NotConnected("no way to the other end was found")
        await self._dtls.start(remote.dtls)
        if self._dtls.state != "connected":
            raise NotConnected("the other end is not who it said, or speaks no DTLS")
        await self._sctp.start(RTCSctpCapabilities(remote.max_message_bytes), remote.sctp_port)

    def _channel_came(self, channel: RTCDataChannel) -> None:
        if self._channel is None:
            self._use(channel)
            self.owner.stack_opened()
        else:
            self._counters.faults += 1
            self._lost("it opened a second channel")

    def _use(self, channel: RTCDataChannel) -> None:
        self._channel = channel
        channel.on("open", self._opened)
        channel.on("message", self._message)
        channel.on("close", lambda: self._lost("the channel was closed"))

    def _opened(self) -> None:
        self.owner.stack_opened()

    def _message(self, data: str | bytes) -> None:
        if not self._is_stopped:
            self.owner.message_received(data.encode() if isinstance(data, str) else data)

    def send(self, text: str) -> bool:
        """Send a message; False: the channel is not open."""
        if self._channel is None:
            return False
        try:
            self._channel.send(text)
        except (InvalidStateError, ValueError):
            return False
        return True

    def close_channel(self) -> None:
        """Close behind all that was sent. `StackOwner.stack_lost` follows, if the other end still answers."""
        if self._channel is not None:
            self._channel.close()

    def _dtls_changed(self) -> None:
        if self._dtls.state == "closed":
            self._lost("the connection was closed or went dead")

    def _lost(self, why: str) -> None:
        if not self._is_stopped:
            self.owner.stack_lost(why)

    async def stop(self) -> None:
        """End everything; the other end is told, if it can be."""
        self._is_stopped = True
        if self._gathering is not None:
            await asyncio.wait([self._gathering])
        await self._sctp.stop()
        await self._dtls.stop()
        await self._ice.stop()
