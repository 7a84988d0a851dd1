"""How ``schema`` describes a key: words and bounds -> the metadata of its type, which ``keys`` reads."""

from __future__ import annotations

import msgspec

__all__ = ["describe", "describe_made_file"]


def describe(
    description: str,
    *,
    ge: float | None = None,
    le: float | None = None,
    pattern: str | None = None,
    form: str = "",
    empty: str = "",
    reload: bool = False,
    file: bool = False,
) -> msgspec.Meta:
    """Describe one key.

    :param description: what it is, with its unit; starts in lower case, ends without a full stop.
    :param ge: least value allowed.
    :param le: greatest value allowed.
    :param pattern: regular expression that a text must match as a whole.
    :param form: the pattern in words: completes "must be ...".
    :param empty: what 0 or "" or [] means.
    :param reload: True: SIGHUP applies a new value; False: a restart is needed.
    :param file: True: the path of a file that must be readable, "" for none.
    """
    extra = {"form": form, "empty": empty, "reload": reload, "file": file}
    if pattern is None:
        return msgspec.Meta(description=description, ge=ge, le=le, extra=extra)
    return msgspec.Meta(description=description, pattern=rf"\A(?:{pattern})\Z", extra=extra)


def describe_made_file(description: str, empty: str) -> msgspec.Meta:
    """Describe the path of a file that the node makes if there is none; see `describe`."""
    described = describe(description, empty=empty, file=True)
    return msgspec.Meta(description=description, extra={**(described.extra or {}), "made": True})
