"""The headers of a request -> what pages want to know: who asks, with which key, and on which host.

What stands in a header is the client's word; a header that is doubled or no text is treated as missing.
"""

from __future__ import annotations

import re

from twisted.web.server import Request

__all__ = ["asked_host", "bearer_token", "host_header", "is_of_another_site", "single_header"]

_HOST_HEADER = re.compile(r"\[?(?P<host>[^\s/@\[\]]{1,253}?)\]?(:\d{1,5})?")


def single_header(request: Request, name: str) -> str | None:
    """The value of a header that may stand once; None when it is missing, doubled, or no text."""
    values = request.requestHeaders.getRawHeaders(name.encode("ascii"), [])
    if len(values) != 1:
        return None
    try:
        return values[0].decode("utf-8").strip()
    except UnicodeDecodeError:
        return None


def bearer_token(request: Request) -> str | None:
    """The token of ``Authorization: Bearer`` (RFC 6750); the word may be written in any case."""
    scheme, _, token = (single_header(request, "Authorization") or "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def host_header(request: Request) -> str:
    """What the client calls us, without the port and the brackets of IPv6; "" when it does not say."""
    match = _HOST_HEADER.fullmatch(single_header(request, "Host") or "")
    return match["host"] if match is not None else ""


def asked_host(request: Request) -> str:
    """The address on which the client reached us."""
    host: str = getattr(request.getHost(), "host", "")
    # A Unix socket has no address that a client could use; what it calls us it has reached.
    return host or host_header(request) or "localhost"


def is_of_another_site(request: Request) -> bool:
    """Whether a web page of another site sends this, as browsers say (``Origin``, Fetch Metadata ``Sec-Fetch-Site``).

    Programs that are no browsers say neither, and are of no site.
    """
    site = single_header(request, "Sec-Fetch-Site") or "none"
    origin = single_header(request, "Origin")
    own = (single_header(request, "Host") or "").lower()
    # One that is doubled, or no text, is nobody's.
    has_origin = request.requestHeaders.hasHeader("Origin")
    is_own = not has_origin or (origin is not None and origin.lower() in (f"http://{own}", f"https://{own}"))
    return site not in ("same-origin", "none") or not is_own
