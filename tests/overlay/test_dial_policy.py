"""Tests of `meshrelay.overlay.dial_policy`."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.overlay.dial_policy import MAX_URL_CHARACTERS, DialPolicy, Scope, scope_of

PUBLIC_PEER = "93.184.216.34"
JS_URL = "ws://localhost:8101"

#: Nobody has a reason to name these.
NEVER = (
    "0.0.0.0",
    "0.1.2.3",
    "169.254.0.1",
    "169.254.169.254",
    "168.63.129.16",
    "100.100.100.200",
    "192.0.0.192",
    "192.0.0.1",
    "192.88.99.1",
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "2001:db8::1",
    "3fff::1",
    "4000::1",
    "::127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0.0.0.0",
    "64:ff9b::169.254.169.254",
    "64:ff9b::127.0.0.1",
    "64:ff9b::10.0.0.1",
    "64:ff9b:1::1",
    "2002:a9fe:a9fe::1",
    "2002:7f00:1::1",
    "2002:a00:1::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
)

#: All that stands for 127.0.0.1 in one reader of URLs or another.
DISGUISES = (
    "2130706433",
    "0x7f000001",
    "0X7F000001",
    "017700000001",
    "0177.0.0.1",
    "0x7f.0.0.1",
    "0x7f.0x0.0x0.0x1",
    "127.1",
    "127.0.1",
    "127.0.0.1.",
    "127.1.",
    "127.0.0.01",
    "127.0.0.1..",
    "0",
    "0x",
    "[::ffff:127.0.0.1]",
    "[0:0:0:0:0:ffff:7f00:1]",
    "[::1]",
    "[0000::0001]",
    "[::]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "LOCALHOST",
    "localhost.",
    "localhost..",
    "a.localhost",
    "a.b.LocalHost.",
    "localhost.localdomain",
    "ip6-localhost",
    "%6c%6f%63%61lhost",
    "127%2e0.0.1",
    "\uff11\uff12\uff17.0.0.1",
    "127\u30020\u30020\u30021",
    "\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3",
    "localhost\u00ad",
    "local\thost",
    "local\nhost",
)


class ScopeTests(SynchronousTestCase):
    """How far an address reaches."""

    def test_scopes(self) -> None:
        """Addresses of each kind, with the first and last of the private ranges."""
        known = {
            Scope.LOOPBACK: ("127.0.0.1", "127.255.255.255", "::1", "[::1]", "::ffff:127.0.0.1"),
            Scope.PRIVATE: (
                *("10.0.0.0", "10.255.255.255", "172.16.0.0", "172.31.255.255", "192.168.0.0", "192.168.255.255"),
                *("100.64.0.0", "100.127.255.255", "fc00::1", "fdff::1", "::ffff:10.0.0.1"),
            ),
            Scope.PUBLIC: (
                *("9.255.255.255", "11.0.0.0", "172.15.255.255", "172.32.0.0", "192.167.255.255", "100.63.255.255"),
                *(PUBLIC_PEER, "2606:4700::1", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1"),
            ),
        }
        for scope, addresses in known.items():
            for address in addresses:
                self.assertEqual(scope_of(address), scope, address)

    def test_never(self) -> None:
        """Addresses that lead to nobody, or to a cloud's secrets, have no scope in any disguise."""
        for address in NEVER:
            self.assertIsNone(scope_of(address), address)

    def test_no_address(self) -> None:
        """What is no address has no scope."""
        for text in ("", "localhost", "1.2.3", "1.2.3.4:80", "[::1]:80", "0x7f.1", "01.2.3.4", " 1.2.3.4", "1.2.3.4\n"):
            self.assertIsNone(scope_of(text), text)

    @settings(max_examples=300, deadline=None)
    @given(st.integers(0, 2**32 - 1).map(IPv4Address) | st.integers(0, 2**128 - 1).map(IPv6Address))
    def test_any(self, address: IPv4Address | IPv6Address) -> None:
        """No address that a stricter reader calls anything but global is taken for public."""
        if scope_of(str(address)) is Scope.PUBLIC:
            self.assertTrue(address.is_global)
            self.assertFalse(address.is_multicast or address.is_loopback or address.is_link_local)

    @given(st.integers(0, 2**32 - 1).map(IPv4Address))
    def test_disguises(self, address: IPv4Address) -> None:
        """IPv4 that is written as IPv6 never reaches nearer than as IPv4 itself."""
        plain = scope_of(str(address))
        self.assertEqual(scope_of(f"::ffff:{address}"), plain)
        for text in (f"64:ff9b::{address}", str(IPv6Address((0x2002 << 112) | (int(address) << 80) | 1))):
            self.assertEqual(scope_of(text), Scope.PUBLIC if plain is Scope.PUBLIC else None)


