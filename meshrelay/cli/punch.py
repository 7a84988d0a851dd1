"""``meshrelay punch``: what NAT there is before this machine, and whether peers can be reached directly through it.

Alone it tells what the node sees, and tries whether the NAT lets its own clients reach each other by their public
addresses (hairpinning). With another ``meshrelay punch`` in the same room both tell by what path they reach each other.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import click
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout

from meshrelay.cli.client_program import as_target, node_options, printable, run
from meshrelay.client import Client, ClientOptions, Connected
from meshrelay.client.p2p import LinkState, LinkStateChanged, NetworkView, P2POptions, PeerView
from meshrelay.errors import MeshRelayError, TimedOut
from meshrelay.wire.addresses import UdpAddress

__all__ = ["PunchReport", "command", "hairpin", "punch"]

#: A path that is to be had without a search is found sooner.
_HAIRPIN_SECONDS = 2.0


@dataclass(slots=True)
class PunchReport:
    """What was found out."""

    node: str
    network: NetworkView
    #: None: it was not tried, for there is no NAT or no UDP.
    passes_hairpins: bool | None = None
    room_id: str = ""
    peers: list[PeerView] = field(default_factory=list)

    @property
    def nat(self) -> str:
        """One line for people."""
        network = self.network
        if not network.has_socket:
            return "not known: this client does not speak UDP to the node (use --url udp+http://...)"
        if network.public is None:
            return "not known: the node does not say where it sees this client"
        if network.public in network.local:
            return "none: the node sees a local address"
        ports = {address.port for address in network.local}
        kept = "keeps the port" if network.public.port in ports else "changes the port"
        return f"there is one, it {kept}; {network.text}"

    def lines(self) -> list[str]:
        """For people."""
        network = self.network
        lines = [
            f"node      {printable(self.node)}",
            f"UDP       {'reaches the node' if network.has_socket else 'not used'}",
            f"public    {network.public or 'not known'}",
            f"local     {', '.join(map(str, network.local)) or 'none'}",
            f"NAT       {self.nat}",
        ]
        if self.passes_hairpins is not None:
            lines.append(f"hairpin   {'passes' if self.passes_hairpins else 'does not pass'}")
        if self.room_id:
            lines.append(f"room      {self.room_id}")
        return lines + [f"peer      {printable(peer.user_id)}: {_way(peer)}" for peer in self.peers]

    def as_json(self) -> str:
        """One JSON object."""
        network = self.network
        return json.dumps(
            {
                "node": self.node,
                "has_udp": network.has_socket,
                "public": _text(network.public),
                "local": [str(address) for address in network.local],
                "mapping": network.mapping.name.lower(),
                "nat": self.nat,
                "passes_hairpins": self.passes_hairpins,
                "room": self.room_id,
                "peers": [
                    {
                        "user": peer.user_id,
                        "state": peer.state.name.lower(),
                        "reason": peer.reason.value if peer.reason is not None else "",
                        "address": _text(peer.address),
                        "round_trip_ms": peer.round_trip_seconds and round(peer.round_trip_seconds * 1e3, 3),
                    }
                    for peer in self.peers
                ],
            }
        )


def _text(address: UdpAddress | None) -> str:
    return "" if address is None else str(address)


def _way(peer: PeerView) -> str:
    if peer.state is LinkState.DIRECT:
        took = f", {peer.round_trip_seconds * 1e3:.1f} ms" if peer.round_trip_seconds else ""
        return f"direct, at {peer.address}{took}"
    return f"by the relay: {peer.reason.value if peer.reason is not None else 'not known why'}"


async def hairpin(reactor: Any, make: Callable[[str], Client]) -> bool:
    """Tell whether two clients here reach each other by their public addresses alone.

    :param make: gives a client for a user ID, with options that leave private addresses out.
    """
    clients = [make(f"punch-{secrets.token_hex(4)}") for _ in range(2)]
    try:
        for client in clients:
            await client.connect()
            await client.links.addresses()
        room_id = await clients[0].create_room()
        await clients[1].join_room(room_id)
        await clients[0].links.start(room_id)
        await _direct(reactor, clients[0], _HAIRPIN_SECONDS)
        return any(peer.state is LinkState.DIRECT for peer in clients[0].links.peers())
    finally:
        for client in clients:
            await client.close()


async def punch(
    reactor: Any,
    client: Client,
    connected: Connected,
    *,
    make: Callable[[str], Client] | None,
    room_id: str | None,
    seconds: float,
) -> PunchReport:
    """Find out what there is to find out.

    :param make: see `hairpin`; None: it is not tried.
    :param room_id: a room to meet others in; "" = a new one; None = nobody is met.
    :param seconds: how long others are waited for, and a direct path is tried.
    :raises TimedOut: nobody was met.
    """
    links = client.links
    public = await links.addresses()
    report = PunchReport(connected.node_id or "node", links.network)
    if make is not None and public is not None and public not in links.network.local:
        try:
            report.passes_hairpins = await hairpin(reactor, make)
        except MeshRelayError as error:
            click.echo(f"hairpinning could not be tried: {printable(str(error))}", err=True)
    if room_id is not None:
        report.room_id = await _meet(reactor, client, room_id, seconds)
        report.peers = links.peers()
        report.network = links.network
    return report


async def _meet(reactor: Any, client: Client, room_id: str, seconds: float) -> str:
    if room_id:
        await client.join_room(room_id)
        await client.links.start(room_id)
    else:
        room_id = await client.create_room()
        click.echo(f"in room {room_id}; run the same with --room {room_id} elsewhere", err=True)
    await _direct(reactor, client, seconds)
    if not client.links.peers():
        raise TimedOut("nobody was met in the room")
    return room_id


async def _direct(reactor: Any, client: Client, seconds: float) -> None:
    """Wait until all peers are reached directly, so long at most."""
    done: Deferred[None] = Deferred()

    def look(_: object = None) -> None:
        peers = client.links.peers()
        if peers and all(peer.state is LinkState.DIRECT for peer in peers) and not done.called:
            done.callback(None)

    stop = client.on(LinkStateChanged, look)
    look()
    try:
        await done.addTimeout(seconds, reactor)
    except DeferredTimeout:
        pass
    finally:
        stop()


@click.command(name="punch")
@click.option("--room", help="ID of a room where another one runs; NEW makes one.")
@click.option("--json", "is_json", is_flag=True, help="One JSON object instead of text.")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0.1),
    default=30.0,
    show_default=True,
    help="How long others are waited for, and a direct path is tried.",
)
@node_options
def command(
    room: str | None, is_json: bool, seconds: float, url: str, user: str | None, token_file: str | None
) -> None:
    """Tell what NAT there is, and whether peers are reached directly."""

    target = as_target(url, user, token_file)

    async def body(reactor: Any, client: Client, connected: Connected) -> None:
        def hairpin_client(name: str) -> Client:
            options = ClientOptions(p2p=P2POptions(allow_private=False, allow_search=False))
            return Client(reactor, url, name, options=options)

        room_id = "" if room == "NEW" else room
        make = hairpin_client if target.token_file is None else None
        report = await punch(reactor, client, connected, make=make, room_id=room_id, seconds=seconds)
        click.echo(report.as_json() if is_json else "\n".join(report.lines()))

    run(target, body)
