"""Members over UDP on plain sockets, for `udp.py`: one publishes over TCP, all count what comes.

``python -m benchmarks.udp_load '{"mode": ..., ...}'`` prints its figures as JSON. ``mode``:

=======  ==========================================================================================================
rounds   one message at a time: the next one goes when all members have the last one
paced    messages at a rate; how late each packet is, counted from when its message was due
packed   as many messages as a window allows, to one member
=======  ==========================================================================================================

Instead of a node a bare loop can be measured (``"is_bare": true``): it seals each message for each address as a node
does, sends it with ``sendto`` and does nothing else. Packets are numbered in the clear, so a member need not open one
to know which message it is; the last one of each is opened and compared.
"""

from __future__ import annotations

import http.client
import json
import os
import select
import socket
import struct
import subprocess
import sys
import time
from array import array
from collections.abc import Callable
from typing import Any

import jwt
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from benchmarks.load import Server, Watch

__all__ = ["PATIENCE_SECONDS", "Client", "main", "percentile", "token_of"]

#: Nothing is waited for any longer; a packet that has not come after a second is lost.
PATIENCE_SECONDS = 10.0
LOST_SECONDS = 1.0

#: One socket keeps what comes while the others are read.
BUFFER_BYTES = 64 << 20
#: socket(7); for root beyond what others may have.
SO_RCVBUFFORCE = getattr(socket, "SO_RCVBUFFORCE", 33)

#: Messages on their way in the mode `packed`, and in one write.
WINDOW = 8192
BURST = 320

_FRAME = struct.Struct("!BBHII")
_PACKET = struct.Struct("!BB16sQ")
_NONCE = struct.Struct("!IQ")
_DATA = 1
_TO_NODE, _TO_CLIENT = 0, 1
#: Header and tag.
_AROUND_BYTES = 42

_CREATE, _JOIN, _BROADCAST = 110, 111, 113


