"""What headers say."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.interfaces import IAddress
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from meshrelay.http.headers import asked_host, bearer_token, host_header, is_of_another_site, single_header


class _Request:
    def __init__(self, address: IAddress | None = None, **headers: list[bytes]) -> None:
        named = {name.replace("_", "-").encode("ascii"): values for name, values in headers.items()}
        self.requestHeaders = Headers(named)
        self._address = address

    def getHost(self) -> IAddress | None:
        """As the request of Twisted."""
        return self._address


def _request(address: IAddress | None = None, **headers: list[bytes]) -> Any:
    return _Request(address, **headers)


class HeaderTests(SynchronousTestCase):
    """One header."""

    def test_single(self) -> None:
        """A header that stands once is text; one that is missing, doubled or no text is none."""
        cases: list[tuple[list[bytes], str | None]] = [
            ([], None),
            ([b" a "], "a"),
            ([b"a", b"a"], None),
            ([b"\xff"], None),
            ([b""], ""),
        ]
        for values, expected in cases:
            self.assertEqual((values, single_header(_request(Origin=values), "Origin")), (values, expected))

    def test_bearer(self) -> None:
        """A token stands behind the word Bearer, in any case; nothing else is one."""
        for value, expected in (
            (b"Bearer abc", "abc"),
            (b"bEARER  abc ", "abc"),
            (b"Bearer", None),
            (b"Bearer ", None),
            (b"Basic abc", None),
            (b"abc", None),
        ):
            self.assertEqual((value, bearer_token(_request(Authorization=[value]))), (value, expected))
        self.assertIsNone(bearer_token(_request()))

    def test_host(self) -> None:
        """A host is told without port and brackets."""
        for value, expected in (
            (b"relay.example:443", "relay.example"),
            (b"[2001:db8::1]:7000", "2001:db8::1"),
            (b"a b", ""),
            (b"x" * 300, ""),
        ):
            self.assertEqual((value, host_header(_request(Host=[value]))), (value, expected))

    def test_asked_host(self) -> None:
        """The address of the port counts, then the name that was used, then localhost."""
        port, unix = IPv4Address("TCP", "192.0.2.1", 7000), UNIXAddress("/run/meshrelay")
        self.assertEqual(asked_host(_request(port, Host=[b"evil.example"])), "192.0.2.1")
        self.assertEqual(asked_host(_request(unix, Host=[b"relay.example"])), "relay.example")
        self.assertEqual(asked_host(_request(unix)), "localhost")


class SiteTests(SynchronousTestCase):
    """Pages of other sites."""

    def test_own(self) -> None:
        """A program that says nothing, and a page of this host in either scheme, are of no other site."""
        own: list[dict[str, list[bytes]]] = [
            {},
            {"Sec_Fetch_Site": [b"none"]},
            {"Sec_Fetch_Site": [b"same-origin"], "Origin": [b"http://Relay:7000"]},
            {"Origin": [b"https://relay:7000"]},
        ]
        for headers in own:
            self.assertFalse(is_of_another_site(_request(None, Host=[b"relay:7000"], **headers)), headers)

    def test_other(self) -> None:
        """One word against it is enough; an Origin that is doubled, no text or null is nobody's own."""
        other: list[dict[str, list[bytes]]] = [
            {"Sec_Fetch_Site": [b"cross-site"]},
            {"Sec_Fetch_Site": [b"same-site"], "Origin": [b"http://relay:7000"]},
            {"Sec_Fetch_Site": [b"same-origin"], "Origin": [b"http://relay:7001"]},
            {"Origin": [b"null"]},
            {"Origin": [b"\xff"]},
            {"Origin": [b"http://relay:7000", b"http://relay:7000"]},
        ]
        for headers in other:
            self.assertTrue(is_of_another_site(_request(None, Host=[b"relay:7000"], **headers)), headers)