class AllowsTests(SynchronousTestCase):
    """Which addresses are dialled."""

    def test_own_places(self) -> None:
        """A peer dials no nearer than its own places are."""
        one_of_each = ("127.0.0.1", "10.0.0.1", PUBLIC_PEER)
        for place, allowed in (
            ("127.0.0.1", (True, True, True)),
            ("[::1]", (True, True, True)),
            ("ws://localhost:7400", (True, True, True)),
            ("ws://127.0.0.1:7400/x", (True, True, True)),
            ("wss://[::1]:7400", (True, True, True)),
            ("192.168.1.9", (False, True, True)),
            ("ws://10.0.0.9", (False, True, True)),
            (PUBLIC_PEER, (False, False, True)),
            ("wss://hub.example", (False, False, True)),
            ("0.0.0.0", (False, False, True)),
            ("::", (False, False, True)),
            ("169.254.169.254", (False, False, True)),
            ("", (False, False, True)),
        ):
            policy = DialPolicy(own_places=(place,))
            self.assertEqual(tuple(map(policy.allows, one_of_each)), allowed, place)

    def test_nearest_place_decides(self) -> None:
        """With several places the one that reaches least far decides, in any order."""
        for places in (("10.0.0.1", PUBLIC_PEER), (PUBLIC_PEER, "10.0.0.1")):
            self.assertEqual(DialPolicy(own_places=places).nearest, Scope.PRIVATE)

    def test_place_that_is_known_later(self) -> None:
        """The address of a bootstrap counts when its name is looked up."""
        policy = DialPolicy(own_places=("ws://hub.lan",))
        self.assertFalse(policy.allows("10.0.0.1"))
        policy.add_own_place("10.9.9.9")
        self.assertTrue(policy.allows("10.0.0.1"))

    def test_never(self) -> None:
        """Some addresses are not dialled even by a peer that dials loopback."""
        policy = DialPolicy(own_places=("127.0.0.1",))
        for address in (*NEVER, "", "localhost"):
            self.assertFalse(policy.allows(address), address)

    def test_listed(self) -> None:
        """A listed network is dialled whatever it is, and nothing beside it."""
        policy = DialPolicy([ip_network("169.254.0.0/16"), ip_network("fe80::/10"), ip_network("10.1.0.0/16")])
        for address in ("169.254.169.254", "::ffff:169.254.169.254", "fe80::1", "10.1.255.255"):
            self.assertTrue(policy.allows(address), address)
        for address in ("10.2.0.0", "127.0.0.1", "::ffff:10.2.0.0", "fe80::1%eth0"):
            self.assertFalse(policy.allows(address), address)


