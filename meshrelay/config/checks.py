"""Rules between keys: a `schema.Config` whose values are right one by one -> what is wrong with them together.

Pure: what needs the disk is in ``files``. A rule names the keys it reads, and is left out when one of them has a
problem already, so that nobody reads the same mistake twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from meshrelay.config.cluster_checks import CLUSTER_RULES
from meshrelay.config.listening import parse_stream_place, parse_udp_place
from meshrelay.config.schema import Config, GroupConfig
from meshrelay.errors import ConfigProblem

__all__ = ["STREAM_KEYS", "UDP_KEYS", "check_config", "check_static_groups", "value_of"]

#: Keys that hold the string of a listening place for streams.
STREAM_KEYS = ("listen.tcp", "listen.websocket", "listen.http", "mesh.listen", "relay.listen", "overlay.listen")

#: Keys that hold the string of a listening place for datagrams.
UDP_KEYS = ("listen.udp", "relay.quic")


#: What keeps messages of groups carries them in pieces of this size.
_LARGEST_KEPT = 256 * 1024


@dataclass(frozen=True, slots=True)
class _Rule:
    #: The keys that it reads.
    keys: tuple[str, ...]
    #: Yields what is wrong.
    check: Callable[[Config], Iterator[ConfigProblem]]


def value_of(config: Config, path: str) -> object:
    """Return the value of the key with this dotted path."""
    section, name = path.split(".")
    value: object = getattr(getattr(config, section), name)
    return value


def check_config(config: Config, wrong: frozenset[str]) -> list[ConfigProblem]:
    """Check what keys say together.

    :param wrong: paths of the keys that have a problem already; rules that read one are left out.
    """
    problems: list[ConfigProblem] = []
    rules = [
        *(_Rule((path,), _place_rule(path)) for path in (*STREAM_KEYS, *UDP_KEYS)),
        _Rule(("auth.mode", "auth.insecure"), lambda config: _check_open_to_the_world(config, wrong)),
        _Rule(("auth.mode", "auth.algorithms", "auth.secret_file", "auth.public_key_file"), _check_token_keys),
    ]
    rules.extend(_Rule(keys, check) for keys, check in CLUSTER_RULES)
    rules.append(_Rule(("relay.listen", "relay.quic"), _check_relay))
    rules.append(_Rule(("overlay.listen", "overlay.public_url"), _check_overlay_url))
    rules.append(_Rule(("overlay.dial_networks",), _check_overlay_networks))
    rules.append(_Rule(("overlay.webrtc_addresses",), _check_overlay_addresses))
    rules.append(_Rule(("group.static_groups",), lambda config: check_static_groups(config.group)))
    rules.append(_Rule(("group.history", "session.max_payload_bytes"), _check_history))
    for rule in rules:
        if wrong.isdisjoint(rule.keys):
            problems.extend(rule.check(config))
    return problems


def _place_rule(path: str) -> Callable[[Config], Iterator[ConfigProblem]]:
    parse: Callable[[str], object] = parse_udp_place if path in UDP_KEYS else parse_stream_place

    def check(config: Config) -> Iterator[ConfigProblem]:
        text = str(value_of(config, path))
        try:
            if text:
                parse(text)
        except ValueError as error:
            yield ConfigProblem(path, str(error))

    return check


def _check_open_to_the_world(config: Config, wrong: frozenset[str]) -> Iterator[ConfigProblem]:
    """Mode "open" lets anybody be anybody: only this machine may reach it, unless the operator insists."""
    if config.auth.mode != "open" or config.auth.insecure:
        return
    for name in ("tcp", "udp", "websocket", "http"):
        text: str = getattr(config.listen, name)
        try:
            place = parse_udp_place(text) if name == "udp" else parse_stream_place(text)
        except ValueError:
            # Off, or told by the rule of the key itself.
            continue
        if not place.is_loopback and f"listen.{name}" not in wrong:
            yield ConfigProblem(
                f"listen.{name}",
                f'{text} can be reached from other machines while auth.mode is "open" (anybody may be anybody); '
                'set auth.mode = "token", or auth.insecure = true if that is meant',
            )


def _check_token_keys(config: Config) -> Iterator[ConfigProblem]:
    """Which file the algorithms need.

    An HMAC and a public-key algorithm side by side would let the public key, which is no secret, be used as the
    secret of an HMAC.
    """
    auth = config.auth
    if auth.mode != "token":
        return
    if not auth.algorithms:
        yield ConfigProblem("auth.algorithms", 'names no algorithm, but auth.mode is "token"')
        return
    symmetric = [name for name in auth.algorithms if name.startswith("HS")]
    others = [name for name in auth.algorithms if not name.startswith("HS")]
    if symmetric and others:
        yield ConfigProblem(
            "auth.algorithms", f"{symmetric[0]} and {others[0]} cannot be mixed: one needs a secret, one a public key"
        )
    elif symmetric and not auth.secret_file:
        hint = '; for the public_key_file set algorithms, for example ["RS256"]' if auth.public_key_file else ""
        yield ConfigProblem("auth.secret_file", f"is needed by {symmetric[0]}{hint}")
    elif others and not auth.public_key_file:
        yield ConfigProblem("auth.public_key_file", f"is needed by {others[0]}")


def _check_relay(config: Config) -> Iterator[ConfigProblem]:
    """A relay without a secret lets everybody in, and QUIC is always encrypted."""
    relay = config.relay
    for name, parse in (("listen", parse_stream_place), ("quic", parse_udp_place)):
        text: str = getattr(relay, name)
        try:
            is_reachable = bool(text) and not parse(text).is_loopback
        except ValueError:
            # Told by the rule of the key itself.
            continue
        if is_reachable and not relay.secret_file:
            problem = f"{text} can be reached from other machines, and without relay.secret_file it lets everybody in"
            yield ConfigProblem(f"relay.{name}", problem)
    if relay.quic:
        for name in ("certificate_file", "key_file"):
            if not getattr(relay, name):
                yield ConfigProblem(f"relay.{name}", "is needed by relay.quic")


def _check_overlay_url(config: Config) -> Iterator[ConfigProblem]:
    """An URL that leads nowhere would be dialled by every peer."""
    if config.overlay.public_url and not config.overlay.listen:
        yield ConfigProblem("overlay.public_url", "is of no use without overlay.listen")


def _check_overlay_networks(config: Config) -> Iterator[ConfigProblem]:
    for index, text in enumerate(config.overlay.dial_networks):
        try:
            ip_network(text)
        except ValueError as error:
            yield ConfigProblem(f"overlay.dial_networks[{index}]", f"is no network: {error}")


def _check_overlay_addresses(config: Config) -> Iterator[ConfigProblem]:
    for index, text in enumerate(config.overlay.webrtc_addresses):
        try:
            ip_address(text)
        except ValueError as error:
            yield ConfigProblem(f"overlay.webrtc_addresses[{index}]", f"is no address: {error}")


def _check_history(config: Config) -> Iterator[ConfigProblem]:
    if config.group.history and config.session.max_payload_bytes > _LARGEST_KEPT:
        problem = f"can keep messages of at most {_LARGEST_KEPT} bytes: lower session.max_payload_bytes"
        yield ConfigProblem("group.history", problem)


def check_static_groups(config: GroupConfig) -> Iterator[ConfigProblem]:
    """Yield a problem for each static group whose ID an earlier one has."""
    seen: dict[str, int] = {}
    for index, group in enumerate(config.static_groups):
        if group.group_id in seen:
            yield ConfigProblem(
                f"group.static_groups[{index}].group_id", f"is the ID of number {seen[group.group_id]} as well"
            )
        seen.setdefault(group.group_id, index)
