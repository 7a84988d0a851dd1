"""The section [webhooks], as `meshrelay.config.schema` has the others."""

from __future__ import annotations

from typing import Annotated

import msgspec

from meshrelay.config.describing import describe as _key

__all__ = ["WebhooksConfig"]

#: A group ID whose characters are all written as ``[x]``.
_MAX_PATTERN = 3 * 52

HookUrl = Annotated[
    str,
    _key(
        "an URL", pattern=r"https?://[^\s/@?#]+(/[^\s#]*)?", form="http://host[:port]/path or https://host[:port]/path"
    ),
]
GroupPattern = Annotated[
    str,
    _key("a pattern", pattern=rf"[\x21-\x7e]{{1,{_MAX_PATTERN}}}", form="an ID in which * and ? stand for others"),
]


class WebhooksConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is told to HTTP servers of yours, after it has happened on this node. Needs the extra webhooks."""

    connect: Annotated[tuple[HookUrl, ...], _key("URLs that are told of sign-ins", empty="none")] = ()
    disconnect: Annotated[tuple[HookUrl, ...], _key("URLs that are told when a session is over", empty="none")] = ()
    join: Annotated[tuple[HookUrl, ...], _key("URLs that are told who joins a group", empty="none")] = ()
    message: Annotated[tuple[HookUrl, ...], _key("URLs that are told what is said in groups", empty="none")] = ()
    groups: Annotated[
        tuple[GroupPattern, ...],
        _key("groups whose joins and messages are told: IDs, with * and ? as in file names", empty="none"),
    ] = ("*",)
    secret_file: Annotated[
        str, _key("file with the secret that POSTs are signed with", empty="not signed", file=True)
    ] = ""
    timeout_seconds: Annotated[float, _key("longest time that a POST may take", ge=0.01, le=300)] = 5.0
    max_concurrent: Annotated[
        int, _key("POSTs to one URL at the same time; more than 1 may change their order", ge=1, le=100)
    ] = 1
    tries: Annotated[int, _key("times that a batch of events is sent before it is given up", ge=1, le=20)] = 3
    max_queue_events: Annotated[
        int, _key("events that may wait for one URL; beyond, the oldest are dropped", ge=1, le=10_000_000)
    ] = 10_000
    max_queue_bytes: Annotated[
        int, _key("bytes of events that may wait for one URL; beyond, the oldest are dropped", ge=65_536, le=1 << 32)
    ] = 16_777_216
    breaker_failures: Annotated[
        int, _key("failures in a row after which an URL is left in peace", ge=1, le=1_000_000)
    ] = 5
    breaker_seconds: Annotated[float, _key("for how long", ge=0.01, le=86400)] = 30.0