class UrlTests(SynchronousTestCase):
    """What a peer says of itself."""

    def setUp(self) -> None:
        self.public = DialPolicy(own_places=("wss://hub.example",))
        self.local = DialPolicy(own_places=("127.0.0.1",))

    def test_kept(self) -> None:
        """A URL that leads where it says is kept."""
        for url in (
            "wss://hub.example/",
            "ws://hub.example:65535/a/b?c=d",
            "ws://xn--bcher-kva.example",
            "ws://my_host.example:1",
            f"ws://{PUBLIC_PEER}:8101",
            "wss://[2606:4700::1]:443/x",
        ):
            self.assertEqual(self.public.usable_url(url, None), url)
            self.assertEqual(self.public.usable_url(url, "1.1.1.1"), url)

    def test_written_plainly(self) -> None:
        """Upper case, dots at the end and long forms of addresses are written in one way."""
        for url, plain in (
            ("WSS://HUB.Example.:443/A", "wss://hub.example:443/A"),
            ("ws://[2606:4700:0:0:0:0:0:1]:080", "ws://[2606:4700::1]:80"),
            ("ws://[::FFFF:8.8.8.8]:80/", "ws://8.8.8.8:80/"),
            ("ws://hub.example:/", "ws://hub.example/"),
            ("ws://hub.example?@127.0.0.1", "ws://hub.example/?@127.0.0.1"),
        ):
            self.assertEqual(self.public.usable_url(url, None), plain)

    def test_refused(self) -> None:
        """What is no WebSocket, hides something or is too long is refused, wherever it leads."""
        for url in (
            *("", "ws://", "ws:", "ws:hub.example", "//hub.example", "hub.example:80", "ws:///x", "ws://:80"),
            *("http://hub.example", "https://hub.example", "file:///etc/passwd", "gopher://hub.example", "wsx://a"),
            *("ws://user@hub.example", "ws://user:word@hub.example", "ws://@hub.example", "ws://hub.example@evil"),
            *("ws://hub.example#x", "ws://hub.example/#", "ws://hub.example:0", "ws://hub.example:65536"),
            *("ws://hub.example:-1", "ws://hub.example:+80", "ws://hub.example:80:80", "ws://hub.example:8o"),
            *("ws://hub.example:\uff18\uff10", "ws://hub.example\\@evil", "ws:\\\\hub.example", " ws://hub.example"),
            *("ws://hub.example\n", "ws://hub.example/\r\nX: y", "ws://hub.example/\x00", "ws://hub .example"),
            *("ws://[::1", "ws://::1", "ws://[hub.example]", "ws://[1.2.3.4]", "ws://[fe80::1%25eth0]"),
            *("ws://-a.example", "ws://a-.example", "ws://a..example", "ws://.a", "ws://" + "a" * 64),
            *("ws://*.example", "ws://a,b", "ws://$(x)", "ws://" + ".".join(["a" * 60] * 5)),
        ):
            self.assertIsNone(self.local.usable_url(url, None), url)
            self.assertIsNone(self.public.usable_url(url, PUBLIC_PEER), url)

    def test_length(self) -> None:
        """A URL may have 2,048 characters."""
        url = "ws://hub.example/".ljust(MAX_URL_CHARACTERS, "x")
        self.assertEqual(self.public.usable_url(url, None), url)
        self.assertIsNone(self.public.usable_url(url + "x", None))

    def test_localhost_elsewhere(self) -> None:
        """The localhost of a peer on another machine is that machine."""
        for policy in (self.public, self.local):
            for url in (JS_URL, "ws://127.0.0.1:8101", "ws://[::1]:8101", "ws://LOCALHOST.:8101"):
                self.assertEqual(policy.usable_url(url, PUBLIC_PEER), f"ws://{PUBLIC_PEER}:8101")
            self.assertEqual(policy.usable_url(JS_URL, "2606:4700::1"), "ws://[2606:4700::1]:8101")
            self.assertEqual(policy.usable_url(JS_URL, f"::ffff:{PUBLIC_PEER}"), f"ws://{PUBLIC_PEER}:8101")

    def test_localhost_here(self) -> None:
        """On one machine localhost is what it says, if this peer has a place there itself."""
        for known in (None, "127.0.0.1", "::1", "", "not an address"):
            self.assertEqual(self.local.usable_url(JS_URL, known), JS_URL)
            self.assertIsNone(self.public.usable_url(JS_URL, known))

    def test_known_address_is_not_dialled(self) -> None:
        """The address that takes the place of localhost must be one that is dialled."""
        self.assertIsNone(self.public.usable_url(JS_URL, "10.0.0.1"))
        self.assertIsNone(self.local.usable_url(JS_URL, "169.254.169.254"))
        self.assertEqual(self.local.usable_url(JS_URL, "10.0.0.1"), "ws://10.0.0.1:8101")

    def test_listed_loopback(self) -> None:
        """Loopback that is listed is dialled though no place of our own is there."""
        policy = DialPolicy([ip_network("127.0.0.0/8")])
        self.assertEqual(policy.usable_url(JS_URL, None), JS_URL)

    def test_disguises(self) -> None:
        """No way of writing loopback gets past a peer that does not dial loopback."""
        for host in DISGUISES:
            for url in (f"ws://{host}:8101/", f"ws://{host}", f"wss://{host}/x?y"):
                self.assertIsNone(self.public.usable_url(url, None), url)
                self.assertIsNone(self.public.usable_url(url, "127.0.0.1"), url)

    def test_never(self) -> None:
        """Addresses that are never dialled are refused before anybody looks anything up."""
        for address in NEVER:
            host = f"[{address}]" if ":" in address else address
            for known in (None, "127.0.0.1"):
                self.assertIsNone(self.local.usable_url(f"ws://{host}:80", known), host)

    @settings(max_examples=500, deadline=None)
    @given(
        st.text(st.sampled_from("ws:/@[]?#%\\.0123456789abcdefx-_ \t\uff11\u24db"), max_size=40).map("ws://".__add__)
        | st.text(),
        st.sampled_from([None, "127.0.0.1", PUBLIC_PEER, "::1", "x"]),
    )
    def test_any_text(self, url: str, known: str | None) -> None:
        """Any text gives None or a URL that is understood in the same way once more, and leads nowhere near."""
        usable = self.public.usable_url(url, known)
        if usable is None:
            return
        self.assertEqual(self.public.usable_url(usable, None), usable)
        host = usable.split("/")[2].rsplit("]", 1)[0].removeprefix("[")
        host = host if host.count(":") > 1 else host.split(":")[0]
        try:
            address = ip_address(host)
        except ValueError:
            self.assertFalse(host.rsplit(".", 1)[-1].isdigit(), usable)
        else:
            self.assertTrue(self.public.allows(str(address)))
