"""Tests of `meshrelay.cli.cluster`."""

from __future__ import annotations

import io
from email.message import Message
from http.client import BadStatusLine
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.request import Request

import msgspec
from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.cli import cluster
from meshrelay.cli.cluster import (
    MAX_ANSWER_BYTES,
    CannotAsk,
    ClusterDocument,
    DirectoryState,
    decode,
    fetch,
    problems,
    status_lines,
)
from meshrelay.http.node_status import LinkStatus, NodeStatus


def _document(*nodes: NodeStatus, directory: str = "up") -> ClusterDocument:
    return ClusterDocument("n1", list(nodes), DirectoryState("redis", directory, {"losses": 2}))


def _node(node_id: str, *links: LinkStatus, **fields: Any) -> NodeStatus:
    return NodeStatus(
        **{
            "id": node_id,
            "state": "ready",
            "places": {"tcp": "h:7200"},
            "load": 0.25,
            "users": 12,
            "groups": 3,
            "uptime_seconds": 93784.0,
            "version": "1.2",
            "links": links,
            **fields,
        }
    )


UP = LinkStatus(to="n2", state="up", rtt_ms=0.4567, queued_bytes=10, queued_messages=2)
DOWN = LinkStatus(to="n3", state="waiting")


class FetchTests(SynchronousTestCase):
    """Asking a node."""

    def setUp(self) -> None:
        self.requests: list[Request] = []
        self.answer: bytes | Exception = b"{}"

    def open(self, request: Request, seconds: float) -> IO[bytes]:
        """Take the place of the network."""
        self.requests.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        return io.BytesIO(self.answer)

    def refusal(self, url: str = "http://127.0.0.1:7000") -> str:
        """What is said about a failure."""
        message: str = self.assertRaises(CannotAsk, fetch, url, "", self.open).message
        return message

    def test_request(self) -> None:
        """The page is asked for below the URL, with the key if there is one."""
        self.assertEqual(fetch("http://127.0.0.1:7000/", "", self.open), b"{}")
        fetch("https://n1.example", "the-key", self.open)
        self.assertEqual(
            [request.full_url for request in self.requests],
            ["http://127.0.0.1:7000/cluster", "https://n1.example/cluster"],
        )
        self.assertEqual([request.get_header("Authorization") for request in self.requests], [None, "Bearer the-key"])

    def test_refused(self) -> None:
        """The status and the words of the node are told, without what a terminal would obey."""
        body = io.BytesIO(b'{"error": "the admin key\\u001b is needed"}')
        self.answer = HTTPError("u", 401, "Unauthorized", Message(), body)
        self.assertIn("answers 401: the admin key\ufffd is needed", self.refusal())
        self.answer = HTTPError("u", 302, "Found", Message(), io.BytesIO(b"<html>"))
        self.assertIn("answers 302: Found", self.refusal())

    def test_not_reached(self) -> None:
        """A node that is not there, or speaks something else, is told in one line."""
        for error in (URLError(ConnectionRefusedError("refused")), TimeoutError(), BadStatusLine("SSH-2.0"), OSError()):
            self.answer = error
            self.assertIn("cannot ask http://127.0.0.1:7000: ", self.refusal())

    def test_url(self) -> None:
        """Files and other things that are no node are not opened."""
        for url in ("file:///etc/passwd", "127.0.0.1:7000", "http://", "ftp://h"):
            self.assertIn("is no http:// or https:// URL", self.refusal(url))
        self.assertEqual(self.requests, [])

    def test_too_much(self) -> None:
        """An endless answer is not read to its end."""
        self.answer = b" " * (MAX_ANSWER_BYTES + 1)
        self.assertIn("more than", self.refusal())

    def test_redirect(self) -> None:
        """A redirection is not followed: it would carry the key away."""
        handler: Any = cluster._NoRedirect()
        self.assertIsNone(handler.redirect_request(Request("http://h"), None, 302, "Found", Message(), "http://evil"))

    def test_garbage(self) -> None:
        """What is no document of a node is told as such."""
        for content in (b"", b"<html>", b"[]", b'{"asked": 1}', b"[" * 100_000, b"\xff"):
            self.assertIn("not the answer of a node", self.assertRaises(CannotAsk, decode, content).message)


