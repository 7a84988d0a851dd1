"""Who sees what only operators should."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from meshrelay.http.admin import AdminAccess

HERE = IPv4Address("TCP", "127.0.0.1", 50000)
ELSEWHERE = IPv4Address("TCP", "192.0.2.7", 50000)
KEY = b"a-long-admin-key"


class _Request:
    def __init__(self, client: IAddress, headers: dict[str, str]) -> None:
        self.client = client
        self.requestHeaders = Headers({name: [value] for name, value in headers.items()})

    def getClientAddress(self) -> IAddress:
        """As the request of Twisted."""
        return self.client


def _status(access: AdminAccess, client: IAddress, host: str = "localhost:7000", **headers: str) -> int:
    """The status of the refusal; 200 = none."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request: Any = _Request(client, {"Host": host, **named})
    refusal = access.refusal(request)
    return refusal.status if refusal is not None else 200


class AdminAccessTests(SynchronousTestCase):
    """Being let in."""

    def test_here(self) -> None:
        """Callers on this machine need no key, whatever they call it."""
        for address in (HERE, IPv6Address("TCP", "::1", 1), IPv6Address("TCP", "::ffff:127.0.0.1", 1)):
            for host in ("localhost:7000", "127.0.0.1:7000", "[::1]:7000", "127.0.0.1"):
                self.assertEqual((address, host, _status(AdminAccess(), address, host)), (address, host, 200))

    def test_elsewhere(self) -> None:
        """Others are refused for good where there is no key, and asked for it where there is one."""
        self.assertEqual(_status(AdminAccess(), ELSEWHERE), 403)
        self.assertEqual(_status(AdminAccess(), ELSEWHERE, Authorization="Bearer "), 403)
        self.assertEqual(_status(AdminAccess(KEY), ELSEWHERE), 401)

    def test_key(self) -> None:
        """The key opens from anywhere; no other one does, nor a part of it."""
        access = AdminAccess(KEY)
        for client in (ELSEWHERE, UNIXAddress("/run/meshrelay")):
            self.assertEqual(_status(access, client, Authorization="Bearer a-long-admin-key"), 200)
        for value in ("Bearer a-long-admin-ke", "Bearer a-long-admin-keyy", "Basic a-long-admin-key", "Bearer \u00fc"):
            self.assertEqual((value, _status(access, ELSEWHERE, Authorization=value)), (value, 401))

    def test_asks_for_a_key(self) -> None:
        """Who has no key is told which kind is wanted."""
        request: Any = _Request(ELSEWHERE, {})
        refusal = AdminAccess(KEY).refusal(request)
        assert refusal is not None
        self.assertEqual(refusal.headers, (("WWW-Authenticate", "Bearer"),))

    def test_proxy(self) -> None:
        """What a proxy on this machine passes on does not come from here."""
        for name in ("X_Forwarded_For", "Forwarded", "Via", "X_Real_IP", "X_Forwarded_Host"):
            self.assertEqual((name, _status(AdminAccess(), HERE, **{name: "192.0.2.7"})), (name, 403))

    def test_other_name(self) -> None:
        """A web page whose name was made to lead to this machine gets nothing."""
        for host in ("evil.example", "evil.example:7000", "192.0.2.1", ""):
            self.assertEqual((host, _status(AdminAccess(), HERE, host)), (host, 403))

    def test_hearsay(self) -> None:
        """Where the address of a caller is hearsay, or there is none, only the key counts."""
        self.assertEqual(_status(AdminAccess(KEY, trusts_addresses=False), HERE), 401)
        self.assertEqual(_status(AdminAccess(), UNIXAddress("/run/meshrelay")), 403)
