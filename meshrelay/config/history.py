"""What can be configured of the history of groups: one table for each pattern of group IDs."""

from __future__ import annotations

from typing import Annotated

import msgspec

from meshrelay.config.describing import describe as _key

__all__ = ["GroupHistory"]


class GroupHistory(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Groups that keep their messages for members who come back."""

    pattern: Annotated[
        str,
        _key(
            "group IDs: * is anything, ? one character, [ab] one of these; the first table that fits counts",
            pattern=r"[\x21-\x7e]{1,200}",
            form="a pattern of group IDs: 1 to 200 ASCII characters without spaces",
        ),
    ]
    history_size: Annotated[int, _key("messages that a group keeps", ge=1, le=100_000)] = 100
    history_ttl_seconds: Annotated[float, _key("time for which a message is kept", ge=1, le=31_536_000)] = 300.0