class ProblemTests(SynchronousTestCase):
    """What is wrong."""

    def test_well(self) -> None:
        """A cluster whose nodes answer and whose links are up is well, draining or not."""
        self.assertEqual(problems(_document(_node("n1", UP), _node("n2", state="draining"))), [])

    def test_trouble(self) -> None:
        """Silent nodes, links that are down and a directory that is away are each named."""
        silent = NodeStatus(id="n3", state="no answer")
        self.assertEqual(
            problems(_document(_node("n1", UP, DOWN), silent, directory="away")),
            ["node n3 does not answer", "the link from n1 to n3 is waiting", "the directory is away"],
        )


class LinesTests(SynchronousTestCase):
    """Tables for people."""

    def test_tables(self) -> None:
        """Nodes come first, then links, then the directory, in columns."""
        lines = status_lines(_document(_node("n1", UP), _node("a-long-name", uptime_seconds=3725.0)))
        self.assertEqual(
            [line.split() for line in lines],
            [
                ["NODE", "STATE", "LOAD", "USERS", "GROUPS", "UP", "FOR", "VERSION", "MESH", "PLACES"],
                ["n1", "ready", "25%", "12", "3", "1d", "2h", "1.2", "-", "tcp=h:7200"],
                ["a-long-name", "ready", "25%", "12", "3", "1h", "2m", "1.2", "-", "tcp=h:7200"],
                [],
                [word for head in cluster._LINK_HEADS for word in head.split()],
                ["n1", "n2", "up", "0.457", "10", "2", "0", "0"],
                [],
                ["directory", "redis:", "up", "losses=2"],
            ],
        )
        starts = {line.index("25%") for line in lines[1:3]}
        self.assertEqual(starts, {lines[0].index("LOAD")})

    def test_unknown(self) -> None:
        """What is not known is a dash, and what is wrong stands below."""
        lines = status_lines(_document(NodeStatus(id="n3", state="no answer")))
        self.assertEqual(lines[1].split(), ["n3", "no", "answer", *"-------"])
        self.assertEqual(lines[-1], "! node n3 does not answer")

    def test_left_out(self) -> None:
        """Links for which there was no room are counted."""
        self.assertIn("and 5 links that are up", status_lines(_document(_node("n1", UP, links_left_out=5))))

    def test_terminal(self) -> None:
        """Nothing that a node says moves the cursor."""
        lines = status_lines(_document(_node("n\x1b[2J", LinkStatus(to="\x9b", state="\n"), version="\r")))
        self.assertTrue(all(line.isprintable() for line in lines))


class CommandTests(SynchronousTestCase):
    """The command as a whole."""

    def run_status(self, document: ClusterDocument, *arguments: str) -> Result:
        """Run it against a node that answers `document`."""
        self.content = msgspec.json.encode(document)
        self.keys: list[str] = []

        def answer(url: str, key: str) -> bytes:
            self.keys.append(key)
            return self.content

        self.patch(cluster, "fetch", answer)
        return CliRunner().invoke(cluster.command, ["status", *arguments])

    def test_well(self) -> None:
        """A cluster that is well is shown, with status 0."""
        result = self.run_status(_document(_node("n1")))
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertIn("directory redis: up", result.output)

    def test_trouble(self) -> None:
        """Trouble is shown, with status 1."""
        result = self.run_status(_document(_node("n1", DOWN)))
        self.assertEqual(result.exit_code, 1, result.output)
        self.assertIn("! the link from n1 to n3 is waiting", result.output)

    def test_json(self) -> None:
        """Machines get the answer of the node as it stands, and the same status."""
        result = self.run_status(_document(_node("n1", DOWN)), "--json")
        self.assertEqual((result.exit_code, result.output), (1, self.content.decode("utf-8") + "\n"))

    def test_key(self) -> None:
        """The key is what the file holds, without the line end."""
        path = Path(self.mktemp())
        path.write_text("the-key\n", encoding="ascii")
        self.run_status(_document(), "--key-file", str(path))
        self.assertEqual(self.keys, ["the-key"])

    def test_key_is_no_text(self) -> None:
        """A key file that holds no text is told."""
        path = Path(self.mktemp())
        path.write_bytes(b"\xff\xfe")
        result = self.run_status(_document(), "--key-file", str(path))
        self.assertEqual(result.exit_code, 2, result.output)

    def test_cannot_ask(self) -> None:
        """When nobody can be asked the status is 2."""
        result = CliRunner().invoke(cluster.command, ["status", "--url", "nothing"])
        self.assertEqual(result.exit_code, 2, result.output)
        self.assertIn("nothing is no http", result.output)
