"""Two network namespaces joined by a bad path: every IP packet of one comes out of the other late, twice or not at all.

Each namespace has one TUN device; `Tunnel.run` moves whole IP packets between the two as `LossyPath` says. So the TCP
of a kernel and datagrams of ours suffer exactly the same, and neither is modelled. Needs Linux, root, `unshare`, `ip`.

The process inside a namespace calls `enter` first: it makes the device there and hands it to the parent.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import subprocess
import sys
import time
from heapq import heappop, heappush
from itertools import count
from pathlib import Path

from meshrelay.testing.impairment import Impairment, LossyPath

__all__ = ["ADDRESSES", "Tunnel", "enter"]

#: Of the two ends.
ADDRESSES = ("10.77.0.1", "10.77.0.2")

ROOT = Path(__file__).resolve().parent.parent

_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000

#: What is read is a whole IP packet.
_OVERHEAD_BYTES = 0


def enter(parent_number: int, index: int) -> None:
    """Make the TUN device of this namespace and hand it to the parent; returns when the path is up.

    :param parent_number: of the socket to the parent.
    :param index: which of `ADDRESSES` is ours.
    """
    device = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22s", b"path0", _IFF_TUN | _IFF_NO_PI, b""))
    for arguments in (
        ("link", "set", "lo", "up"),
        ("addr", "add", f"{ADDRESSES[index]}/30", "dev", "path0"),
        ("link", "set", "path0", "up", "mtu", "1500", "txqueuelen", "2000"),
    ):
        subprocess.run(["ip", *arguments], check=True)
    with socket.socket(fileno=parent_number) as parent:
        socket.send_fds(parent, [b"device"], [device])
        os.close(device)
        assert parent.recv(2) == b"go"


class Tunnel:
    """Two child processes in namespaces of their own and the path between them.

    :param programs: arguments of Python for the child at each end; two more are added, for `enter`.
    """

    def __init__(self, programs: tuple[list[str], list[str]], impairment: Impairment, seed: int) -> None:
        self.paths = [LossyPath(impairment, 2 * seed + end, _OVERHEAD_BYTES) for end in (0, 1)]
        self._children: list[subprocess.Popen[bytes]] = []
        self._devices: list[int] = []
        ours = []
        for index, arguments in enumerate(programs):
            parent, child = socket.socketpair()
            command = ["unshare", "-n", sys.executable, *arguments, str(child.fileno()), str(index)]
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            self._children.append(
                subprocess.Popen(command, stdout=subprocess.PIPE, pass_fds=[child.fileno()], env=environment)
            )
            child.close()
            ours.append(parent)
        for parent in ours:
            _, numbers, _, _ = socket.recv_fds(parent, 16, 1)
            os.set_blocking(numbers[0], False)
            self._devices.append(numbers[0])
        for parent in ours:
            parent.sendall(b"go")
            parent.close()

    def run(self, seconds: float) -> list[bytes]:
        """Carry packets until both children have ended.

        :param seconds: children that take longer are killed.
        :returns: what each has written to standard output.
        """
        deadline = time.monotonic() + seconds
        outputs = [b"", b""]
        pipes = {child.stdout.fileno(): index for index, child in enumerate(self._children) if child.stdout}
        held: list[tuple[float, int, int, bytes]] = []
        order = count()
        while pipes and time.monotonic() < deadline:
            wait = max(0.0, min(held[0][0] - time.monotonic(), 0.5)) if held else 0.5
            ready, _, _ = select.select([*self._devices, *pipes], [], [], wait)
            for number in ready:
                if number in pipes:
                    data = os.read(number, 1 << 16)
                    outputs[pipes[number]] += data
                    if not data:
                        del pipes[number]
                    continue
                self._read(number, held, order)
            now = time.monotonic()
            while held and held[0][0] <= now:
                _, _, device, packet = heappop(held)
                self._write(device, packet)
        self._stop()
        return outputs

    def _read(self, device: int, held: list[tuple[float, int, int, bytes]], order: count[int]) -> None:
        end = self._devices.index(device)
        for _ in range(64):
            try:
                packet = os.read(device, 2048)
            except BlockingIOError:
                return
            now = time.monotonic()
            for arrival in self.paths[end].arrivals(len(packet), now):
                heappush(held, (arrival, next(order), self._devices[1 - end], packet))

    def _write(self, device: int, packet: bytes) -> None:
        try:
            os.write(device, packet)
        except OSError:
            # The other end has ended and taken its device down.
            self.paths[0].counters["unwritten"] += 1

    def _stop(self) -> None:
        for child in self._children:
            child.kill()
            child.wait()
            if child.stdout is not None:
                child.stdout.close()
        for device in self._devices:
            os.close(device)
