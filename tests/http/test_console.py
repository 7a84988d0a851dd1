"""The pages of the console, as a browser gets them."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IAddress

from meshrelay.http.admin import AdminAccess
from meshrelay.http.console import TYPES
from meshrelay.model import CloseReason
from meshrelay.session.auth import OpenAuthenticator
from tests.http.console_kit import ConsoleTestCase
from tests.http.exchange import CLIENT, Response, SiteUnderTest

STATIC = Path(__file__).resolve().parents[2] / "meshrelay" / "http" / "static" / "console"

HERE = IPv4Address("TCP", "127.0.0.1", 50000)
KEY = b"a-long-admin-key"

#: Texts on grounds, and what must be told apart from its ground, with the ratios of WCAG 2.2, 1.4.3 and 1.4.11.
PAIRS = (
    *(("text", ground, 4.5) for ground in ("ground", "panel")),
    *(("quiet", ground, 4.5) for ground in ("ground", "panel")),
    *((name, "panel", 4.5) for name in ("accent", "good", "warn", "bad")),
    ("accent", "ground", 4.5),
    ("on-accent", "accent", 4.5),
    *((name, "panel", 3.0) for name in ("edge", "series-a", "series-b")),
)


class PageTests(ConsoleTestCase):
    """A site with a console."""

    def setUp(self) -> None:
        """Make the site."""
        super().setUp()
        self.site = SiteUnderTest(OpenAuthenticator(), clock=self.clock, console=self.console, admin=AdminAccess(KEY))

    def ask(self, path: str, *headers: str, method: str = "GET", client: IAddress = HERE) -> Response:
        """Return the answer to a request to localhost."""
        return self.site.ask(path, *headers, method=method, client=client, name="localhost:7000")

    def test_files(self) -> None:
        """Every file of the package is served with its type, to everybody, and nothing else is."""
        for file in STATIC.iterdir():
            path = "/" if file.name == "index.html" else f"/console/{file.name}"
            response = self.ask(path, client=CLIENT)
            self.assertEqual((response.status, response.body), (200, file.read_bytes()), path)
            self.assertEqual(response.headers["Content-Type"], TYPES[file.suffix[1:]], path)
        for path in ("/console", "/console/", "/console/index.html", "/console/../console.py", "/console/main.js/x"):
            self.assertEqual(self.ask(path).status, 404, path)

    def test_rules(self) -> None:
        """Nothing of the pages can be inline, from elsewhere, framed, or read by another site."""
        for path in ("/", "/console/main.js"):
            headers = self.ask(path, "Origin: https://evil.example").headers
            policy = dict(rule.partition(" ")[::2] for rule in headers["Content-Security-Policy"].split("; "))
            self.assertEqual(
                (policy["default-src"], policy["script-src"], policy["style-src"]), ("'none'", "'self'", "'self'")
            )
            self.assertEqual(policy["connect-src"], "'self' ws://localhost:7300")
            self.assertEqual((policy["frame-ancestors"], headers["X-Frame-Options"]), ("'none'", "DENY"))
            self.assertEqual(headers["X-Content-Type-Options"], "nosniff")
            self.assertNotIn("Access-Control-Allow-Origin", headers)
            self.assertEqual(headers["Cross-Origin-Resource-Policy"], "same-origin")

    def test_name_in_the_rules(self) -> None:
        """What a client calls the node does not become a rule."""
        for name in ("a;script-src", "a,b", "x'y"):
            response = self.site.ask("/", name=name)
            self.assertIn("connect-src 'self' ws://192.0.2.1:7300;", response.headers["Content-Security-Policy"])

    def test_copy_that_is_still_good(self) -> None:
        """A browser that has a file already is told so."""
        etag = self.ask("/").headers["ETag"]
        transport = self.site.begin("/", f"If-None-Match: {etag}")
        self.assertTrue(transport.value().startswith(b"HTTP/1.1 304 "))
        self.assertIn(b"Content-Security-Policy: ", transport.value())

    def test_nothing_from_elsewhere(self) -> None:
        """The pages work without a network: no file names another host, and none has anything inline."""
        for file in STATIC.iterdir():
            text = file.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
            self.assertNotRegex(text, r"https?://|//[a-z]+\.[a-z]|@import", file.name)
            self.assertNotRegex(text, r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", file.name)
        page = (STATIC / "index.html").read_text("utf-8")
        self.assertNotRegex(page, r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)")

    def test_meanings(self) -> None:
        """The page on disconnects says of every reason what it means."""
        text = (STATIC / "closes.js").read_text("utf-8")
        for reason in CloseReason:
            self.assertRegex(text, rf"\b{reason.name.lower()}: \"", reason.name)

    def test_ticket(self) -> None:
        """An operator's page gets a sign-in that is good once, and where to use it."""
        response = self.ask("/admin/console/ticket", method="POST")
        self.assertEqual(response.status, 201)
        self.assertEqual(response.json["url"], "ws://localhost:7300/")
        self.assertEqual(self.tickets.redeem(response.json["token"]), response.json["user"])
        self.assertEqual(response.headers["Cache-Control"], "no-store")
        self.assertEqual(self.ask("/admin/console/ticket").status, 405)

    def test_state(self) -> None:
        """The same data can be read without a WebSocket."""
        self.assertEqual(self.ask("/admin/console/state").json["state"]["node"], "n1")

    def test_strangers(self) -> None:
        """Who is not on this machine needs the key."""
        for path, method in (("/admin/console/ticket", "POST"), ("/admin/console/state", "GET")):
            self.assertEqual(self.ask(path, method=method, client=CLIENT).status, 401)
            self.assertEqual(self.ask(path, "Authorization: Bearer wrong", method=method, client=CLIENT).status, 401)
            key = f"Authorization: Bearer {KEY.decode()}"
            self.assertLess(self.ask(path, key, method=method, client=CLIENT).status, 300)
        self.assertEqual(self.tickets.issued, 1)

    def test_other_sites(self) -> None:
        """A page of another site gets neither ticket nor state, even in the browser of an operator."""
        strangers = (
            "Origin: https://evil.example",
            "Origin: null",
            "Sec-Fetch-Site: cross-site",
            "Sec-Fetch-Site: same-site",
        )
        for header in strangers:
            for path, method in (("/admin/console/ticket", "POST"), ("/admin/console/state", "GET")):
                self.assertEqual(self.ask(path, header, method=method).status, 403, header)
        own = ("Origin: http://localhost:7000", "Sec-Fetch-Site: same-origin")
        self.assertEqual(self.ask("/admin/console/ticket", *own, method="POST").status, 201)
        self.assertEqual(self.tickets.issued, 1)

    def test_off(self) -> None:
        """Without a console there is no page of it."""
        site = SiteUnderTest(OpenAuthenticator(), admin=AdminAccess(KEY))
        for path in ("/", "/console/main.js", "/admin/console/state"):
            self.assertEqual(site.ask(path, client=HERE, name="localhost").status, 404, path)


class ContrastTests(ConsoleTestCase):
    """Colours of the style sheet."""

    def themes(self) -> list[dict[str, str]]:
        """The colours of each block that has any: light, dark by the system, dark by choice."""
        css = (STATIC / "console.css").read_text("utf-8")
        blocks = re.findall(r"color-scheme: \w+;\s((?:\s*--[\w-]+: #[0-9a-f]{6};)+)", css)
        return [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block)) for block in blocks]

    def test_contrast(self) -> None:
        """Every text can be read on its ground, in the dark and in the light."""
        themes = self.themes()
        self.assertEqual(len(themes), 3)
        for colours in themes:
            for front, ground, wanted in PAIRS:
                ratio = contrast(colours[front], colours[ground])
                self.assertGreaterEqual(ratio, wanted, f"{front} on {ground}: {colours}")

    def test_dark_is_dark(self) -> None:
        """Both ways to the dark lead to the same colours."""
        light, by_system, by_choice = self.themes()
        self.assertEqual(by_system, by_choice)
        self.assertNotEqual(light, by_system)


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours (WCAG 2.2, definition of contrast ratio)."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    """Relative luminance, 0 = black, 1 = white."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
