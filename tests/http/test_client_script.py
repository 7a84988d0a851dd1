"""The client for browsers, as the node serves it."""

from __future__ import annotations

import json
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import meshrelay
from meshrelay.http.client_script import SCRIPT_PAGES, load_script_pages
from meshrelay.session.auth import OpenAuthenticator
from tests.http.exchange import SiteUnderTest

ROOT = Path(__file__).resolve().parents[2]
STATIC = ROOT / "meshrelay" / "http" / "static"
SOURCE = ROOT / "clients" / "js"


class SourceTests(SynchronousTestCase):
    """There is one source."""

    def test_same_bytes(self) -> None:
        """What the node serves is what the npm package has; ``npm run build`` in clients/js makes it so."""
        for name in SCRIPT_PAGES:
            self.assertEqual((STATIC / name).read_bytes(), (SOURCE / name).read_bytes(), name)

    def test_version(self) -> None:
        """The client has the version of the node it came with."""
        package = json.loads((SOURCE / "package.json").read_text("utf-8"))
        self.assertEqual(package["version"], meshrelay.__version__)
        self.assertEqual(package.get("dependencies", {}), {})
        self.assertIn(f'VERSION = "{meshrelay.__version__}"', (SOURCE / "meshrelay.js").read_text("utf-8"))


class PageTests(SynchronousTestCase):
    """What a browser gets."""

    def setUp(self) -> None:
        """Make a site."""
        self.under_test = SiteUnderTest(OpenAuthenticator())

    def test_script(self) -> None:
        """A page of any origin may load the module, and tools find its types."""
        response = self.under_test.ask("/meshrelay.js", "Origin: https://game.example")
        self.assertEqual(response.status, 200)
        self.assertEqual(response.body, (STATIC / "meshrelay.js").read_bytes())
        wanted = {
            "Content-Type": "text/javascript; charset=utf-8",
            "Access-Control-Allow-Origin": "*",
            "Cross-Origin-Resource-Policy": "cross-origin",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "public, no-cache",
        }
        self.assertEqual({name: response.headers.get(name) for name in wanted}, wanted)
        types = self.under_test.ask(response.headers["X-Typescript-Types"])
        self.assertEqual(types.body, (STATIC / "meshrelay.d.ts").read_bytes())
        self.assertEqual(types.headers["Content-Type"], "application/typescript; charset=utf-8")
        self.assertNotIn("X-Typescript-Types", types.headers)

    def test_copy_that_is_still_good(self) -> None:
        """A browser that has the bytes already is told so, and gets them when it has others."""
        etag = self.under_test.ask("/meshrelay.js").headers["ETag"]
        length = str((STATIC / "meshrelay.js").stat().st_size)
        for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
            transport = self.under_test.begin("/meshrelay.js", f"If-None-Match: {known}")
            head, _, body = transport.value().partition(b"\r\n\r\n")
            self.assertTrue(head.startswith(b"HTTP/1.1 304 "), known)
            self.assertIn(b"ETag: " + etag.encode(), head)
            self.assertIn(b"Content-Length: " + length.encode(), head)
            self.assertEqual(body, b"")
        for other in ('"other"', "", etag.strip('"')):
            self.assertEqual(self.under_test.ask("/meshrelay.js", f"If-None-Match: {other}").status, 200, other)

    def test_head(self) -> None:
        """HEAD tells the same without the bytes."""
        response = self.under_test.ask("/meshrelay.js", method="HEAD")
        self.assertEqual((response.status, response.body), (200, b""))
        self.assertEqual(response.headers["Content-Length"], str((STATIC / "meshrelay.js").stat().st_size))

    def test_what_is_not_there(self) -> None:
        """Nothing is below the files, and they are not written to."""
        for path in ("/meshrelay.js/x", "/meshrelay.js/", "/meshrelay.d.ts/x", "/static/meshrelay.js"):
            self.assertEqual(self.under_test.ask(path).status, 404, path)
        self.assertEqual(self.under_test.ask("/meshrelay.js", method="DELETE").status, 405)

    def test_tags(self) -> None:
        """Other bytes have another tag."""
        self.assertEqual(len({page.etag for page in load_script_pages().values()}), len(SCRIPT_PAGES))
