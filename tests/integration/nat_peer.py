"""A client with P2P links as a process, for the laboratory of NATs: orders in, what happens out, a JSON object a line.

============================  =================================================================================
order                         what is done
============================  =================================================================================
create                        make a room
join ROOM, leave ROOM         ...
start ROOM SIZE               start links in groups of at most so many
send ROOM USER COUNT BYTES    send so many numbered messages to a user; those over the buffer's end wait
relay ROOM TEXT               to all link groups
rebind                        go on from another socket
peers, network, statistics    how things are
quit                          close everything
============================  =================================================================================

Each order is answered in one line with its number. Events come as they happen, with the time of the monotonic clock,
which is the same one in all processes of a machine. When links start, a greeting goes to each peer at once; numbered
messages are counted, and told only when one is missing or out of order, and when the last one is here.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.stdio import StandardIO
from twisted.protocols.basic import LineOnlyReceiver

from meshrelay.client import Client, ClientOptions, Disconnected, Event
from meshrelay.client.p2p import LinkLost, LinkMessageReceived, LinkRelayReceived, LinksStarted, LinkStateChanged
from meshrelay.errors import MeshRelayError, SlowReceiver

__all__ = ["main"]

reactor: Any = global_reactor

GREETING, NUMBERED, LAST = 1, 2, 3


class _Orders(LineOnlyReceiver):
    """Standard input and output."""

    delimiter = b"\n"
    MAX_LENGTH = 1 << 20

    def __init__(self, program: _Program) -> None:
        self._program = program

    def lineReceived(self, line: bytes) -> None:
        self._program.obey(*json.loads(line))

    def connectionLost(self, reason: Any = None) -> None:
        self._program.quit()


class _Program:
    """One user.

    :param urls: where the node is; the first that works is taken.
    """

    def __init__(self, urls: list[str], user: str) -> None:
        self._urls = urls
        self._user = user
        self._client: Client
        self._expected: dict[tuple[str, str], int] = {}
        self._output = _Orders(self)
        self._is_over = False

    def run(self) -> None:
        """Until `quit`."""
        StandardIO(self._output)
        Deferred.fromCoroutine(self._connect()).addErrback(lambda failure: self._say(fatal=str(failure)))
        reactor.run()

    def _say(self, **what: Any) -> None:
        if not self._is_over:
            self._output.sendLine(json.dumps({"at": time.monotonic(), **what}, default=str).encode())

    async def _connect(self) -> None:
        for url in self._urls:
            options = ClientOptions(connect_timeout_seconds=3.0 if url.startswith("udp") else 10.0)
            self._client = Client(reactor, url, self._user, options=options)
            try:
                await self._client.connect()
            except MeshRelayError as error:
                self._say(event="no", url=url, text=str(error))
                continue
            self._client.on(Event, self._heard)
            public = await self._client.links.addresses()
            self._say(event="ready", url=url, public=public and str(public))
            return
        self._say(fatal="no way to the node")

    def _heard(self, event: Event) -> None:
        if isinstance(event, LinksStarted):
            for user_id in event.user_ids:
                self._client.links.send(user_id, 2, GREETING, self._user.encode(), room_id=event.room_id)
            self._say(event="started", room=event.room_id, peers=event.user_ids)
        elif isinstance(event, LinkStateChanged):
            reason = event.reason.name if event.reason is not None else ""
            address = str(event.address or "")
            self._say(
                event="state",
                room=event.room_id,
                peer=event.user_id,
                state=event.state.name,
                reason=reason,
                address=address,
            )
        elif isinstance(event, LinkMessageReceived):
            self._message(event)
        elif isinstance(event, LinkRelayReceived):
            self._say(event="relay", room=event.room_id, peer=event.user_id, text=event.message.decode())
        elif isinstance(event, LinkLost):
            self._say(event="lost", room=event.room_id, peer=event.user_id, code=event.code, text=event.text)
        elif isinstance(event, Disconnected):
            self._say(event="disconnected", text=event.text)

    def _message(self, event: LinkMessageReceived) -> None:
        if event.cmd == GREETING:
            self._say(event="greeting", room=event.room_id, peer=event.user_id)
            return
        link = (event.room_id, event.user_id)
        number, expected = int.from_bytes(event.payload[:4], "big"), self._expected.get(link, 0)
        if number != expected:
            self._say(event="disorder", peer=event.user_id, expected=expected, number=number)
        self._expected[link] = number + 1
        if event.cmd == LAST:
            del self._expected[link]
            self._say(event="complete", room=event.room_id, peer=event.user_id, count=number + 1)

    def obey(self, order: int, name: str, *arguments: Any) -> None:
        """Do what is asked for."""
        coroutine = self._do(name, *arguments)
        done = Deferred.fromCoroutine(coroutine)
        done.addCallbacks(
            lambda result: self._say(order=order, result=result),
            lambda failure: self._say(order=order, error=f"{failure.type.__name__}: {failure.value}"),
        )

    async def _do(self, name: str, *arguments: Any) -> Any:
        client, links = self._client, self._client.links
        waits: dict[str, Callable[..., Awaitable[Any]]] = {
            "create": client.create_room,
            "join": client.join_room,
            "leave": client.leave_room,
            "start": links.start,
            "send": self._send,
            "relay": lambda room_id, text: links.relay(room_id, text.encode()),
            "rebind": self._rebind,
        }
        if name in waits:
            return await waits[name](*arguments)
        tells: dict[str, Callable[[], Any]] = {
            "peers": self._peers,
            "network": self._network,
            "statistics": links.statistics,
            "quit": self.quit,
        }
        return tells[name]()

    async def _rebind(self) -> list[Any]:
        is_moved = self._client.rebind()
        return [is_moved, str(await self._client.links.addresses())]

    def _peers(self) -> list[list[str]]:
        return [
            [peer.user_id, peer.state.name, peer.reason.name if peer.reason else "", str(peer.address or "")]
            for peer in self._client.links.peers()
        ]

    def _network(self) -> dict[str, str]:
        network = self._client.links.network
        return {"mapping": network.mapping.name, "public": str(network.public or ""), "text": network.text}

    async def _send(self, room_id: str, user_id: str, count: int, size: int) -> int:
        links = self._client.links
        for number in range(count):
            payload = number.to_bytes(4, "big").ljust(size, b".")
            cmd = LAST if number == count - 1 else NUMBERED
            while True:
                try:
                    links.send(user_id, 2, cmd, payload, room_id=room_id)
                except SlowReceiver:
                    await links.when_drained(user_id, room_id)
                else:
                    break
        return count

    def quit(self) -> None:
        """End."""
        if not self._is_over:
            self._is_over = True
            self._client.close().addBoth(lambda _: reactor.stop())


def main() -> None:
    """``python -m tests.integration.nat_peer USER URL [URL ...]``."""
    _Program(sys.argv[2:], sys.argv[1]).run()


if __name__ == "__main__":
    main()
