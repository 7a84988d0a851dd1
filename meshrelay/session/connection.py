"""One connection: HELLO and its deadline, heartbeat, idle, and frames in order.

==========  =================================================================================
state       what it does
==========  =================================================================================
GREETING    waits for HELLO, at most hello_timeout_seconds
SIGNING_IN  waits for the session that the client left at another node, within the same time; frames wait as well
OPEN        runs commands, one after the other; PING, PONG, ACK and GOODBYE at once
CLOSED      passes over what still arrives
==========  =================================================================================

Commands of one connection run in the order in which they came: while one waits for the application the next ones wait
behind it, and when ``pending_commands`` of them do, nothing more is read. What comes while SIGNING_IN is run, in its
order, when the client has been answered.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from meshrelay.background import Alarm
from meshrelay.components.hooks import PipelinedCommand
from meshrelay.counters import TransportCounters
from meshrelay.errors import (
    AuthenticationError,
    CommandError,
    MalformedPayload,
    NodeDraining,
    NotSignedIn,
    RemoteProtocolError,
    UnknownCommand,
)
from meshrelay.interfaces import IConnection, IDownlink, IUplink
from meshrelay.model import CloseReason, Status
from meshrelay.session.auth import Identity
from meshrelay.session.handshake import Entry, State, read_hello, welcome_of
from meshrelay.session.rate_limit import CommandRate
from meshrelay.session.registry import Resume, SignIn
from meshrelay.session.session import Session
from meshrelay.wire.commands import CORE_VER, MAX_PING_BYTES, CoreCommand, encode_error
from meshrelay.wire.frame import Frame, FrameRun, encode_frame, encode_push
from meshrelay.wire.prepared import Batch

if TYPE_CHECKING:  # the reception makes connections
    from meshrelay.session.reception import Reception

__all__ = ["Connection"]

#: Frames before HELLO that are answered with "not signed in"; whoever sends more does not speak the protocol.
MAX_EARLY_FRAMES = 16

#: Frames that are run together at most.
MAX_GATHERED = 512

#: ACK carries one u32.
ACK_BYTES = 4


#: The members of an Enum are looked up slowly.
_OPEN = State.OPEN


@implementer(IUplink, IConnection)
class Connection:
    """See `IUplink` and `IConnection`. Made by `Reception.accept`."""

    _log = Logger()

    __slots__ = (
        "_alarm",
        "_counters",
        "_dispatcher",
        "_early_frames",
        "_gathered",
        "_gathered_command",
        "_entry",
        "_heard_at",
        "_is_busy",
        "_is_pong_due",
        "_is_reading_paused",
        "_now",
        "_outcome",
        "_pending",
        "_ping_number",
        "_pinged_at",
        "_rate",
        "_reception",
        "_session",
        "_state",
        "_waiting",
        "link",
    )

    def __init__(self, link: IDownlink, reception: Reception) -> None:
        self.link = link
        self._reception = reception
        self._dispatcher = reception.dispatcher
        self._now = reception.alarms.now
        self._counters: TransportCounters = reception.counters.transports[link.transport_name]
        self._state = State.GREETING
        self._session: Session | None = None
        #: How the sign-in went, until a UDP client was told.
        self._outcome: SignIn | None = None
        self._early_frames = 0
        #: While it is SIGNING_IN.
        self._entry: Entry | None = None
        self._waiting: Deferred[None] | None = None
        self._is_busy = False
        #: Frames of one kind, for a pipelined command, that came in this read.
        self._gathered: FrameRun | None = None
        self._gathered_command: PipelinedCommand | None = None
        self._is_reading_paused = False
        self._pending: deque[Frame] | None = None
        self._rate: CommandRate | None = None
        self._ping_number = 0
        self._is_pong_due = False
        self._pinged_at = 0.0
        self._heard_at = reception.alarms.now()
        self._counters.connections += 1
        self._counters.connections_total += 1
        timeout_seconds = reception.rules.hello_timeout_seconds
        self._alarm: Alarm = reception.alarms.call_later(timeout_seconds, lambda: self.close(CloseReason.HELLO_TIMEOUT))

    @property
    def session(self) -> Session | None:
        """The session that this connection serves."""
        return self._session

    def heard(self) -> None:
        """See `IUplink`."""
        self._heard_at = self._now()

    def run_received(self, run: FrameRun) -> None:
        """See `IUplink`."""
        if self._state is _OPEN and not self._is_busy and run.status <= 1:
            command = self._dispatcher.find_pipelined(run)
            if command is not None:
                self._counters.messages_received += len(run.payloads)
                self._gather(run, command)
                return
        for frame in run.frames():
            self._frame_received(frame)

    def _frame_received(self, frame: Frame) -> None:
        self._counters.messages_received += 1
        if self._state is State.OPEN:
            self.read_ended()
            if frame.status & ~1:
                self.close(CloseReason.PROTOCOL_ERROR, f"status byte {frame.status} of a client has unknown bits")
            elif frame.ver == CORE_VER:
                self._core_command(frame)
            elif self._is_busy:
                self._queue(frame)
            else:
                self._run(frame)
        elif frame.status & ~1:
            self.close(CloseReason.PROTOCOL_ERROR, f"status byte {frame.status} of a client has unknown bits")
        elif self._state is State.GREETING:
            self._greet(frame)
        elif self._state is State.SIGNING_IN:
            self._queue(frame)

    def _gather(self, run: FrameRun, command: PipelinedCommand) -> None:
        """Keep a run until the end of the read: many frames of one kind are cheaper together."""
        refused: FrameRun | None = None
        if self._rate is not None:
            allowed = self._rate.take_up_to(len(run.payloads), self._heard_at)
            if allowed < len(run.payloads):
                run, refused = run.split(allowed)
        gathered = self._gathered
        if not run.payloads:
            pass
        elif gathered is None:
            self._gathered = run
            self._gathered_command = command
        elif gathered[:3] == run[:3] and len(gathered.payloads) < MAX_GATHERED:
            gathered.request_ids.extend(run.request_ids)
            gathered.payloads.extend(run.payloads)
        else:
            self.read_ended()
            self._gathered, self._gathered_command = run, command
        if refused is not None:
            self.read_ended()
            for frame in refused.frames():
                if self._state is State.OPEN:
                    self._run(frame)

    def read_ended(self) -> None:
        """See `IUplink`."""
        run = self._gathered
        if run is None:
            return
        self._gathered = None
        session, command = self._session, self._gathered_command
        if session is not None and command is not None:
            self._dispatcher.dispatch_run(session, command, run)

    def protocol_broken(self, error: RemoteProtocolError) -> None:
        """See `IUplink`."""
        self.close(error.close_reason, str(error))

    def outbox_overflowed(self, queued_bytes: int) -> None:
        """See `IUplink`."""
        self.close(CloseReason.SLOW_CONSUMER)

    def pushes_dropped(self, count: int) -> None:
        """See `IUplink`."""
        if self._session is not None:
            self._session.pushes_dropped(count)

    def failed(self) -> None:
        """See `IUplink`."""
        self.close(CloseReason.INTERNAL, "")

    def connection_lost(self, detail: str) -> None:
        """See `IUplink`."""
        self.read_ended()
        if self._end("lost"):
            self._leave_session(None)
        self._reception.lingering.discard(self)

    def close(self, reason: CloseReason | None, text: str = "") -> None:
        """Say GOODBYE and close. A reason of the kind "come back" leaves the session for a resume.

        :param reason: None = the client said GOODBYE itself.
        """
        self.read_ended()
        if self._end(reason.name.lower() if reason is not None else "goodbye"):
            self._reception.lingering.add(self)
            # First the session: what the link still owes the client is to be taken over before the link ends.
            if self._session is not None and reason is None:
                self._reception.registry.end(self._session, None)
            else:
                self._leave_session(reason)
            self.link.close(reason, text or (reason.text if reason is not None else ""))
            # What still arrives is thrown away, and the client's own end is seen.
            self._read_on()

    def _end(self, counted_as: str) -> bool:
        """Become CLOSED. False: it was."""
        if self._state is State.CLOSED:
            return False
        self._state = State.CLOSED
        self._alarm.cancel()
        self._pending = None
        self._forget_entry()
        self._counters.connections -= 1
        self._reception.counters.closes[self.link.transport_name, counted_as] += 1
        self._reception.connections.discard(self)
        return True

    def _leave_session(self, reason: CloseReason | None) -> None:
        session, self._session = self._session, None
        if session is None or session.link is not self.link:
            return
        if reason is None or reason.is_retryable:
            self._reception.registry.detach(session, self.link)
        else:
            self._reception.registry.end(session, reason)

    def _greet(self, frame: Frame) -> None:
        if frame.ver == CORE_VER and frame.cmd == CoreCommand.HELLO:
            self._hello(frame)
        elif frame.ver == CORE_VER and frame.cmd == CoreCommand.GOODBYE:
            self.close(None)
        else:
            self._early_frames += 1
            self._refuse(frame, NotSignedIn())
            if self._early_frames >= MAX_EARLY_FRAMES:
                self.close(CloseReason.PROTOCOL_ERROR, "HELLO must be the first frame")

    def _refuse(self, frame: Frame, error: CommandError) -> None:
        self._reception.counters.errors[error.code] += 1
        if frame.request_id:
            body = encode_error(error.code, error.text)
            self.link.send_frame(encode_frame(frame.ver, error.status, frame.cmd, frame.request_id, body))

    def _hello(self, frame: Frame) -> None:
        try:
            if self._reception.is_draining:
                raise NodeDraining
            identity, resume = read_hello(frame.payload, self._reception.authenticator)
        except NodeDraining as error:
            self._refuse(frame, error)
            self.close(CloseReason.DRAINING)
        except CommandError as error:
            self._refuse(frame, error)
            self.close(CloseReason.PROTOCOL_ERROR, error.text)
        except AuthenticationError as error:
            self._log.info("sign-in of {peer} refused: {detail}", peer=self.link.peer, detail=error.detail)
            self._refuse(frame, NotSignedIn("sign-in refused"))
            self.close(CloseReason.BAD_TOKEN)
        else:
            self._enter(Entry(identity, resume, "", frame.request_id, False))

    def open_signed_in(self, identity: Identity, resume: Resume, sid: str, greets: bool) -> None:
        """Serve a user who signed in some other way than by HELLO: UDP, by the endpoint call.

        :param sid: of the session if a new one is made.
        :param greets: tell the client at once how it went, see `greet`.
        """
        self._enter(Entry(identity, resume, sid, None, greets))

    def _enter(self, entry: Entry) -> None:
        """Sign in, perhaps not before the session that is resumed has come from another node."""
        reception = self._reception
        user_id = entry.identity.user_id
        earlier = reception.signing_in.get(user_id)
        if earlier is not None:
            # As it would be if it were in already.
            earlier.close(CloseReason.REPLACED)
        waiting = reception.arrivals.fetch(entry.identity, entry.resume.sid) if entry.resume.sid else None
        if waiting is None:
            self._sign_in(entry)
            return
        self._state = State.SIGNING_IN
        self._entry = entry
        reception.signing_in[user_id] = self
        self._waiting = waiting
        waiting.addCallback(self._arrived).addErrback(self._sign_in_failed)

    def _arrived(self, _: None) -> None:
        entry = self._entry
        # It may have been closed meanwhile; what has come waits for another connection then.
        if entry is not None:
            self._forget_entry()
            self._sign_in(entry)
            self._run_pending()

    def _forget_entry(self) -> None:
        entry, self._entry = self._entry, None
        if entry is not None:
            del self._reception.signing_in[entry.identity.user_id]
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.cancel()

    def _sign_in_failed(self, failure: Failure) -> None:
        if failure.check(CancelledError):
            return
        self._log.failure("sign-in of {peer} failed", failure=failure, peer=self.link.peer)
        self.failed()

    def _sign_in(self, entry: Entry) -> None:
        outcome = self._reception.registry.sign_in(entry.identity, self, entry.resume, entry.sid)
        if entry.request_id is not None:
            body = welcome_of(outcome, self._reception.facts)
            self.link.send_frame(encode_frame(CORE_VER, Status.OK, CoreCommand.HELLO, entry.request_id, body))
        else:
            self._outcome = outcome
            if entry.greets:
                self.greet()
        self._open(outcome)

    def greet(self) -> None:
        """Push what a HELLO would have been answered; who is not signed in yet is told then."""
        if self._entry is not None:
            self._entry = self._entry._replace(greets=True)
        if self._outcome is not None:
            body = welcome_of(self._outcome, self._reception.facts)
            self.link.send_frame(encode_push(CORE_VER, CoreCommand.HELLO, body))
            self._outcome = None

    def _open(self, outcome: SignIn) -> None:
        now = self._reception.alarms.now()
        self._session = outcome.session
        if self._state is State.CLOSED:
            # The very answer was more than the connection takes.
            self._leave_session(None)
            return
        self._state = State.OPEN
        self._alarm.cancel()
        self._pinged_at = now
        self._set_alarm(now)
        rate = self._reception.rules.commands_per_second
        if rate > 0:
            self._rate = CommandRate(rate, now)
        if outcome.frames:
            self.link.send_batch(Batch(outcome.frames))
        # What is replayed may be more than the connection takes; then it is closed by now, and the user away again.
        if self._state is State.OPEN:
            self._reception.registry.signed_in(outcome)

    def _set_alarm(self, now: float) -> None:
        rules = self._reception.rules
        idle_at = self._heard_at + rules.ttl_seconds(self.link.transport_name)
        ping_at = self._pinged_at + rules.heartbeat_seconds
        self._alarm = self._reception.alarms.call_later(max(0.0, min(idle_at, ping_at) - now), self._time_passed)

    def _time_passed(self) -> None:
        rules = self._reception.rules
        now = self._reception.alarms.now()
        if self._is_reading_paused and self.link.transport_name != "udp":
            self._heard_at = now  # What it says is left in the socket.
        if now - self._heard_at >= rules.ttl_seconds(self.link.transport_name):
            self.close(CloseReason.IDLE)
            return
        if now - self._pinged_at >= rules.heartbeat_seconds:
            self._send_ping(now)
        self._set_alarm(now)

    def _send_ping(self, now: float) -> None:
        self._ping_number += 1
        self._is_pong_due = True
        self._pinged_at = now
        self.link.send_probe(encode_push(CORE_VER, CoreCommand.PING, self._ping_number.to_bytes(8, "big")))

    def measure_latency(self) -> None:
        """See `IConnection`."""
        if self._state is State.OPEN and not self._is_pong_due:
            self._send_ping(self._reception.alarms.now())

    def _core_command(self, frame: Frame) -> None:
        if frame.cmd == CoreCommand.PONG:
            self._pong(frame)
        elif frame.cmd == CoreCommand.ACK and len(frame.payload) == ACK_BYTES:
            if self._session is not None:
                self._session.acknowledge(int.from_bytes(frame.payload, "big"))
        elif frame.cmd == CoreCommand.GOODBYE:
            self.close(None)
        elif not self._is_allowed(frame):
            return
        elif frame.cmd == CoreCommand.PING:
            self._ping(frame)
        elif frame.cmd == CoreCommand.ACK:
            self._refuse(frame, MalformedPayload(f"ACK: {len(frame.payload)} bytes, it must have {ACK_BYTES}"))
        elif frame.cmd == CoreCommand.HELLO:
            self._refuse(frame, MalformedPayload("HELLO: signed in already"))
        else:
            self._refuse(frame, UnknownCommand(f"unknown command ver 0 cmd {frame.cmd}"))

    def _ping(self, frame: Frame) -> None:
        if len(frame.payload) > MAX_PING_BYTES:
            self._refuse(frame, MalformedPayload(f"PING: {len(frame.payload)} bytes, allowed are {MAX_PING_BYTES}"))
        elif frame.request_id:
            self.link.send_frame(encode_frame(CORE_VER, Status.OK, CoreCommand.PING, frame.request_id, frame.payload))

    def _pong(self, frame: Frame) -> None:
        # Only the first answer to the last PING is measured; anything else came late or is made up.
        if self._session is not None and self._is_pong_due and frame.payload == self._ping_number.to_bytes(8, "big"):
            self._is_pong_due = False
            self._session.latency_seconds = max(0.0, self._reception.alarms.now() - self._pinged_at)

    def _is_allowed(self, frame: Frame) -> bool:
        """Whether the rate limit lets `frame` through; if not, it has been answered."""
        if self._rate is None:
            return True
        now = self._reception.alarms.now()
        refusal = self._rate.check(now)
        if refusal is None:
            return True
        self._refuse(frame, refusal)
        if self._rate.is_flood(now):
            self.close(CloseReason.RATE_LIMITED)
        return False

    def _queue(self, frame: Frame) -> None:
        if self._pending is None:
            self._pending = deque()
        limit = self._reception.rules.pending_commands
        if len(self._pending) >= limit and self.link.transport_name == "udp":
            # A datagram cannot be left in the socket for later as a stream can.
            self._reception.counters.packets_dropped["pending_commands"] += 1
            return
        self._pending.append(frame)
        if len(self._pending) >= limit and not self._is_reading_paused:
            self._is_reading_paused = True
            self.link.pause_reading()

    def _run(self, frame: Frame) -> None:
        session = self._session
        if session is None or not self._is_allowed(frame):
            return
        done = self._reception.dispatcher.dispatch(session, frame)
        if done is not None:
            self._is_busy = True
            done.addCallback(lambda _: self._run_pending())

    def _run_pending(self) -> None:
        self._is_busy = False
        while self._pending and not self._is_busy and self._state is State.OPEN:
            frame = self._pending.popleft()
            if frame.ver == CORE_VER:
                self._core_command(frame)
            else:
                self._run(frame)
        if not self._is_busy and self._state is State.OPEN:
            self._read_on()

    def _read_on(self) -> None:
        if self._is_reading_paused:
            self._is_reading_paused = False
            self.link.resume_reading()
