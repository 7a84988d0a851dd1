"""Datagrams of a socket many at a time: fewer calls of the kernel, where it can (Linux), and one by one elsewhere.

==============  ===========================================  ==========================================
direction       many at a time                               one by one
==============  ===========================================  ==========================================
from everybody  recvmmsg(2), in place of ``doRead``          ``doRead`` of Twisted's port
to many         sendmmsg(2)                                  ``sendto``
to one          UDP_SEGMENT (udp(7)): one buffer, cut into   ``sendto``
                datagrams of one size behind the routing
==============  ===========================================  ==========================================

Like `meshrelay.transport.direct_write` this module knows something of Twisted's insides: the reactor calls ``doRead``
of the port, which `udp.Port` has as a method and nothing else, and reads until ``maxThroughput`` at most.
tests/transport/test_udp_batch.py pins it. `meshrelay.transport.udp_sender` says which way a packet goes.
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

__all__ = [
    "BATCH_DATAGRAMS",
    "MAX_KNOWN_ADDRESSES",
    "BatchReader",
    "BatchWriter",
    "can_segment",
    "equal_runs",
    "open_writer",
    "read_in_batches",
    "send_run",
]

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

#: sockaddr_in and sockaddr_in6, padded to the same length.
_NAME4 = Struct("=H2s4s20x")
_NAME6 = Struct("=H2sI16sI")

#: socket(7), recvmmsg(2), sendmmsg(2); the same on all 64-bit Linux.
_DECLARATIONS = """
    struct iovec { void *iov_base; size_t iov_len; };
    struct msghdr {
        void *msg_name; uint32_t msg_namelen; struct iovec *msg_iov; size_t msg_iovlen;
        void *msg_control; size_t msg_controllen; int msg_flags;
    };
    struct mmsghdr { struct msghdr msg_hdr; unsigned int msg_len; };
    int recvmmsg(int, struct mmsghdr *, unsigned int, int, void *);
    int sendmmsg(int, struct mmsghdr *, unsigned int, int);
"""

#: sockaddr_in6, the longer of the two. The kernel takes zeros behind a shorter one.
_NAME_BYTES = 28


class _Slots:
    """Places for `BATCH_DATAGRAMS` datagrams and their addresses, as the kernel wants them described."""

    def __init__(self) -> None:
        self.ffi = ffi = FFI()
        ffi.cdef(_DECLARATIONS)
        self.library: Any = ffi.dlopen(None)
        # What only the kernel points to must live as long as the headers.
        self._data = ffi.new("char[]", BATCH_DATAGRAMS * SLOT_BYTES)
        self._names = ffi.new("char[]", BATCH_DATAGRAMS * _NAME_BYTES)
        #: What each slot holds, or may hold.
        self.parts = ffi.new("struct iovec[]", BATCH_DATAGRAMS)
        self.headers = ffi.new("struct mmsghdr[]", BATCH_DATAGRAMS)
        #: Slot n begins at n * `SLOT_BYTES`, and its address at n * 28.
        self.data = ffi.buffer(self._data)
        self.names = ffi.buffer(self._names)
        for index in range(BATCH_DATAGRAMS):
            self.parts[index].iov_base = self._data + index * SLOT_BYTES
            self.parts[index].iov_len = SLOT_BYTES
            header = self.headers[index].msg_hdr
            header.msg_name = self._names + index * _NAME_BYTES
            # Of what came the kernel writes the real length over it, which is the same for all of one family.
            header.msg_namelen = _NAME_BYTES
            header.msg_iov = self.parts + index
            header.msg_iovlen = 1


class BatchReader:
    """Reads what waits on a datagram socket.

    :param opened: non-blocking, of IPv4 or IPv6.
    :raises OSError: this system has no recvmmsg.
    :raises AttributeError: its C library has none.
    """

    def __init__(self, opened: socket.socket) -> None:
        self._socket = opened
        self._is_ipv6 = opened.family == socket.AF_INET6
        slots = _Slots()
        self._ffi = slots.ffi
        self._recvmmsg: Callable[..., int] = slots.library.recvmmsg
        self._slots = slots
        #: Address as the kernel writes it -> as Twisted does.
        self._known: dict[bytes, Address] = {}
        self._read_some(0)

    def _read_some(self, count: int) -> int:
        got = self._recvmmsg(self._socket.fileno(), self._slots.headers, count, 0, self._ffi.NULL)
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
        slots, known = self._slots, self._known
        data, headers, names = slots.data, slots.headers, slots.names
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


class BatchWriter:
    """Sends datagrams that have different addresses.

    :param opened: non-blocking, of IPv4 or IPv6.
    :raises AttributeError: the C library of this system has no sendmmsg.
    """

    def __init__(self, opened: socket.socket) -> None:
        self._socket = opened
        self._family = opened.family
        self._slots = slots = _Slots()
        self._ffi = slots.ffi
        self._sendmmsg: Callable[..., int] = slots.library.sendmmsg
        #: What the kernel is told of the length of each slot; most batches are of one length.
        self._sizes = [SLOT_BYTES] * BATCH_DATAGRAMS
        #: Address as Twisted writes it -> as the kernel does.
        self._known: dict[Address, bytes] = {}

    @property
    def known_addresses(self) -> int:
        """Addresses that are remembered; at most `MAX_KNOWN_ADDRESSES`."""
        return len(self._known)

    def name(self, address: Address) -> bytes:
        """Return the sockaddr of an address, and remember it.

        :raises OSError: the host is not written as a number.
        """
        if len(self._known) >= MAX_KNOWN_ADDRESSES:
            self._known.clear()
        flow_and_scope = address[2:] if len(address) > 2 else (0, 0)
        packed = socket.inet_pton(self._family, address[0])
        if self._family == socket.AF_INET6:
            name = _NAME6.pack(
                self._family, _PORT.pack(address[1]), socket.htonl(flow_and_scope[0]), packed, flow_and_scope[1]
            )
        else:
            name = _NAME4.pack(self._family, _PORT.pack(address[1]), packed)
        self._known[address] = name
        return name

    def write(self, datagrams: Sequence[tuple[bytes, Address]]) -> list[tuple[int, int]]:
        """Send (datagram, where to), `BATCH_DATAGRAMS` at most, each of `SLOT_BYTES` at most.

        :returns: (index, errno) of each that was not sent.
        :raises OSError: an address cannot be written for the kernel, and nothing was sent.
        """
        data, sizes, known = self._slots.data, self._sizes, self._known
        names = []
        at = 0
        for index, (datagram, address) in enumerate(datagrams):
            size = len(datagram)
            data[at : at + size] = datagram
            at += SLOT_BYTES
            if sizes[index] != size:
                sizes[index] = self._slots.parts[index].iov_len = size
            names.append(known.get(address) or self.name(address))
        self._slots.names[0 : len(names) * _NAME_BYTES] = b"".join(names)
        return self._send(len(names))

    def _send(self, count: int) -> list[tuple[int, int]]:
        headers, number = self._slots.headers, self._socket.fileno()
        refused = []
        done = 0
        while done < count:
            sent = self._sendmmsg(number, headers + done, count - done, 0)
            if sent <= 0:
                # The kernel tells it of the first one, and has tried none behind it.
                refused.append((done, self._ffi.errno))
                sent = 1
            done += sent
        return refused


def open_writer(opened: Any) -> BatchWriter | None:
    """Return what sends many at a time on a socket; None where the system cannot."""
    if not isinstance(opened, socket.socket) or sys.platform != "linux" or sys.maxsize < 1 << 32:
        return None
    try:
        return BatchWriter(opened)
    except AttributeError:
        return None


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