class Receiver:
    """One member: a socket, and the key to what comes."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        except OSError:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        self.socket.setblocking(False)
        self.sid = bytes(16)
        self.aead = AESGCM(bytes(32))
        #: Number of the last packet before the measured ones.
        self.before = 0
        self.last = b""

    def sign_in(self, port: http.client.HTTPConnection, user: str, token: str, join: bytes) -> None:
        """Ask for secrets, and join the group with the first packet."""
        port.request("GET", f"/endpoint/type/UDP/user/{user}", headers={"Authorization": f"Bearer {token}"})
        answer = json.load(port.getresponse())
        secret = b"".join(bytes.fromhex(answer[f"encryption{name}"]) for name in ("Key", "IV", "MacKey"))
        self.sid = bytes.fromhex(answer["sid"])
        self.aead = AESGCM(HKDF(SHA256(), 32, None, b"meshrelay udp 1").derive(secret))
        head = _PACKET.pack(_DATA, 1, self.sid, 1)
        packet = head + self.aead.encrypt(_NONCE.pack(_TO_NODE, 1), join, head)
        self.socket.sendto(packet, (answer["serverHost"], answer["serverPort"]))
        assert select.select([self.socket], [], [], PATIENCE_SECONDS)[0], f"{user} was not answered"
        self.last = self.socket.recv(2048)
        content = self.opened()
        assert content[1] == 1, f"{user} could not join: {content!r}"
        self.before = _PACKET.unpack_from(self.last)[3]

    def opened(self) -> bytes:
        """What is sealed in the last packet."""
        number = _PACKET.unpack_from(self.last)[3]
        return self.aead.decrypt(_NONCE.pack(_TO_CLIENT, number), self.last[26:], self.last[:26])


def token_of(user: str, secret: str) -> str:
    """What a user signs in with."""
    return jwt.encode({"sub": user, "exp": int(time.time()) + 3600}, secret, algorithm="HS256")


class Client:
    """One user over TCP. Blocking.

    :ivar welcome: what the node has answered.
    """

    def __init__(self, address: tuple[str, int], user: str, token: str) -> None:
        self.socket = socket.create_connection(address, PATIENCE_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.welcome = json.loads(self.ask(0, 1, json.dumps({"protocol": 1, "user": user, "token": token}).encode()))

    def ask(self, ver: int, cmd: int, payload: bytes) -> bytes:
        """Send a request and return its answer; nothing else must come here."""
        self.socket.sendall(_FRAME.pack(ver, 1, cmd, 1, len(payload)) + payload)
        _, status, _, _, length = _FRAME.unpack(self._exactly(_FRAME.size))
        data = self._exactly(length)
        assert status == 1, f"refused: {data!r}"
        return data

    def _exactly(self, count: int) -> bytes:
        data = self.socket.recv(count, socket.MSG_WAITALL)
        assert len(data) == count, "the node closed the connection"
        return data


class Receivers:
    """All members, read by one loop.

    :ivar came: packets.
    :ivar came_bytes: of what was sealed in them.
    :ivar due: message n, from 0, was due at this time; None = nobody asks.
    :ivar delays: seconds from due to read.
    """

    def __init__(self, members: list[Receiver]) -> None:
        self.members = members
        self._poll = select.epoll()
        self._by_number = {member.socket.fileno(): member for member in members}
        for number in self._by_number:
            self._poll.register(number, select.EPOLLIN)
        self._buffer = bytearray(2048)
        self.came = self.came_bytes = 0
        self.due: list[float] | None = None
        self.delays = array("d")

    def read(self, wait: float) -> None:
        """Take what has come, some of each."""
        for number, _ in self._poll.poll(wait):
            member = self._by_number[number]
            try:
                for _ in range(64):
                    self._take(member, member.socket.recv_into(self._buffer))
            except BlockingIOError:
                pass

    def _take(self, member: Receiver, size: int) -> None:
        self.came += 1
        self.came_bytes += size - _AROUND_BYTES
        number = _PACKET.unpack_from(self._buffer)[3]
        if self.due is None:
            member.before = number
        else:
            index = number - member.before - 1
            self.delays.append(time.monotonic() - self.due[index])

    def settle(self) -> None:
        """Pass over what comes until nothing does, and remember where each member stands."""
        for member in self.members:
            deadline = time.monotonic() + PATIENCE_SECONDS
            while select.select([member.socket], [], [], 0)[0]:
                assert time.monotonic() < deadline, "there is no end of packets"
                member.last = member.socket.recv(2048)
                member.before = _PACKET.unpack_from(member.last)[3]


def percentile(values: array[float], part: float) -> float:
    """Milliseconds that this part of all values does not go over."""
    ordered = sorted(values)
    return 1000 * ordered[min(len(ordered) - 1, int(part * len(ordered)))]


class Load:
    """Members and what publishes to them.

    :param publish: sends so many messages.
    :param content_bytes: of one message as it is sealed.
    :param server: what is measured.
    """

    def __init__(
        self, members: list[Receiver], publish: Callable[[int], object], content_bytes: int, server: Server
    ) -> None:
        self._receivers = Receivers(members)
        self._publish = publish
        self._content_bytes = content_bytes
        self._server = server
        self._count = len(members)
        self._lost = 0

    def check(self, message: bytes) -> None:
        """Send one message, and open it at every member."""
        self._receivers.settle()
        self._publish(1)
        for member in self._receivers.members:
            assert select.select([member.socket], [], [], PATIENCE_SECONDS)[0], "a message did not come"
            member.last = member.socket.recv(2048)
            assert member.opened().endswith(message), "another message came"
        self._receivers.settle()

    def _figures(self, watch: Watch, packets: int, **more: float) -> dict[str, float]:
        seconds, server, busy = watch.stop()
        return {
            "packets": packets,
            "packets_per_second": packets / seconds,
            "server_us": 1e6 * server / max(1, packets),
            "per_server_second": packets / max(1e-6, server),
            **busy,
            **more,
        }

    def rounds(self, seconds: float) -> dict[str, float]:
        """One message at a time."""
        self._rounds(0.5)
        watch, before = Watch(self._server), self._receivers.came
        self._rounds(seconds)
        return self._figures(watch, self._receivers.came - before, lost=self._lost)

    def _rounds(self, seconds: float) -> None:
        receivers = self._receivers
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            wanted = receivers.came + self._count
            self._publish(1)
            while receivers.came < wanted:
                receivers.read(0.1)
                if time.monotonic() > now + LOST_SECONDS:
                    self._lost += wanted - receivers.came
                    break

    def paced(self, seconds: float, per_second: float) -> dict[str, float]:
        """Messages at a rate, after a second for warming up."""
        receivers = self._receivers
        self._rounds(0.5)
        receivers.settle()
        due: list[float] = []
        receivers.due = due
        watch, before = Watch(self._server), receivers.came
        start = time.monotonic()
        while True:
            now = time.monotonic()
            if now > start + seconds:
                break
            next_due = start + len(due) / per_second
            if next_due <= now:
                due.append(next_due)
                self._publish(1)
            else:
                receivers.read(next_due - now)
        figures = self._figures(watch, receivers.came - before)
        deadline = time.monotonic() + LOST_SECONDS
        while receivers.came - before < len(due) * self._count and time.monotonic() < deadline:
            receivers.read(0.1)
        figures["lost"] = len(due) * self._count - (receivers.came - before)
        figures["p50_ms"], figures["p99_ms"] = (percentile(receivers.delays, part) for part in (0.5, 0.99))
        return figures

    def packed(self, seconds: float) -> dict[str, float]:
        """As many messages as the window allows."""
        self._packed(0.5)
        watch, before, packets = Watch(self._server), self._messages, self._receivers.came
        self._packed(seconds)
        messages = self._messages - before
        figures = self._figures(watch, messages, lost=self._lost)
        figures["in_packet"] = messages / max(1, self._receivers.came - packets)
        return figures

    @property
    def _messages(self) -> int:
        return self._receivers.came_bytes // self._content_bytes

    def _packed(self, seconds: float) -> None:
        receivers = self._receivers
        sent, end = self._messages, time.monotonic() + seconds
        came_at = now = time.monotonic()
        while now < end:
            before = receivers.came
            while sent - self._messages <= WINDOW - BURST:
                self._publish(BURST)
                sent += BURST
            receivers.read(0.01)
            now = time.monotonic()
            if receivers.came != before:
                came_at = now
            elif now > came_at + LOST_SECONDS:
                self._lost += sent - self._messages
                sent, came_at = self._messages, now
        deadline = time.monotonic() + LOST_SECONDS
        while self._messages < sent and time.monotonic() < deadline:
            receivers.read(0.01)
        self._lost += max(0, sent - self._messages)


def load_of_node(job: dict[str, Any]) -> tuple[Load, Callable[[], None]]:
    """Sign everybody in: ``tcp`` and ``http``, addresses; ``secret``, ``pid``, ``members``."""
    secret, message = job["secret"], os.urandom(job["message_bytes"])
    publisher = Client(tuple(job["tcp"]), "publisher", token_of("publisher", secret))
    group_id = publisher.ask(1, _CREATE, struct.pack("!BIH", 3, 3600, 0))
    join = _FRAME.pack(1, 0, _JOIN, 1, len(group_id)) + group_id
    members = [Receiver() for _ in range(job["members"])]
    port = http.client.HTTPConnection("{}:{}".format(*job["http"]), timeout=PATIENCE_SECONDS)
    for number, member in enumerate(members):
        user = f"m{number:06}"
        member.sign_in(port, user, token_of(user, secret), join)
    # Unreliable, and nobody wants to be answered.
    said = _FRAME.pack(1, 0, _BROADCAST, 0, len(group_id) + len(message)) + group_id + message
    content_bytes = _FRAME.size + len(group_id) + 1 + len("publisher") + len(message)
    load = Load(members, lambda count: publisher.socket.sendall(said * count), content_bytes, Server(job["pid"]))
    load.check(message)
    return load, publisher.socket.close


def load_of_bare_loop(job: dict[str, Any]) -> tuple[Load, Callable[[], None]]:
    """Start the loop: ``members``, ``cpu``."""
    members = [Receiver() for _ in range(job["members"])]
    addresses = [member.socket.getsockname() for member in members]
    loop = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.udp_load", json.dumps({**job, "mode": "bare", "addresses": addresses})],
        stdin=subprocess.PIPE,
    )
    os.sched_setaffinity(loop.pid, {job["cpu"]})
    assert loop.stdin is not None
    told = loop.stdin.fileno()

    def stop() -> None:
        loop.communicate()

    size = job["message_bytes"]
    load = Load(members, lambda count: os.write(told, b"+" * count), size, Server(loop.pid))
    load.check(bytes(size))
    return load, stop


def bare_loop(addresses: list[list[Any]], message_bytes: int) -> None:
    """For each byte of the standard input seal one message for each address and send it."""
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    sender.setblocking(False)
    ends = [(AESGCM(bytes(32)), tuple(address)) for address in addresses]
    message, sid = bytes(message_bytes), bytes(16)
    number = 0
    send = sender.sendto
    while os.read(0, 1):
        number += 1
        for aead, address in ends:
            head = _PACKET.pack(_DATA, 1, sid, number)
            send(head + aead.encrypt(_NONCE.pack(_TO_CLIENT, number), message, head), address)


def main(job: dict[str, Any]) -> dict[str, float]:
    """Do one job: ``mode``, ``members``, ``message_bytes``, ``seconds`` and what else it needs."""
    load, stop = load_of_bare_loop(job) if job.get("is_bare") else load_of_node(job)
    try:
        if job["mode"] == "paced":
            return load.paced(job["seconds"], job["per_second"])
        return load.packed(job["seconds"]) if job["mode"] == "packed" else load.rounds(job["seconds"])
    finally:
        stop()


if __name__ == "__main__":
    told = json.loads(sys.argv[1])
    if told["mode"] == "bare":
        bare_loop(told["addresses"], told["message_bytes"])
    else:
        print(json.dumps(main(told)))
