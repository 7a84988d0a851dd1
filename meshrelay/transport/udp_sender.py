"""What leaves a UDP port: once a turn, for all sessions together.

::

    link.send_batch --schedule--> links that wait --turn--> link.flush: sealed packets --> one call for many of them

==============================  ==============================
packets                         go by
==============================  ==============================
many of one link at once        UDP_SEGMENT, together
one of a link, while flushing   sendmmsg, with those of others
one of a link, otherwise        ``sendto``
==============================  ==============================

Most of what a small packet costs is the kernel's way with it: sendmmsg makes that a quarter shorter. What the kernel
does not take is dropped and counted, as the network would drop it.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Any

from twisted.logger import Logger

from meshrelay.counters import NodeCounters
from meshrelay.fanout.turn import Flushable, Turn
from meshrelay.transport.udp_batch import (
    BATCH_DATAGRAMS,
    Address,
    BatchWriter,
    can_segment,
    equal_runs,
    open_writer,
    send_run,
)

__all__ = ["UdpSender"]

_FULL = (errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS)


class UdpSender:
    """See the module. Sends nothing while the port is closed."""

    _log = Logger()

    def __init__(self, turn: Turn, counters: NodeCounters) -> None:
        self._turn = turn
        self._counters = counters
        self._sent = counters.transports["udp"]
        self._socket: Any = None
        self._can_segment = False
        self._writer: BatchWriter | None = None
        #: Links that have something for the end of the turn.
        self._waiting: list[Flushable] = []
        self._is_flushing = False
        #: Packets of links that were flushed; at most `BATCH_DATAGRAMS`.
        self._together: list[tuple[bytes, Address]] = []

    def open(self, opened: Any) -> None:
        """Send by this non-blocking datagram socket from now on."""
        self._socket = opened
        self._can_segment = can_segment(opened)
        self._writer = open_writer(opened)

    def close(self) -> None:
        """The socket is not there any more."""
        self._socket = self._writer = None
        self._together = []

    def schedule(self, link: Flushable) -> None:
        """Flush `link` at the end of the turn, after all joins. It must not be scheduled already."""
        if not self._waiting:
            self._turn.write(self)
        self._waiting.append(link)

    def flush(self) -> None:
        """Flush the links that wait; called at the end of a turn."""
        waiting, self._waiting = self._waiting, []
        self._is_flushing = self._writer is not None
        try:
            for link in waiting:
                try:
                    link.flush()
                except Exception:  # one receiver's error must never reach another
                    self._log.failure("flushing {link} failed", link=link)
        finally:
            self._is_flushing = False
            self._send_together()

    def send(self, packet: bytes, address: Address) -> None:
        """Send one sealed packet: with those of other links while these are flushed, else at once."""
        if self._is_flushing:
            self._together.append((packet, address))
            if len(self._together) >= BATCH_DATAGRAMS:
                self._send_together()
        elif self._socket is not None:
            self._send_singly(packet, address)

    def send_many(self, packets: Sequence[bytes], address: Address) -> None:
        """Send sealed packets to one address at once."""
        if len(packets) == 1 or self._socket is None or not self._can_segment:
            for packet in packets:
                self.send(packet, address)
            return
        for run in equal_runs(packets):
            if len(run) == 1 or not self._send_run(run, address):
                for packet in run:
                    self.send(packet, address)

    def _send_singly(self, packet: bytes, address: Address) -> None:
        try:
            self._socket.sendto(packet, address)
        except OSError as error:
            self._refused(error.errno)
        else:
            self._sent.bytes_sent += len(packet)

    def _send_run(self, run: Sequence[bytes], address: Address) -> bool:
        """Send a run by one call. False: nothing was sent, the way there wants its packets one by one."""
        try:
            send_run(self._socket, run, address)
        except BlockingIOError:
            self._counters.packets_dropped["socket_full"] += len(run)
        except OSError:
            return False
        else:
            self._sent.bytes_sent += sum(map(len, run))
        return True

    def _send_together(self) -> None:
        together, self._together = self._together, []
        if not together or self._writer is None:
            return
        try:
            refused = self._writer.write(together)
        except OSError:
            # An address that only `sendto` knows to read, as one with the name of an interface.
            for packet, address in together:
                self._send_singly(packet, address)
            return
        self._sent.bytes_sent += sum([len(packet) for packet, _ in together])
        for index, code in refused:
            self._sent.bytes_sent -= len(together[index][0])
            self._refused(code)

    def _refused(self, code: int | None) -> None:
        self._counters.packets_dropped["socket_full" if code in _FULL else "unreachable"] += 1
