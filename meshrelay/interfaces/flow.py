"""Between the sockets and the fan-out: what transports and sessions tell each other, and who is delivered to."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zope.interface import Attribute, Interface

from meshrelay.model import CloseReason

if TYPE_CHECKING:  # annotations only: an interface must not pull in what implements it
    from meshrelay.wire.prepared import Batch

__all__ = ["IConnection", "IDownlink", "IFanout", "IStreamWriter", "ISubscriber", "IUplink"]


class IUplink(Interface):
    """What a transport tells the session layer. Given by the session layer for each connection."""

    def heard() -> None:
        """Something arrived, whatever it was. Call once for each read, before its frames."""

    def run_received(run: Any) -> None:
        """Take one `meshrelay.wire.frame.FrameRun`: the next frames, of one kind. Never raises."""

    def read_ended() -> None:
        """All frames of one read were given: what was kept to be done together is done now."""

    def protocol_broken(error: Any) -> None:
        """The peer's bytes raised this `meshrelay.errors.RemoteProtocolError`. The connection is closed."""

    def outbox_overflowed(queued_bytes: int) -> None:
        """More waits for the client than outbox_bytes, and no policy could help. The connection is closed."""

    def pushes_dropped(count: int) -> None:
        """The policy dropped `count` frames on their way to the client."""

    def failed() -> None:
        """An unexpected error: our bug, which the caller has logged. Costs this connection alone."""

    def connection_lost(detail: str) -> None:
        """The transport is gone. Called once, last; also after `IDownlink.close`."""


class IDownlink(Interface):
    """One connection as the session layer sees it. Given by a transport.

    Nothing raises after a close: what comes too late is dropped.
    """

    transport_name = Attribute("str: tcp, websocket or udp.")
    peer = Attribute("str: address of the client, host:port.")
    queued_bytes = Attribute("int: what waits to be written.")
    udp_address = Attribute("(host, port) where a UDP client has shown to be; None: not known, or no UDP.")

    def send_batch(batch: Batch) -> None:
        """Push the frames of `batch`. Bounded by outbox_bytes; the policy decides what gives."""

    def send_frame(frame: bytes, count: int = 1) -> None:
        """Send a frame, or `count` joined ones, that no policy may drop: answers, PING, GOODBYE."""

    def send_probe(frame: bytes) -> None:
        """Send one frame whose round trip is measured, by the shortest way; it may be lost."""

    def undelivered() -> tuple[int, list[bytes]] | None:
        """What a link that is acknowledged, as RUDP is, still owes the client; None: this one is not.

        :returns: the count of reliable pushes that it has taken, and the frames of those not acknowledged, in order.
        """

    def pause_reading() -> None:
        """Take no more from the client for now. UDP cannot be paused and drops instead."""

    def resume_reading() -> None:
        """The opposite of `pause_reading`."""

    def close(reason: CloseReason | None, text: str) -> None:
        """Send GOODBYE behind what waits, write all of it, and close; abort if that takes too long.

        :param reason: None = the client said GOODBYE itself, so nothing is sent.
        """

    def abort() -> None:
        """Close at once."""


class IConnection(Interface):
    """One connection as its session sees it. Given by `session.connection`."""

    link = Attribute("`IDownlink`")

    def close(reason: CloseReason | None, text: str) -> None:
        """Say GOODBYE and close. Twice does nothing."""

    def measure_latency() -> None:
        """Send PING now, unless one is not answered yet."""


class IStreamWriter(Interface):
    """Takes bytes for one connection; tells its outbox when to wait. Given by `transport.direct_write`."""

    def write(data: bytes) -> None:
        """Write now or buffer. May call the outbox's ``writing_paused`` before it returns."""

    def direct_send() -> Callable[[bytes], int] | None:
        """What takes bytes at once and tells how many it took, or raises OSError; None: only `write` does now.

        Good for one call, before anything else happens to the connection; give what it did not take to `not_sent`.
        """

    def not_sent(rest: bytes) -> None:
        """`direct_send` did not take this: write it as soon as the connection takes something again."""

    def finish() -> None:
        """Close when everything was written."""


class ISubscriber(Interface):
    """Who a channel delivers to."""

    def deliver(batch: Batch) -> None:
        """Take the frames of one turn. An exception is logged and reaches no other subscriber."""


class IFanout(Interface):
    """Channels: encoded frames in, one joined blob for each subscriber and turn out."""

    def open_channel(interval_seconds: float) -> Any:
        """Return a new `meshrelay.fanout.hub.Channel`. `interval_seconds` > 0 merges over that time."""

    def flush() -> None:
        """Deliver everything that waits, merging intervals or not."""
