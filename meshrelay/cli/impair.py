"""``meshrelay impair``: a bad network in front of any UDP or TCP port, to see what a program does on one.

It runs until Ctrl-C or for ``--seconds`` and then prints what it did. The numbers mean what `Impairment` says; on the
command line shares are per cent and times are milliseconds, as in netem(8).
"""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

import click
from twisted.internet.error import CannotListenError

from meshrelay.config.listening import UdpPlace, parse_udp_place
from meshrelay.testing.impairment import Impairment, LossyPath, StreamPath
from meshrelay.testing.tcp_proxy import TcpProxy
from meshrelay.testing.udp_proxy import UdpProxy

__all__ = ["command", "make_proxy", "parse_listen", "parse_target", "summary"]

EPILOG = """The HTTP call of a UDP client names the node's own port, so give the proxy the same port on another
address: a node with advertised_host 127.0.0.2 and udp:7202:interface=127.0.0.1 is impaired by
--listen udp:7202:interface=127.0.0.2 --to 127.0.0.1:7202.

SIGUSR1 lets nothing through, and the next SIGUSR1 everything again. SIGUSR2 (UDP) gives all clients new ports towards
the target, as a NAT may do.

A TCP stream cannot lose bytes: what is lost comes a round trip or a timeout later, and all behind it waits."""


@dataclass(frozen=True, slots=True)
class Listening:
    """What ``--listen`` says."""

    is_udp: bool
    place: UdpPlace


def parse_listen(text: str) -> Listening:
    """Read ``udp:port[:interface=address]`` or the same with ``tcp``; without an address it is 127.0.0.1.

    :raises ValueError: it is neither.
    """
    kind, colon, rest = text.partition(":")
    if kind not in ("udp", "tcp") or not colon:
        raise ValueError(f"{text!r} must be udp:port:interface=address or tcp:port:interface=address")
    place = parse_udp_place(f"udp:{rest}")
    return Listening(kind == "udp", UdpPlace(place.port, place.interface or "127.0.0.1"))


def parse_target(text: str, is_udp: bool) -> tuple[str, int]:
    """Read ``host:port`` or ``[IPv6 address]:port`` and look the host up.

    :returns: IP address and port.
    :raises ValueError: it is none, or there is no such host.
    """
    host, _, port = text.rpartition(":")
    kind = socket.SOCK_DGRAM if is_udp else socket.SOCK_STREAM
    if not host or not (port.isascii() and port.isdigit() and 0 < int(port) <= 65535):
        raise ValueError(f"{text!r} must be host:port")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=kind)
    except OSError as error:
        raise ValueError(f"{host}: {error.strerror}") from None
    address = found[0][4]
    return str(address[0]), int(address[1])


def make_proxy(
    reactor: Any, listening: Listening, target: tuple[str, int], there: Impairment, back: Impairment, seed: int
) -> UdpProxy | TcpProxy:
    """Return the proxy, not listening yet.

    :param seed: the same makes the same draws for the same packets.
    """
    if listening.is_udp:
        return UdpProxy(reactor, target, LossyPath(there, 2 * seed), LossyPath(back, 2 * seed + 1))
    seeds = count(2 * seed)
    return TcpProxy(reactor, target, lambda: StreamPath(there, next(seeds)), lambda: StreamPath(back, next(seeds)))


def summary(proxy: UdpProxy | TcpProxy) -> list[str]:
    """Return what happened, a line for each direction and one for the rest."""
    if isinstance(proxy, UdpProxy):
        paths = {"there": proxy.there.counters, "back": proxy.back.counters}
    else:
        paths = {"there": proxy.there_counters, "back": proxy.back_counters}
    return [_counted(name, counters) for name, counters in [*paths.items(), ("proxy", proxy.counters)]]


def _counted(name: str, counters: Mapping[str, int]) -> str:
    return f"{name}: " + (", ".join(f"{number} {what}" for what, number in sorted(counters.items())) or "nothing")


