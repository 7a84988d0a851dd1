"""Bounds that aiortc does not have, put around one connection before anything can come in on it.

===============  =====================================================  ====================================
layer            what the network could make grow or break              what is done
===============  =====================================================  ====================================
ICE datagrams    those that wait for DTLS; anybody can send them        `MAX_DATAGRAMS` wait, more are dropped
ICE candidates   addresses that connectivity checks are sent to         `MAX_CANDIDATES`, and only allowed ones
SCTP messages    fragments of messages that never become whole          `MAX_FRAGMENTS`, `MAX_PARTIAL_BYTES`
SCTP streams     one record for each stream that was ever used          `MAX_STREAMS`
SCTP packets     whatever raises in aiortc                              the connection ends
===============  =====================================================  ====================================

Nothing here is patched in aiortc or aioice: methods are laid over those of the one object. Of their insides are used
``Connection`` ``_queue``, ``_remote_candidates``, ``_add_remote_candidate``, ``check_incoming``,
``get_component_candidates`` and ``RTCSctpTransport`` ``_handle_data``, ``_send_chunk``, ``_inbound_streams``,
``_sack_misordered``, ``_advertised_rwnd``; tests/integration/test_overlay_webrtc.py pins them.

Needs the extra ``webrtc``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

from aioice import Candidate
from aioice.ice import Connection
from aiortc import RTCSctpTransport
from twisted.logger import Logger

from meshrelay.transport.overlay_webrtc_link import WrtcCounters

__all__ = ["MAX_CANDIDATES", "MAX_DATAGRAMS", "bound_ice", "bound_sctp", "use_addresses"]

#: As many as an honest window of SCTP (1 MiB) has twice over.
MAX_DATAGRAMS = 2048

#: Of the other end, whether it said them or its checks came from there.
MAX_CANDIDATES = 64

#: An honest window of SCTP has about 900.
MAX_FRAGMENTS = 2048

#: Beyond the window that the other end was told; one fragment may come as a probe.
MAX_PARTIAL_BYTES = 64 * 1024

#: A link has one channel, and that is one stream.
MAX_STREAMS = 4


class _Datagrams(asyncio.Queue[Any]):
    """What came for DTLS. The last thing in it is None."""

    def __init__(self, counters: WrtcCounters) -> None:
        super().__init__()
        self._counters = counters

    def put_nowait(self, item: Any) -> None:
        # An empty datagram is an IndexError in aiortc.
        if item is not None and (not item[0] or self.qsize() >= MAX_DATAGRAMS):
            self._counters.datagrams_dropped += 1
        else:
            super().put_nowait(item)


def bound_ice(ice: Connection, allows: Callable[[str], bool], counters: WrtcCounters) -> None:
    """Bound what comes in, and whereto checks are sent.

    :param allows: whether an IP address may be that of the other end.
    """
    private: Any = ice
    add_candidate, check_incoming = private._add_remote_candidate, ice.check_incoming

    def is_welcome(candidate: Candidate, address: str) -> bool:
        try:
            ip_address(address)
        except ValueError:
            return False
        if len(private._remote_candidates) >= MAX_CANDIDATES or not 0 < candidate.port < 65536:
            return False
        return allows(address)

    def add_welcome(candidate: Candidate, address: str) -> None:
        if is_welcome(candidate, address):
            add_candidate(candidate, address)
        else:
            counters.candidates_refused += 1

    def check_known(message: Any, address: tuple[str, int], protocol: Any) -> None:
        known = private._remote_candidates
        if len(known) < MAX_CANDIDATES or any((c._network_host, c.port) == address for c in known):
            check_incoming(message, address, protocol)
        else:
            counters.candidates_refused += 1

    private._queue = _Datagrams(counters)
    private._add_remote_candidate = add_welcome
    private.check_incoming = check_known


def use_addresses(ice: Connection, addresses: tuple[str, ...]) -> None:
    """Let ICE use these local addresses in place of all that aioice finds, which are never loopback ones."""
    private: Any = ice
    gather = ice.get_component_candidates

    async def gather_ours(**options: Any) -> list[Candidate]:
        return await gather(**{**options, "addresses": list(addresses)})

    private.get_component_candidates = gather_ours


def bound_sctp(sctp: RTCSctpTransport, broken: Callable[[str], None], counters: WrtcCounters, log: Logger) -> None:
    """Bound what waits to become a message, and end the connection where aiortc would only raise.

    :param broken: called with a text for people, perhaps more than once.
    """
    private: Any = sctp
    handle_data, send_chunk = private._handle_data, private._send_chunk

    def fault(why: str) -> None:
        counters.faults += 1
        broken(why)

    async def handle_bounded(data: bytes) -> None:
        try:
            await handle_data(data)
        except Exception as error:  # whatever it is, the other end sent what aiortc does not take
            log.debug("a packet of a WebRTC peer broke its connection: {error!r}", error=error)
            fault("it broke the rules of SCTP")
            return
        # aiortc keeps no record of what waits; an honest link has one stream with a few fragments.
        streams = private._inbound_streams
        fragments = sum(len(stream.reassembly) for stream in streams.values()) + len(private._sack_misordered)
        if len(streams) > MAX_STREAMS or fragments > MAX_FRAGMENTS or private._advertised_rwnd < -MAX_PARTIAL_BYTES:
            fault("it sent more than may wait")

    async def send_if_open(chunk: Any) -> None:
        try:
            await send_chunk(chunk)
        except ConnectionError:
            # Timers of SCTP ring behind the end of DTLS; aiortc's tasks for them have nobody to raise to.
            log.debug("a chunk came too late to be sent")

    private._handle_data = handle_bounded
    private._send_chunk = send_if_open
