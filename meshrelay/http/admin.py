"""May this request see the inside of the cluster: callers on this machine may, others show the operator's key.

A proxy on the same machine makes everybody look as if they were here. So a request that a proxy has marked, or that was
sent to another name than this machine's own (which also keeps web pages out that have their name lead here), needs the
key as well. Where the address of the caller is hearsay (``haproxy:``) or is none (Unix sockets) the key alone counts.

The key is compared in a time that says nothing about it, and who guesses has to wait, see `meshrelay.http.admin_keys`.
"""

from __future__ import annotations

from hmac import compare_digest
from http import HTTPStatus
from math import ceil

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.web import http
from twisted.web.server import Request

from meshrelay.config.listening import is_loopback
from meshrelay.http.admin_keys import WrongKeys
from meshrelay.http.headers import bearer_token, host_header
from meshrelay.http.page import Answer, error_answer

__all__ = ["AdminAccess"]

#: Written by proxies that pass a request on.
_PROXY_HEADERS = ("Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP")


class AdminAccess:
    """Who may ask what only operators should know.

    :param key: what ``Authorization: Bearer`` must hold; empty = none, only callers on this machine are let in.
    :param trusts_addresses: False: what the port says about its callers is hearsay.
    :param wrong_keys: who guessed; None = nobody counts.
    """

    def __init__(self, key: bytes = b"", trusts_addresses: bool = True, wrong_keys: WrongKeys | None = None) -> None:
        self._key = key
        self._trusts_addresses = trusts_addresses
        self._wrong_keys = wrong_keys

    def refusal(self, request: Request) -> Answer | None:
        """The answer for a caller who may not: 401, 429 or, where no key could help, 403. None: it may."""
        if self._trusts_addresses and _is_from_here(request):
            return None
        if not self._key:
            return error_answer(http.FORBIDDEN, "only callers on this machine may ask; http.admin_key_file lets others")
        token = bearer_token(request)
        if token is not None:
            host = str(getattr(request.getClientAddress(), "host", ""))
            wait = self._wrong_keys.wait_seconds(host) if self._wrong_keys is not None else 0.0
            if wait:
                headers = (("Retry-After", str(ceil(wait))),)
                return error_answer(HTTPStatus.TOO_MANY_REQUESTS, "too many wrong keys came from here", headers)
            if compare_digest(token.encode("utf-8"), self._key):
                return None
            if self._wrong_keys is not None:
                self._wrong_keys.was_wrong(host)
        return error_answer(http.UNAUTHORIZED, "the admin key is needed", (("WWW-Authenticate", "Bearer"),))


def _is_from_here(request: Request) -> bool:
    caller = request.getClientAddress()
    if not isinstance(caller, (IPv4Address, IPv6Address)) or not is_loopback(caller.host):
        return False
    headers = request.requestHeaders
    return is_loopback(host_header(request)) and not any(headers.hasHeader(name) for name in _PROXY_HEADERS)
