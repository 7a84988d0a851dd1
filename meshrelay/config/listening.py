"""The strings of listening places -> what they bind: ``tcp:7200:interface=127.0.0.1`` is port 7200 of loopback.

Streams are Twisted's server endpoint strings; Twisted has none for datagrams, so ``udp:port:interface=`` is ours in
the same look. Nothing is opened or read here: ``files`` lets Twisted itself look at the stream strings.

Grammar: Twisted 26.10, `twisted.internet.endpoints.serverFromString` (a backslash quotes the next character).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address

__all__ = ["LISTEN_FORMS", "UDP_FORM", "StreamPlace", "UdpPlace", "parse_stream_place", "parse_udp_place"]

#: What a stream may be listened for on, for people.
LISTEN_FORMS = "tcp:, tls:, ssl:, unix:, systemd: or haproxy: in front of one of these"

#: What a datagram port looks like, for people.
UDP_FORM = "udp:port:interface=address"

#: Endpoints that take a port: position of the port among the arguments, its default, and the default interface.
_PORTS: Mapping[str, tuple[int, str, str]] = {
    "tcp": (0, "", ""),
    "tcp6": (0, "", "::"),
    "ssl": (0, "", ""),
    "tls": (1, "443", "::"),
}


@dataclass(frozen=True, slots=True)
class StreamPlace:
    """Where a stream endpoint listens, as far as its string says."""

    #: "tcp", "unix", ...; of the innermost endpoint behind ``haproxy:``.
    kind: str
    #: IP address or host name; "" = all addresses, or the kind has none.
    interface: str
    #: Of ``tls:``, where its PEM files are; "" otherwise.
    certificate_directory: str = ""

    @property
    def is_loopback(self) -> bool:
        """True: only this machine can connect. Where the string does not say, False."""
        if self.kind == "unix":
            return True
        return self.kind in _PORTS and is_loopback(self.interface)


@dataclass(frozen=True, slots=True)
class UdpPlace:
    """Where datagrams are received."""

    #: 0 to 65535; 0 = any free one.
    port: int
    #: IP address; "" = all IPv4 addresses.
    interface: str

    @property
    def is_loopback(self) -> bool:
        """True: only this machine can send."""
        return is_loopback(self.interface)


def is_loopback(interface: str) -> bool:
    """Tell whether only this machine reaches `interface`, an IP address or a host name."""
    if interface == "localhost":
        return True
    try:
        address = ip_address(interface)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return address.is_loopback or (mapped is not None and bool(mapped.is_loopback))


def is_all_addresses(host: str) -> bool:
    """Tell whether `host` stands for every address of a machine, and so is no address for anybody else."""
    return host in ("", "0.0.0.0", "::")


def parse_stream_place(text: str) -> StreamPlace:
    """Read a stream endpoint string; endpoints of plug-ins are let through by name.

    :raises ValueError: it cannot be one; the text completes "listen.tcp: ".
    """
    positional, named = _split(text)
    kind = positional.pop(0).lower()
    if kind == "haproxy":
        if not positional:
            raise ValueError("haproxy: must be followed by the endpoint behind it: haproxy:tcp:7200")
        kind = positional.pop(0).lower()
    if kind == "udp":
        raise ValueError(f"is a datagram port; here a stream is needed: {LISTEN_FORMS}")
    if not positional and not named:
        raise ValueError(
            f"{text!r} is not an endpoint string: {LISTEN_FORMS}, for example tcp:7200:interface=127.0.0.1"
        )
    if kind not in _PORTS:
        return StreamPlace(kind, "")
    position, default_port, default_interface = _PORTS[kind]
    port = named.get("port") or (positional[position] if len(positional) > position else default_port)
    _check_port(port)
    # tcp:7200:127.0.0.1 is legal: the interface is the argument after the port (and after tls:'s backlog).
    place = position + (1 if kind == "tcp" else 2)
    by_position = positional[place] if kind != "ssl" and len(positional) > place else default_interface
    directory = ""
    if kind == "tls":
        directory = named.get("path") or (positional[0] if positional else "")
        if not directory:
            raise ValueError("tls: must be followed by the directory of its PEM files: tls:/etc/meshrelay/pem:443")
    return StreamPlace(kind, named.get("interface", by_position), directory)


def parse_udp_place(text: str) -> UdpPlace:
    """Read ``udp:port`` or ``udp:port:interface=address``; a ``:`` of an IPv6 address is written ``\\:``.

    :raises ValueError: it is none; the text completes "listen.udp: ".
    """
    positional, named = _split(text)
    interface = named.pop("interface", "")
    port = named.pop("port", "") or (positional[1] if len(positional) == 2 else "")
    if positional[0].lower() != "udp" or len(positional) > 2 or named:
        raise ValueError(f"{text!r} must be {UDP_FORM}")
    _check_port(port)
    if interface and interface != "localhost":
        try:
            ip_address(interface)
        except ValueError:
            raise ValueError(f"interface {interface!r} is not an IP address (quote : as \\:)") from None
    return UdpPlace(int(port), "127.0.0.1" if interface == "localhost" else interface)


def _check_port(port: str) -> None:
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65_535):
        raise ValueError(f"port must be a number from 0 to 65535, is {port!r}")


def _split(text: str) -> tuple[list[str], dict[str, str]]:
    """Cut an endpoint string at its colons: ``a:b:c=d`` is ``(["a", "b"], {"c": "d"})``."""
    positional: list[str] = []
    named: dict[str, str] = {}
    name, current = "", ""
    characters = iter(text)
    for character in characters:
        if character == "\\":
            quoted = next(characters, None)
            if quoted is None:
                raise ValueError(f"{text!r} ends with a lone backslash")
            current += quoted
        elif character == "=" and not name:
            name, current = current, ""
        elif character == ":":
            _add(positional, named, name, current)
            name, current = "", ""
        else:
            current += character
    _add(positional, named, name, current)
    if not positional:
        raise ValueError(f"{text!r} does not start with the kind of endpoint: {LISTEN_FORMS}")
    return positional, named


def _add(positional: list[str], named: dict[str, str], name: str, value: str) -> None:
    if name:
        named[name] = value
    else:
        positional.append(value)
