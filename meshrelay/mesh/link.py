"""The link to one other node: what is sent to it waits here, whether it can be reached now or not.

::

    IDLE --dial due--> DIALING --connected--> UP        connected leads to UP from every state: the other node
                       ^    |                 |         may dial as well
              dial due |    | failed          | lost
                       |    v                 |
                      WAITING <---------------'         stop leads to STOPPED: no longer wanted

IDLE: not reached, and we do not dial, because the other node does or because nobody wants it any more. `LINK_MOVES`
is the whole table.

A node never dials while its link is up. So when a second connection comes up, the other node has lost the first one
and the newer one takes over, unless both dialled at the same time: then the one that the node of the lesser ID dialled
stays. Both ends can tell, so both keep the same one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum, unique

from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from meshrelay.counters import Durations
from meshrelay.errors import LocalProtocolError
from meshrelay.machine.backoff import Backoff
from meshrelay.mesh.batches import BatchReceiver, BatchSender
from meshrelay.mesh.errors import LinkLost, LinkRefused
from meshrelay.mesh.interfaces import Dial, INodeConnection, WritesOfTurn
from meshrelay.mesh.rarely import Rarely
from meshrelay.mesh.strand import Strand
from meshrelay.wire.node import Refusal, Resume

__all__ = ["LINK_MOVES", "LinkInput", "LinkState", "NodeLink"]


@unique
class LinkState(Enum):
    """Whether the node can be reached."""

    IDLE = "idle"
    WAITING = "waiting"
    DIALING = "dialing"
    UP = "up"
    STOPPED = "stopped"


@unique
class LinkInput(Enum):
    """What happens to a link."""

    DIAL_DUE = "dial due"
    FAILED = "failed"
    FAILED_WITHOUT_DIAL = "failed, and is dialled no more"
    CONNECTED = "connected"
    LOST = "lost"
    LOST_WHILE_DIALING = "lost, another connection is being greeted"
    LOST_WITHOUT_DIAL = "lost, the other node dials"
    RELEASED = "is dialled no more"
    STOP = "stop"


#: What is not here is a bug of ours.
LINK_MOVES: Mapping[tuple[LinkState, LinkInput], LinkState] = {
    (LinkState.IDLE, LinkInput.DIAL_DUE): LinkState.DIALING,
    (LinkState.WAITING, LinkInput.DIAL_DUE): LinkState.DIALING,
    (LinkState.DIALING, LinkInput.FAILED): LinkState.WAITING,
    (LinkState.DIALING, LinkInput.FAILED_WITHOUT_DIAL): LinkState.IDLE,
    (LinkState.WAITING, LinkInput.RELEASED): LinkState.IDLE,
    # An attempt that was under way when the other node's connection came up.
    (LinkState.UP, LinkInput.FAILED): LinkState.UP,
    (LinkState.IDLE, LinkInput.CONNECTED): LinkState.UP,
    (LinkState.WAITING, LinkInput.CONNECTED): LinkState.UP,
    (LinkState.DIALING, LinkInput.CONNECTED): LinkState.UP,
    (LinkState.UP, LinkInput.CONNECTED): LinkState.UP,
    (LinkState.UP, LinkInput.LOST): LinkState.WAITING,
    (LinkState.UP, LinkInput.LOST_WHILE_DIALING): LinkState.DIALING,
    (LinkState.UP, LinkInput.LOST_WITHOUT_DIAL): LinkState.IDLE,
    (LinkState.IDLE, LinkInput.STOP): LinkState.STOPPED,
    (LinkState.WAITING, LinkInput.STOP): LinkState.STOPPED,
    (LinkState.DIALING, LinkInput.STOP): LinkState.STOPPED,
    (LinkState.UP, LinkInput.STOP): LinkState.STOPPED,
    (LinkState.STOPPED, LinkInput.STOP): LinkState.STOPPED,
    (LinkState.STOPPED, LinkInput.FAILED): LinkState.STOPPED,
}


class NodeLink:
    """The link to one other node. Made and told what happens by `mesh.links.Links`.

    :param node_id: the other node.
    :param sender: what waits for it.
    :param connected: called with each connection that we dialled, and with the link.
    :ivar incarnation: of the other node, when it was last here; None = it never was.
    :ivar is_announced: the observer knows it as up.
    :ivar refused: why its last strand ended, if one of the two ended it on purpose.
    :ivar delivery_seconds: from a message's way into the queue to the other node's word that it has it; one message at
        a time is watched, because the clock is too slow to read it for each.
    """

    _log = Logger()

    def __init__(
        self,
        node_id: str,
        sender: BatchSender,
        turn: WritesOfTurn,
        clock: IReactorTime,
        backoff: Backoff,
        connected: Callable[[NodeLink, INodeConnection], Strand],
    ) -> None:
        self.node_id = node_id
        self.sender = sender
        self.receiver = BatchReceiver()
        self.state = LinkState.IDLE
        self.strand: Strand | None = None
        self.incarnation: bytes | None = None
        self.is_announced = False
        self.refused: LinkRefused | None = None
        self.up_count = 0
        self._turn = turn
        self._clock = clock
        self._backoff = backoff
        self._connected = connected
        self._dial: Dial | None = None
        self._timer: IDelayedCall | None = None
        self._dialing: Deferred[INodeConnection] | None = None
        #: The strand that we dialled and that is being greeted.
        self.attempt: Strand | None = None
        self._is_flush_due = False
        self._is_overflow_told = False
        self.delivery_seconds = Durations()
        #: When the message that is watched came; None = none is.
        self._watched_since: float | None = None
        #: The batch that it is in; 0 = it waits.
        self._watched_batch = 0
        self._rarely = Rarely(clock)

    def _move(self, happened: LinkInput) -> None:
        state = LINK_MOVES.get((self.state, happened))
        if state is None:
            raise LocalProtocolError(f"link to {self.node_id}: {happened.value} while {self.state.value}")
        self.state = state

    def keep(self, dial: Dial) -> None:
        """Dial whenever the node is not reached, beginning now; a second call changes where."""
        if self.state is LinkState.STOPPED:
            raise LocalProtocolError(f"the link to {self.node_id} was stopped")
        self._dial = dial
        if self.state is LinkState.IDLE:
            self._dial_now()

    @property
    def is_kept(self) -> bool:
        """Whether it is dialled when the node is not reached."""
        return self._dial is not None

    def release(self) -> None:
        """Dial no more. A connection that is there stays, and so does all that waits; the other node may dial."""
        self._dial = None
        if self.state is LinkState.WAITING:
            self._move(LinkInput.RELEASED)
            self._stop_timer()
        elif self._dialing is not None:
            self._dialing.cancel()

    def _dial_now(self) -> None:
        self._timer = None
        assert self._dial is not None
        self._move(LinkInput.DIAL_DUE)
        self._dialing = self._dial()
        self._dialing.addCallbacks(self._dialled, self._dial_failed)

    def _dialled(self, connection: INodeConnection) -> None:
        self._dialing = None
        self.attempt = self._connected(self, connection)

    def _dial_failed(self, failure: Failure) -> None:
        self._dialing = None
        if self.state is LinkState.DIALING and not failure.check(CancelledError) and self._rarely.is_due(None):
            self._log.warn("{node} cannot be reached: {why}", node=self.node_id, why=failure.getErrorMessage())
        self.attempt_failed()

    def attempt_failed(self) -> None:
        """What we dialled came to nothing: try again later, unless the other node dialled meanwhile."""
        self.attempt = None
        is_released = self._dial is None and self.state is LinkState.DIALING
        self._move(LinkInput.FAILED_WITHOUT_DIAL if is_released else LinkInput.FAILED)
        if self.state is LinkState.WAITING:
            self._wait()

    def _wait(self) -> None:
        self._timer = self._clock.callLater(self._backoff.next_delay(), self._dial_now)

    def resume(self) -> Resume:
        """Where our batches and those of the other node stand."""
        return Resume(self.sender.epoch, self.receiver.epoch, self.receiver.received)

    def is_anew(self, incarnation: bytes, resume: Resume) -> bool:
        """Tell whether the other node is not the one that was here before: it was started anew, or has forgotten us.

        Who has forgotten a link numbers its batches anew, under another epoch; what it had for us is gone as well.
        """
        if self.incarnation is not None and self.incarnation != incarnation:
            return True
        return self.receiver.epoch not in (0, resume.epoch)

    def is_winner(self, strand: Strand, own_id: str) -> bool:
        """Tell whether `strand` takes over from what we have."""
        current = self.strand
        if current is None or strand is current or current.is_dialer == strand.is_dialer:
            return True
        # Ours that was under way when theirs came up, or theirs that was: both dialled at the same time.
        if strand.order >= current.up_order:
            return True
        dialled_by_us = strand.is_dialer
        return (own_id < self.node_id) == dialled_by_us

    def connected(self, strand: Strand) -> Strand | None:
        """`strand` carries the link from now on.

        :returns: the one that did so before.
        """
        self._move(LinkInput.CONNECTED)
        self._stop_timer()
        self._backoff.succeeded()
        if self.attempt is strand:
            self.attempt = None
        if self._dialing is not None:
            self._dialing.cancel()
        # Batches may be numbered anew.
        self._watched_since = None
        before, self.strand = self.strand, strand
        self.up_count += 1
        return before

    def lost(self) -> None:
        """The strand that carried the link is over."""
        self.strand = None
        if self.attempt is not None:
            self._move(LinkInput.LOST_WHILE_DIALING)
        elif self._dial is None:
            self._move(LinkInput.LOST_WITHOUT_DIAL)
        else:
            self._move(LinkInput.LOST)
            self._wait()

    def send(self, kind: int, payload: bytes, is_reliable: bool = True) -> bool:
        """Send one message, at the end of this turn or as soon as the node is reached.

        :param kind: 0 to 255; a node that does not know it skips it.
        :param is_reliable: False: it may be dropped when the queue is full.
        :returns: False: the queue is full, and it was dropped and counted.
        :raises LocalProtocolError: the payload is over 512 KiB.
        """
        dropped = self.sender.dropped_messages
        is_taken = self.sender.push(kind, payload, is_reliable)
        if self.sender.dropped_messages != dropped:
            self._tell_overflow()
        if self._watched_since is None and is_taken:
            self._watched_since = self._clock.seconds()
            self._watched_batch = 0
        self._flush_at_end()
        return is_taken

    def _tell_overflow(self) -> None:
        # Once until it got better: a full queue refuses thousands.
        if not self._is_overflow_told:
            self._is_overflow_told = True
            self._log.warn(
                "the queue to {node} is full ({bytes} bytes, {count} messages): messages are dropped",
                node=self.node_id,
                bytes=self.sender.queued_bytes,
                count=self.sender.queued_messages,
            )

    def _flush_at_end(self) -> None:
        if not self._is_flush_due and self.is_announced and self.sender.can_take:
            self._is_flush_due = True
            self._turn.write(self)

    def flush(self) -> None:
        """Write what the window allows. Called by the turn."""
        self._is_flush_due = False
        if self.strand is None or not self.is_announced:
            return
        for _, data in self.sender.take():
            self.strand.send_batch(data)
        if self.sender.queued_messages == 0:
            self._is_overflow_told = False
            # Whatever waited is in a batch now, the message that is watched too.
            if self._watched_batch == 0:
                self._watched_batch = self.sender.last_number

    def acknowledged(self, number: int) -> None:
        """The other node has all batches up to `number`.

        :raises RemoteProtocolError: there is no such batch.
        """
        self.sender.acknowledge(number)
        if self._watched_since is not None and 0 < self._watched_batch <= number:
            self.delivery_seconds.add(self._clock.seconds() - self._watched_since)
            self._watched_since = None
        self._flush_at_end()

    def call(self, name: str, payload: bytes) -> Deferred[bytes]:
        """Ask the node.

        :param name: 1 to 255 characters of ASCII.
        :returns: fires with the answer; fails with LinkLost (it may have been done), TooManyCalls, CallFailed.
        :raises LocalProtocolError: the payload is over 512 KiB.
        """
        if self.strand is None:
            return fail(LinkLost(self.node_id, f"the link is {self.state.value}"))
        return self.strand.call(name, payload)

    def stop(self, code: Refusal = Refusal.CLOSED, text: str = "the link is no longer wanted") -> None:
        """Close it for good. What waits is dropped."""
        self._move(LinkInput.STOP)
        self._stop_timer()
        if self._dialing is not None:
            self._dialing.cancel()
        for strand in (self.attempt, self.strand):
            if strand is not None:
                strand.refuse(LinkRefused(code, text))

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    @property
    def rtt_seconds(self) -> float | None:
        """Smoothed round trip of the pings; None: not known yet, or not linked."""
        return self.strand.rtt.smoothed if self.strand is not None else None

    def statistics(self) -> Mapping[str, int]:
        """Counts for the metrics page; the same keys at each call."""
        sender, receiver = self.sender, self.receiver
        return {
            "queued_bytes": sender.queued_bytes,
            "queued_messages": sender.queued_messages,
            "unacknowledged_batches": sender.unacknowledged_batches,
            "sent_messages": sender.sent_messages,
            "sent_batches": sender.sent_batches,
            "resent_batches": sender.resent_batches,
            "dropped_messages": sender.dropped_messages,
            "received_messages": receiver.received_messages,
            "skipped_messages": receiver.skipped_messages,
            "duplicate_batches": receiver.duplicates,
            "ups": self.up_count,
        }
