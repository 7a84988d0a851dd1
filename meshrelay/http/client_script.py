"""``GET /meshrelay.js`` and ``GET /meshrelay.d.ts``: the client for browsers, and its types, as files of the package.

A page of any origin may load them; they hold no secret. Browsers keep a copy and ask whether it is still the one.

The files are made elsewhere: ``clients/js`` is the source, and its build copies them to ``static``.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files

from twisted.web import http
from twisted.web.server import Request

from meshrelay.http.page import Answer, Page, error_answer

__all__ = ["SCRIPT_PAGES", "FilePage", "load_script_pages"]

#: Name of the page and of its file -> its type.
SCRIPT_PAGES = {
    "meshrelay.js": "text/javascript; charset=utf-8",
    "meshrelay.d.ts": "application/typescript; charset=utf-8",
}


class FilePage(Page):
    """One file that pages of every origin may have.

    :param types: path of the types of a script; empty = it has none.
    """

    def __init__(self, body: bytes, content_type: str, types: str = "") -> None:
        super().__init__()
        self._body = body
        self._content_type = content_type
        #: Names the bytes: other bytes, another tag (RFC 9110, section 8.8.3).
        self.etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        # Kept, but asked for each time: after an upgrade of the node no page runs with the client of before.
        self._headers = (
            ("Cache-Control", "public, no-cache"),
            ("ETag", self.etag),
            ("Access-Control-Allow-Origin", "*"),
            ("Cross-Origin-Resource-Policy", "cross-origin"),
            *((("X-TypeScript-Types", types),) if types else ()),
        )

    def answer(self, request: Request) -> Answer:
        """See `Page.answer`."""
        if request.postpath:
            return error_answer(http.NOT_FOUND, "no such page")
        if self._is_known(request):
            # The length is that of the file (RFC 9110, section 8.6), and nothing follows.
            headers = (*self._headers, ("Content-Length", str(len(self._body))))
            return Answer(http.NOT_MODIFIED, b"", self._content_type, headers)
        return Answer(http.OK, self._body, self._content_type, self._headers)

    def _is_known(self, request: Request) -> bool:
        """Whether the client has these very bytes; tags are compared weakly (RFC 9110, section 13.1.2)."""
        known = b",".join(request.requestHeaders.getRawHeaders(b"If-None-Match", [])).decode("latin-1")
        return any(tag.strip().removeprefix("W/") in (self.etag, "*") for tag in known.split(","))


def load_script_pages() -> dict[str, FilePage]:
    """Return name -> page.

    :raises OSError: the package is not whole.
    """
    static = files("meshrelay.http") / "static"
    types = {"meshrelay.js": "/meshrelay.d.ts"}
    return {
        name: FilePage((static / name).read_bytes(), content_type, types.get(name, ""))
        for name, content_type in SCRIPT_PAGES.items()
    }
