"""Requests that wait for their answers. Pure: whoever asked is an opaque waiter.

A waiter is settled once: by the answer, by its deadline, or by the end of the connection. An answer that comes after
the deadline finds no waiter and is passed over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from meshrelay.client.errors import TooManyPending, command_error
from meshrelay.errors import MalformedPayload, RemoteProtocolError, TimedOut
from meshrelay.model import Status
from meshrelay.wire.commands import decode_error
from meshrelay.wire.frame import Frame

__all__ = ["HELLO_ID", "PROBE_ID", "PendingRequests", "Settled", "read_answer"]

R = TypeVar("R")
W = TypeVar("W")

#: Request IDs of the connection's own HELLO and PINGs; never given to a request.
HELLO_ID = (1 << 32) - 2
PROBE_ID = (1 << 32) - 1

#: Request IDs are 1 to this.
_MAX_ID = HELLO_ID - 1


def read_answer(answer: bytes, decode: Callable[[bytes], R]) -> R:
    """Return what an answer says.

    :raises RemoteProtocolError: it cannot be read; the node's fault.
    """
    try:
        return decode(answer)
    except MalformedPayload as error:
        # As it is, it would read as if the request had been at fault.
        raise RemoteProtocolError(f"the answer cannot be read: {error}") from None


class Settled(NamedTuple, Generic[W]):
    """An output: this waiter has its result, or its error."""

    waiter: W
    payload: bytes
    error: Exception | None


class PendingRequests(Generic[W]):
    """The table of open requests.

    :param limit: most requests at one time.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._last_id = 0
        self._pending: dict[int, tuple[W, float, float]] = {}
        #: No deadline is before it. Exact after `expire`: it need not be found anew for each answer.
        self._earliest: float | None = None

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def next_deadline(self) -> float | None:
        """When `expire` has to be called at the latest."""
        return self._earliest if self._pending else None

    def add(self, waiter: W, now: float, timeout_seconds: float) -> int:
        """Return the ID of a new request.

        :raises TooManyPending: `limit` requests are open.
        """
        if len(self._pending) >= self._limit:
            raise TooManyPending(self._limit)
        request_id = self._last_id + 1
        # After 2^32 requests IDs begin again, and a very old request may still be open.
        while request_id in self._pending or request_id > _MAX_ID:
            request_id = request_id + 1 if request_id < _MAX_ID else 1
        self._last_id = request_id
        deadline = now + timeout_seconds
        if self._earliest is None or not self._pending or deadline < self._earliest:
            self._earliest = deadline
        self._pending[request_id] = (waiter, deadline, timeout_seconds)
        return request_id

    def forget(self, waiter: W) -> None:
        """Nobody waits for it any more; its answer will be passed over."""
        for request_id, entry in self._pending.items():
            if entry[0] is waiter:
                del self._pending[request_id]
                return

    def answered(self, frame: Frame) -> Settled[W] | None:
        """Settle the request that a response belongs to; None: nobody waits for it.

        :raises MalformedPayload: the error in the response cannot be read; the node's fault.
        """
        status = frame.status
        error = None if status == Status.OK else command_error(status, *decode_error(frame.payload))
        entry = self._pending.pop(frame.request_id, None)
        if entry is None:
            return None
        return Settled(entry[0], frame.payload if error is None else b"", error)

    def expire(self, now: float) -> list[Settled[W]]:
        """Settle what is over its deadline, oldest first."""
        if self._earliest is None or now < self._earliest:
            return []
        late = [request_id for request_id, entry in self._pending.items() if entry[1] <= now]
        settled = []
        for request_id in late:
            waiter, _, timeout_seconds = self._pending.pop(request_id)
            settled.append(Settled(waiter, b"", TimedOut(f"no answer within {timeout_seconds:g} seconds")))
        self._earliest = min((entry[1] for entry in self._pending.values()), default=None)
        return settled

    def fail_all(self, make_error: Callable[[], Exception]) -> list[Settled[W]]:
        """Settle all, oldest first, each with an error of its own."""
        settled = [Settled(entry[0], b"", make_error()) for entry in self._pending.values()]
        self._pending.clear()
        self._earliest = None
        return settled
