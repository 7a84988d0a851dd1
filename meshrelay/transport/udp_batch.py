"""Datagrams of a socket many at a time: fewer calls of the kernel, where it can (Linux), and one by one elsewhere.

=========  ===========================================  ==========================================================
direction  many at a time                               one by one
=========  ===========================================  ==========================================================
receiving  recvmmsg(2), in place of ``doRead``          ``doRead`` of Twisted's port
sending    UDP_SEGMENT (udp(7)): one buffer, cut into   ``sendto``
           datagrams of one size behind the routing
=========  ===========================================  ==========================================================

sendmmsg(2) is not used: what a datagram costs is its way through the kernel, not the call, and only UDP_SEGMENT saves
that. Like `meshrelay.transport.direct_write` this module knows something of Twisted's insides: the reactor calls
``doRead`` of the port, which `udp.Port` has as a method and nothing else, and reads until ``maxThroughput`` at most.
tests/transport/test_udp_batch.py pins it.
"""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from struct import Struct
from typing import Any, TypeAlias

from cffi import FFI  # type: ignore[import-untyped]
from twisted.internet import udp

__all__ = ["MAX_KNOWN_ADDRESSES", "BatchReader", "can_segment", "equal_runs", "read_in_batches", "send_run"]

Address: TypeAlias = tuple[Any, ...]

#: Datagrams that one call takes; no more than a client sends between two turns of a busy node.
BATCH_DATAGRAMS = 64

#: What is kept of each: more than any packet of ours has, so that one that is too long is seen as such.
SLOT_BYTES = 2048

#: Calls between two looks at the other sockets: a flood must not keep the node from them.
MAX_BATCHES_PER_READ = 4

#: Addresses whose text is remembered; beyond, all are forgotten.
MAX_KNOWN_ADDRESSES = 4096

#: What the kernel cuts one buffer into at most, and how long that may be (linux/udp.h; 65,535 less the headers).
MAX_SEGMENTS = 64
MAX_RUN_BYTES = 65_000

#: linux/udp.h
_SOL_UDP = 17
_UDP_SEGMENT = 103

_SEGMENT_BYTES = Struct("=H")
_PORT = Struct("!H")

#: socket(7), recvmmsg(2); the same on all 64-bit Linux.
_DECLARATIONS = """
    struct iovec { void *iov_base; size_t iov_len; };
    struct msghdr {
        void *msg_name; uint32_t msg_namelen; struct iovec *msg_iov; size_t msg_iovlen;
        void *msg_control; size_t msg_controllen; int msg_flags;
    };
    struct mmsghdr { struct msghdr msg_hdr; unsigned int msg_len; };
    int recvmmsg(int, struct mmsghdr *, unsigned int, int, void *);
"""

#: sockaddr_in6, the longer of the two.
_NAME_BYTES = 28


