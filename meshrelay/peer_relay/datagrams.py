"""`PeerRelaySocket`: peers as if by UDP, with the methods of a socket of Node's ``dgram``.

On the wire a datagram is a message ``{"buffer": {"type": "Buffer", "data": [...]}, "address": ID, "port": N}``, as
npm's package has it. Messages of other forms are for other programs and are passed over; the package dies of them.

Source: npm peer-relay 0.0.2, its README, and the documentation of Node's ``dgram``.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger

from meshrelay.overlay.errors import PeerDestroyed, UnusableData
from meshrelay.overlay.peer import PeerMessage
from meshrelay.peer_relay.peer import PeerRelay
from meshrelay.wire.overlay import ID_BYTES, buffer_bytes

__all__ = ["FAMILY", "PeerRelaySocket", "RemoteInfo"]

#: What an address of a peer is said to be.
FAMILY = "peer-relay"

_MAX_PORT = 65535
_EVENTS = ("message", "listening", "close", "error")


class RemoteInfo(NamedTuple):
    """Where a datagram came from."""

    #: The sender's ID in hex: who sent it, whatever the datagram says.
    address: str
    #: What the sender calls its port.
    port: int
    family: str
    #: Bytes of the datagram.
    size: int


class PeerRelaySocket:
    """See the module.

    :param options: as those of `PeerRelay`, which is made with them.
    """

    _log = Logger()

    def __init__(self, reactor: Any, **options: Any) -> None:
        self._reactor = reactor
        #: The peer underneath.
        self.peer = PeerRelay(reactor, **options)
        #: Messages that were no datagrams.
        self.foreign_messages = 0
        self._port = 1 + secrets.randbelow(_MAX_PORT)
        self._is_bound = False
        self._is_closed = False
        self._callbacks: dict[str, list[Callable[..., object]]] = {event: [] for event in _EVENTS}
        self.peer.on_message(self._received)

    def on(self, event: str, callback: Callable[..., object]) -> Callable[[], None]:
        """Call `callback` with each event of that name from now on. What it raises is logged.

        =============  =========================================================================
        ``message``    (bytes, `RemoteInfo`)
        ``listening``  (): after `bind`
        ``close``      (): after `close`
        ``error``      (exception): a datagram of `send_nowait` was not delivered
        =============  =========================================================================

        :returns: ends it.
        :raises ValueError: there is no such event.
        """
        callbacks = self._callbacks.get(event)
        if callbacks is None:
            raise ValueError(f"no event {event}: there are {', '.join(_EVENTS)}")
        callbacks.append(callback)
        return lambda: callbacks.remove(callback) if callback in callbacks else None

    def _emit(self, event: str, *arguments: object) -> None:
        for callback in tuple(self._callbacks[event]):
            try:
                callback(*arguments)
            except Exception:  # noqa: BLE001 - the program's bug must not take the event from the others
                self._log.failure("a callback of a socket failed")

    def address(self) -> RemoteInfo:
        """Return this end's own address; its size is 0.

        :raises PeerDestroyed: the socket is closed.
        """
        self._check_open()
        return RemoteInfo(self.peer.id.hex(), self._port, FAMILY, 0)

    def bind(self, port: int = 0, callback: Callable[[], object] | None = None) -> None:
        """Choose the port that others are told. It plays no part in who gets what.

        :param port: 0 = keep the one that was drawn.
        :param callback: called with the event ``listening``, soon.
        :raises ValueError: it is no port.
        :raises RuntimeError: the socket is bound already.
        """
        self._check_open()
        if self._is_bound:
            raise RuntimeError("the socket is bound already")
        if not 0 <= port <= _MAX_PORT:
            raise ValueError(f"port {port} is not within 0 and {_MAX_PORT}")
        self._is_bound = True
        self._port = port or self._port
        if callback is not None:
            self.on("listening", callback)
        self._reactor.callLater(0, self._emit, "listening")

    def send(self, buffer: bytes | str, *where: Any) -> Deferred[None]:
        """Send a datagram: ``send(buffer, port, id)`` or ``send(buffer, offset, length, port, id)``.

        :param buffer: text is sent as UTF-8.
        :param where: the ID is bytes or hex; the port says nothing and may be any.
        :returns: as `PeerRelay.send`; an ID that is none fails with `UnusableData`.
        :raises TypeError: the arguments are not of one of these forms.
        :raises ValueError: offset and length reach beyond the buffer.
        :raises PeerDestroyed: the socket is closed.
        """
        self._check_open()
        # Of a number bytes() would make as many zeros.
        data = buffer.encode() if isinstance(buffer, str) else bytes(memoryview(buffer))
        if len(where) == 4:
            data, where = _part(data, where[0], where[1]), where[2:]
        if len(where) != 2:
            raise TypeError("send(buffer, port, id) or send(buffer, offset, length, port, id)")
        return self._send(data, where[1])

    def send_nowait(self, buffer: bytes | str, *where: Any) -> None:
        """Send as `send` does; what goes wrong on the way is told by the event ``error``."""
        self.send(buffer, *where).addErrback(lambda failure: self._emit("error", failure.value))

    def _send(self, data: bytes, to: object) -> Deferred[None]:
        try:
            peer_id = bytes.fromhex(to) if isinstance(to, str) else to
            if not isinstance(peer_id, bytes) or len(peer_id) != ID_BYTES:
                raise ValueError
        except ValueError:
            return fail(UnusableData(f"{to!r} is no ID: {ID_BYTES} bytes, or as many in hex"))
        return self.peer.send(peer_id, {"buffer": data, "address": self.peer.id.hex(), "port": self._port})

    def _received(self, message: PeerMessage) -> None:
        datagram = message.data if isinstance(message.data, dict) else {}
        data, port = buffer_bytes(datagram.get("buffer")), datagram.get("port")
        if isinstance(datagram.get("buffer"), str):
            data = datagram["buffer"].encode()
        if data is None or not isinstance(port, int) or isinstance(port, bool) or not 0 <= port <= _MAX_PORT:
            self.foreign_messages += 1
            return
        self._emit("message", data, RemoteInfo(message.sender.hex(), port, FAMILY, len(data)))

    def close(self, callback: Callable[[], object] | None = None) -> Deferred[None]:
        """Destroy the peer underneath; the event ``close`` follows.

        :returns: fires when all is closed.
        """
        if not self._is_closed:
            self._is_closed = True
            if callback is not None:
                self.on("close", callback)
            self.peer.destroy().addCallback(lambda _: self._emit("close"))
        return self.peer.destroy()

    def _check_open(self) -> None:
        if self._is_closed:
            raise PeerDestroyed


def _part(data: bytes, offset: Any, length: Any) -> bytes:
    if not isinstance(offset, int) or not isinstance(length, int):
        raise TypeError("offset and length are whole numbers")
    if offset < 0 or length < 0 or offset + length > len(data):
        raise ValueError(f"offset {offset} and length {length} reach beyond {len(data)} bytes")
    return data[offset : offset + length]