def _handle_signals(reactor: Any, proxy: UdpProxy | TcpProxy) -> None:
    holes: list[bool] = []

    def toggle() -> None:
        holes.append(not (holes and holes.pop()))
        proxy.set_black_hole(holes[0])
        click.echo("black hole" if holes[0] else "passing", err=True)

    signal.signal(signal.SIGUSR1, lambda *_: reactor.callFromThread(toggle))
    if isinstance(proxy, UdpProxy):
        signal.signal(signal.SIGUSR2, lambda *_: reactor.callFromThread(proxy.rebind))


def _run(proxy: UdpProxy | TcpProxy, reactor: Any, listening: Listening, seconds: float) -> None:
    """Listen, wait for the end and say what happened."""
    try:
        host, port = proxy.listen(listening.place.port, listening.place.interface)
    except CannotListenError as error:
        click.echo(f"meshrelay: {error}", err=True)
        sys.exit(1)
    kind = "udp" if listening.is_udp else "tcp"
    click.echo(f"impairing {kind} {host}:{port} -> {proxy.target[0]}:{proxy.target[1]}")
    reactor.callWhenRunning(_handle_signals, reactor, proxy)
    reactor.addSystemEventTrigger("before", "shutdown", proxy.close)
    if seconds:
        reactor.callLater(seconds, reactor.stop)
    reactor.run()
    for line in summary(proxy):
        click.echo(line)


_PERCENT = click.FloatRange(0, 100)
_NOT_NEGATIVE = click.FloatRange(min=0)


def _black_out(text: str) -> tuple[float, float]:
    begin, colon, seconds = text.partition(":")
    try:
        times = (float(begin), float(begin) + float(seconds))
    except ValueError:
        times = (0.0, -1.0)
    if not colon or not 0 <= times[0] <= times[1]:
        raise click.BadParameter(f"{text!r} must be BEGIN:SECONDS", param_hint="--black-out")
    return times


@click.command(name="impair", epilog=EPILOG)
@click.option("--listen", "listen", required=True, metavar="PLACE", help="udp:PORT[:interface=IP] or tcp:...")
@click.option("--to", "target", required=True, metavar="HOST:PORT", help="Where it goes.")
@click.option("--loss", type=_PERCENT, default=0.0, help="Per cent of packets.")
@click.option("--delay", type=_NOT_NEGATIVE, default=0.0, help="Milliseconds, one way.")
@click.option("--jitter", type=_NOT_NEGATIVE, default=0.0, help="Milliseconds more or less than the delay.")
@click.option("--duplicate", type=_PERCENT, default=0.0, help="Per cent of packets that come twice (UDP).")
@click.option("--reorder", type=_PERCENT, default=0.0, help="Per cent of packets that are held back by up to 50 ms.")
@click.option("--rate", type=_NOT_NEGATIVE, default=0.0, help="Bytes per second of the line; 0 = no limit.")
@click.option("--queue", type=click.IntRange(min=0), default=65536, help="Bytes that wait for the line (UDP).")
@click.option("--black-out", "black_outs", multiple=True, metavar="BEGIN:SECONDS", help="Nothing passes; repeatable.")
@click.option("--only", type=click.Choice(["there", "back"]), help="Impair this direction only.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same draws again.")
@click.option("--seconds", type=_NOT_NEGATIVE, default=0.0, help="End after so long; 0 = at Ctrl-C.")
def command(listen: str, target: str, only: str | None, seed: int, seconds: float, **numbers: Any) -> None:
    """Pass UDP or TCP on as a bad network would: late, twice, or not at all."""
    # The reactor of a program is chosen by the program.
    from twisted.internet import reactor  # noqa: TID251

    try:
        listening = parse_listen(listen)
        address = parse_target(target, listening.is_udp)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    how = Impairment(
        delay_seconds=numbers["delay"] / 1000,
        jitter_seconds=numbers["jitter"] / 1000,
        loss=numbers["loss"] / 100,
        duplication=numbers["duplicate"] / 100,
        reordering=numbers["reorder"] / 100,
        rate_bytes=numbers["rate"],
        queue_bytes=numbers["queue"],
        black_outs=tuple(_black_out(text) for text in numbers["black_outs"]),
    )
    there = Impairment() if only == "back" else how
    back = Impairment() if only == "there" else how
    _run(make_proxy(reactor, listening, address, there, back, seed), reactor, listening, seconds)
