"""One user's end of the client protocol, without IO: bytes and times go in, bytes and outputs come out.

One machine lives as long as its client and sees one connection after another::

                       link_opened              HELLO answered
    OFFLINE ---------------------> SIGNING_IN -------------------> ONLINE
       ^                               |                              |
       +--- link_lost, GOODBYE, silence, broken protocol, leave ------+

What comes out of `receive`, `deadline_passed` and `link_lost` is a list: events for the program, `Settled` requests,
and `SignInFailed`. `Disconnected` and `SignInFailed` mean that the machine is done with the connection: drop it. Bytes
are taken by `data_to_send` after each call.

On UDP the client says no HELLO: the endpoint call signed the user in, and the first thing that the node sends reliably
is what a HELLO would have been answered. Source: client protocol, sections 1, 2 and 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, unique
from typing import Any, Generic, TypeVar

from meshrelay.client.errors import ConnectionLost, NotConnected
from meshrelay.client.events import Connected, Disconnected, Event, decode_push
from meshrelay.client.identity import Identity, LinkTraits
from meshrelay.client.pulse import Pulse
from meshrelay.client.push_count import PushCount
from meshrelay.client.requests import HELLO_ID, PROBE_ID, PendingRequests, Settled
from meshrelay.errors import ErrorCode, MalformedFrame, MalformedPayload, MessageTooLarge, RemoteProtocolError
from meshrelay.model import PROTOCOL_VERSION, Status
from meshrelay.wire.commands import CORE_VER, CoreCommand, decode_error, decode_goodbye
from meshrelay.wire.frame import HEADER_BYTES, Frame, FrameDecoder, encode_frame
from meshrelay.wire.hello import Hello, Welcome, decode_welcome, encode_hello

__all__ = ["ClientMachine", "MAX_PUSH_BYTES", "Output", "SignInFailed", "State"]

W = TypeVar("W")

#: Largest payload taken from a node. A push is longer than the broadcast that caused it by the sender's name.
MAX_PUSH_BYTES = 1 << 20

#: Until the node tells its own limit.
_DEFAULT_MAX_PAYLOAD_BYTES = 65536

_STAY_AWAY = range(4500, 5000)


@unique
class State(Enum):
    """Where the machine stands."""

    OFFLINE = "offline"
    SIGNING_IN = "signing in"
    ONLINE = "online"


@dataclass(frozen=True, slots=True)
class SignInFailed:
    """An output: the connection ended before the user was signed in.

    :param code: close code of the node; None when it gave none.
    """

    code: int | None
    text: str
    #: True: the node (and not just the network) said no.
    is_refusal: bool
    will_retry: bool


#: What the machine gives back.
Output = Event | Settled[Any] | SignInFailed


class ClientMachine(Generic[W]):
    """See the module. `W` is whatever the caller uses to remember who waits for an answer.

    :param max_pending_requests: open requests at one time.
    """

    def __init__(self, identity: Identity, max_pending_requests: int) -> None:
        self.state = State.OFFLINE
        self._identity = identity
        self._requests: PendingRequests[W] = PendingRequests(max_pending_requests)
        self._outgoing: list[bytes] = []
        self._traits = LinkTraits()
        self._decoder = FrameDecoder(MAX_PUSH_BYTES)
        self._max_payload_bytes = _DEFAULT_MAX_PAYLOAD_BYTES
        self._sid = ""
        self._pushes = PushCount()
        self._sign_in_by = 0.0
        self._pulse = Pulse(0.0, None)

    @property
    def resume_sid(self) -> str:
        """The session to go on with; empty when there is none."""
        return self._sid if self._identity.resume else ""

    @property
    def received(self) -> int:
        """Reliable pushes received in the session, mod 2^32."""
        return self._pushes.total

    @property
    def pending_count(self) -> int:
        """Requests that wait for their answers."""
        return len(self._requests)

    def link_opened(self, traits: LinkTraits, token: str | None, now: float) -> None:
        """A new connection stands; say HELLO on it, or wait for the node's."""
        self.state = State.SIGNING_IN
        self._traits = traits
        self._decoder = FrameDecoder(MAX_PUSH_BYTES)
        self._outgoing.clear()
        self._pushes.forget()
        self._sign_in_by = now + traits.sign_in_seconds
        if traits.is_datagram:
            return
        identity = self._identity
        hello = Hello(
            protocol=PROTOCOL_VERSION,
            user=identity.user,
            token=token,
            client=identity.client_name,
            acks=True if identity.acks else None,
            resume=self.resume_sid or None,
            received=self._pushes.total if identity.acks and self.resume_sid else None,
        )
        self._send(CORE_VER, CoreCommand.HELLO, HELLO_ID, encode_hello(hello), Status.OK)

    def request(
        self, waiter: W, ver: int, cmd: int, payload: bytes, *, reliable: bool, timeout_seconds: float, now: float
    ) -> None:
        """Ask the node something; `waiter` comes out in a `Settled`.

        :raises NotConnected: the state is not ONLINE.
        :raises MessageTooLarge: the node, or a datagram, would not take it.
        :raises TooManyPending: too many requests are open.
        :raises ValueError: no such numbers; the caller's bug.
        """
        self._check_sendable(ver, cmd, payload)
        request_id = self._requests.add(waiter, now, timeout_seconds)
        self._outgoing.append(encode_frame(ver, reliable, cmd, request_id, payload))

    def send(self, ver: int, cmd: int, payload: bytes, *, reliable: bool) -> None:
        """Tell the node something that it does not answer, not even with an error.

        :raises NotConnected: the state is not ONLINE.
        :raises MessageTooLarge: the node, or a datagram, would not take it.
        """
        self._check_sendable(ver, cmd, payload)
        self._outgoing.append(encode_frame(ver, reliable, cmd, 0, payload))

    def forget(self, waiter: W) -> None:
        """Nobody waits for this answer any more."""
        self._requests.forget(waiter)

    def receive(self, data: bytes, now: float, is_reliable: bool = True) -> list[Output]:
        """Take what came in. Data for a connection that is over is passed over.

        :param is_reliable: False: it came in a packet that might have been lost.
        """
        outputs: list[Output] = []
        if self.state is State.OFFLINE:
            return outputs
        self._pulse.heard(now)
        try:
            for frame in self._decoder.frames(data):
                self._frame_received(frame, now, is_reliable, outputs)
                if self._is_offline():
                    return outputs
            if self._traits.is_datagram and self._decoder.buffered_bytes:
                raise MalformedFrame("a datagram ends within a frame")
        except (RemoteProtocolError, MalformedPayload) as error:
            self._over(None, f"the node does not follow the protocol: {error}", outputs)
        return outputs

    def heard(self, now: float) -> None:
        """The node is alive: packets came that hold no frames."""
        self._pulse.heard(now)

    def link_lost(self, code: int | None, text: str) -> list[Output]:
        """The connection ended; `code` when the node said why."""
        outputs: list[Output] = []
        if self.state is not State.OFFLINE:
            self._over(code, text, outputs)
        return outputs

    def leave(self) -> list[Output]:
        """Say GOODBYE and end the session; nothing is kept for a resume."""
        outputs: list[Output] = []
        self._sid = ""
        if self.state is State.OFFLINE:
            return outputs
        is_online = self.state is State.ONLINE
        self._end("closed by this program", None, outputs)
        if is_online:
            outputs.append(Disconnected(None, "closed by this program", False))
            self._send(CORE_VER, CoreCommand.GOODBYE, 0, b"", Status.OK)
        return outputs

    def data_to_send(self, now: float) -> list[bytes]:
        """Return the frames that wait to be written; they are the caller's from now on."""
        frames, self._outgoing = self._outgoing, []
        if frames:
            self._pulse.sent(now)
        return frames

    def next_deadline(self) -> float | None:
        """When `deadline_passed` has to be called at the latest; None = nothing is waited for."""
        if self.state is State.OFFLINE:
            return None
        if self.state is State.SIGNING_IN:
            return self._sign_in_by
        deadline = min(self._pulse.probe_at, self._pulse.dead_at)
        ack_at = self._pushes.due_at
        if ack_at is not None and ack_at < deadline:
            deadline = ack_at
        request_deadline = self._requests.next_deadline
        if request_deadline is not None and request_deadline < deadline:
            deadline = request_deadline
        return deadline

    def deadline_passed(self, now: float) -> list[Output]:
        """Do what is due at `now`; nothing when nothing is."""
        outputs: list[Output] = []
        if self.state is State.SIGNING_IN:
            if now >= self._sign_in_by:
                self._over(None, "the node does not answer", outputs)
        elif self.state is State.ONLINE:
            if now >= self._pulse.dead_at:
                self._over(None, f"nothing was heard for {now - self._pulse.heard_at:.1f} seconds", outputs)
                return outputs
            outputs.extend(self._requests.expire(now))
            if self._pushes.due_at is not None and now >= self._pushes.due_at:
                self._acknowledge()
            if now >= self._pulse.probe_at:
                self._pulse.probed(now)
                self._send(CORE_VER, CoreCommand.PING, PROBE_ID, b"", Status.UNRELIABLE)
        return outputs

    def _is_offline(self) -> bool:
        return self.state is State.OFFLINE

    def _acknowledge(self) -> None:
        self._send(CORE_VER, CoreCommand.ACK, 0, self._pushes.acknowledge(), Status.OK)

    def _send(self, ver: int, cmd: int, request_id: int, payload: bytes, status: Status) -> None:
        self._outgoing.append(encode_frame(ver, status, cmd, request_id, payload))

    def _check_sendable(self, ver: int, cmd: int, payload: bytes) -> None:
        if not (0 <= ver < 1 << 8 and 0 <= cmd < 1 << 16):
            raise ValueError(f"there is no command ({ver}, {cmd}): ver is 0 to 255 and cmd 0 to 65535")
        if self.state is not State.ONLINE:
            raise NotConnected
        size = len(payload)
        if size > self._max_payload_bytes:
            raise MessageTooLarge(f"payload of {size} bytes, the node takes {self._max_payload_bytes}")
        limit = self._traits.max_frame_bytes
        if limit is not None and size + HEADER_BYTES > limit:
            raise MessageTooLarge(f"payload of {size} bytes, the connection takes {limit - HEADER_BYTES}")

    def _frame_received(self, frame: Frame, now: float, is_reliable: bool, outputs: list[Output]) -> None:
        if frame.status != Status.PUSH:
            self._response_received(frame, now, outputs)
        elif frame.ver != CORE_VER:
            self._push_received(frame, now, is_reliable, outputs)
        elif frame.cmd == CoreCommand.PING:
            self._send(CORE_VER, CoreCommand.PONG, 0, frame.payload, Status.UNRELIABLE)
        elif frame.cmd == CoreCommand.GOODBYE:
            self._over(*decode_goodbye(frame.payload), outputs)
        elif frame.cmd == CoreCommand.HELLO and self._traits.is_datagram:
            self._welcomed(decode_welcome(frame.payload), now, outputs)

    def _push_received(self, frame: Frame, now: float, is_reliable: bool, outputs: list[Output]) -> None:
        if self.state is not State.ONLINE:
            if is_reliable:
                raise MalformedFrame("a push before the answer to HELLO")
            # It overtook the HELLO of the node, and may be lost as well as come too early.
            return
        if self._traits.is_datagram:
            if is_reliable:
                self._pushes.count()
        elif self._identity.acks and self._pushes.add(HEADER_BYTES + len(frame.payload), now):
            self._acknowledge()
        outputs.append(decode_push(frame.ver, frame.cmd, frame.payload))

    def _response_received(self, frame: Frame, now: float, outputs: list[Output]) -> None:
        if frame.request_id == HELLO_ID:
            self._hello_answered(frame, now, outputs)
        elif frame.request_id != PROBE_ID:
            settled = self._requests.answered(frame)
            if settled is not None:
                outputs.append(settled)

    def _hello_answered(self, frame: Frame, now: float, outputs: list[Output]) -> None:
        if self.state is not State.SIGNING_IN or self._traits.is_datagram:
            return
        if frame.status == Status.OK:
            self._welcomed(decode_welcome(frame.payload), now, outputs)
            return
        code, text = decode_error(frame.payload)
        self._end(text, None, outputs)
        comes_back = frame.status == Status.ERROR or code == ErrorCode.RATE_LIMITED
        outputs.append(SignInFailed(None, text, True, comes_back and self._identity.reconnect))

    def _welcomed(self, welcome: Welcome, now: float, outputs: list[Output]) -> None:
        """Go online, for the first time on this connection."""
        if self.state is not State.SIGNING_IN:
            return
        self._max_payload_bytes = welcome.max_payload_bytes
        self._pulse = Pulse(now, None if self._traits.is_datagram else welcome.heartbeat_seconds)
        if not welcome.resumed:
            # After a resume the node goes on from the count that it was told, recovered or not.
            self._pushes.restart()
        self._sid = welcome.sid
        self.state = State.ONLINE
        outputs.append(Connected(welcome.user, welcome.node, welcome.sid, welcome.resumed, welcome.recovered))

    def _over(self, code: int | None, text: str, outputs: list[Output]) -> None:
        """The connection is of no use any more."""
        is_online = self.state is State.ONLINE
        will_retry = self._identity.reconnect and (code is None or code not in _STAY_AWAY)
        if code is not None and code in _STAY_AWAY:
            self._sid = ""
        self._end(text, code, outputs)
        if is_online:
            outputs.append(Disconnected(code, text, will_retry))
        else:
            outputs.append(SignInFailed(code, text, code is not None, will_retry))

    def _end(self, text: str, code: int | None, outputs: list[Output]) -> None:
        self.state = State.OFFLINE
        self._outgoing.clear()
        outputs.extend(self._requests.fail_all(lambda: ConnectionLost(code, text)))