class BatchReader:
    """Reads what waits on a datagram socket.

    :param opened: non-blocking, of IPv4 or IPv6.
    :raises OSError: this system has no recvmmsg.
    :raises AttributeError: its C library has none.
    """

    def __init__(self, opened: socket.socket) -> None:
        self._socket = opened
        self._is_ipv6 = opened.family == socket.AF_INET6
        self._ffi = ffi = FFI()
        ffi.cdef(_DECLARATIONS)
        library: Any = ffi.dlopen(None)
        self._recvmmsg: Callable[..., int] = library.recvmmsg
        self._data = ffi.new("char[]", BATCH_DATAGRAMS * SLOT_BYTES)
        self._names = ffi.new("char[]", BATCH_DATAGRAMS * _NAME_BYTES)
        self._parts = ffi.new("struct iovec[]", BATCH_DATAGRAMS)
        self._headers = ffi.new("struct mmsghdr[]", BATCH_DATAGRAMS)
        self._data_view = ffi.buffer(self._data)
        self._names_view = ffi.buffer(self._names)
        #: Address as the kernel writes it -> as Twisted does.
        self._known: dict[bytes, Address] = {}
        for index in range(BATCH_DATAGRAMS):
            self._parts[index].iov_base = self._data + index * SLOT_BYTES
            self._parts[index].iov_len = SLOT_BYTES
            header = self._headers[index].msg_hdr
            header.msg_name = self._names + index * _NAME_BYTES
            # The kernel writes the real length over it, which is the same for all addresses of one family.
            header.msg_namelen = _NAME_BYTES
            header.msg_iov = self._parts + index
            header.msg_iovlen = 1
        self._read_some(0)

    def _read_some(self, count: int) -> int:
        got = self._recvmmsg(self._socket.fileno(), self._headers, count, 0, self._ffi.NULL)
        if got >= 0:
            return got
        code = self._ffi.errno
        # An error of an earlier datagram, as ECONNREFUSED, is told once; the next call reads on.
        if code in (errno.ENOSYS, errno.EPERM, errno.EBADF):
            raise OSError(code, "recvmmsg")
        return 0

    @property
    def known_addresses(self) -> int:
        """Addresses that are remembered; at most `MAX_KNOWN_ADDRESSES`."""
        return len(self._known)

    def read(self) -> list[tuple[bytes, Address]]:
        """Return what waits, `BATCH_DATAGRAMS` at most; a datagram over `SLOT_BYTES` is cut there.

        :raises OSError: the system does not let us any more, or the socket is closed.
        """
        data, headers, names, known = self._data_view, self._headers, self._names_view, self._known
        datagrams = []
        for index in range(self._read_some(BATCH_DATAGRAMS)):
            start = index * SLOT_BYTES
            raw = names[index * _NAME_BYTES : (index + 1) * _NAME_BYTES]
            address = known.get(raw) or self.address(raw)
            datagrams.append((data[start : start + headers[index].msg_len], address))
        return datagrams

    def address(self, raw: bytes) -> Address:
        """Return (host, port) of the sockaddr that the kernel wrote, and remember it."""
        if len(self._known) >= MAX_KNOWN_ADDRESSES:
            self._known.clear()
        (port,) = _PORT.unpack_from(raw, 2)
        packed = raw[8:24] if self._is_ipv6 else raw[4:8]
        address = self._known[raw] = (
            socket.inet_ntop(socket.AF_INET6 if self._is_ipv6 else socket.AF_INET, packed),
            port,
        )
        return address


def read_in_batches(port: Any, received: Callable[[Iterable[tuple[bytes, Address]]], None]) -> bool:
    """Let `port` hand over its datagrams in batches instead of one by one to its protocol.

    :param port: what a datagram protocol has for a transport, open.
    :param received: takes what one call of the kernel gave; must not raise.
    :returns: False: nothing was changed, since this is no port of Twisted's or the system knows no recvmmsg.
    """
    if not isinstance(port, udp.Port) or sys.platform != "linux" or sys.maxsize < 1 << 32:
        return False
    try:
        reader = BatchReader(port.socket)
    except (OSError, AttributeError):
        return False
    read_singly = port.doRead

    def read() -> None:
        try:
            for _ in range(MAX_BATCHES_PER_READ):
                datagrams = reader.read()
                received(datagrams)
                # Fewer than would have fit: the socket is empty, or the port was closed by what was read.
                if len(datagrams) < BATCH_DATAGRAMS or not port.connected:
                    return
        except OSError:
            port.doRead = read_singly  # type: ignore[method-assign]

    port.doRead = read  # type: ignore[method-assign]
    return True


def can_segment(opened: socket.socket) -> bool:
    """Whether the kernel knows UDP_SEGMENT for this socket."""
    if sys.platform != "linux":
        return False
    try:
        opened.getsockopt(_SOL_UDP, _UDP_SEGMENT)
    except OSError:
        return False
    return True


def equal_runs(packets: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """Cut `packets` into runs that UDP_SEGMENT can send: all of one size, but the last one may be shorter."""
    start = 0
    while start < len(packets):
        size = len(packets[start])
        most = min(start + max(1, min(MAX_SEGMENTS, MAX_RUN_BYTES // max(1, size))), len(packets))
        end = start + 1
        while end < most and len(packets[end]) == size:
            end += 1
        if end < most and len(packets[end]) < size:
            end += 1
        yield packets[start:end]
        start = end


def send_run(opened: socket.socket, run: Sequence[bytes], address: Address) -> None:
    """Send a run of `equal_runs` in one call.

    :raises OSError: nothing of it was sent; EINVAL: the path takes only smaller datagrams, EIO: the device cannot.
    """
    size = _SEGMENT_BYTES.pack(len(run[0]))
    opened.sendmsg([b"".join(run)], [(_SOL_UDP, _UDP_SEGMENT, size)], 0, address)
