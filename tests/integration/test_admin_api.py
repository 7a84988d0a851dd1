"""The admin API of real daemons: by its OpenAPI file, by the lines of its documentation, and across two nodes.

Examples of schemathesis are bounded and the same in each run; set MESHRELAY_EXAMPLES for more of them.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from meshrelay.testing.builders import make_group_id
from meshrelay.wire.commands import Command, encode_gid_message
from meshrelay.wire.room_commands import NewRoom, encode_new_room
from tests.integration.cluster import Node, cluster_config, wait_until
from tests.integration.daemon import ROOT, Daemon
from tests.integration.wire_clients import TcpClient

LOBBY = make_group_id("lobby")
OPENAPI = ROOT / "docs" / "openapi.json"
GROUPS = {"static_groups": [{"group_id": LOBBY}], "send_interval_ms": 0}

#: Examples of each operation.
EXAMPLES = int(os.environ.get("MESHRELAY_EXAMPLES", "15"))


def ask(
    daemon: Daemon, method: str, path: str, document: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    """Status and document of one request."""
    data = json.dumps(document).encode() if document is not None else None
    kind = {"Content-Type": "application/json"} if document is not None else {}
    request = urllib.request.Request(daemon.url(path), data, {**kind, **(headers or {})}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


class OneNodeTests(SynchronousTestCase):
    """One daemon."""

    def test_by_the_file(self) -> None:
        """Whatever a program makes of the OpenAPI file is answered as the file says, and never with 500."""
        try:
            import schemathesis
            from hypothesis import Phase, settings
        except ImportError as error:
            raise SkipTest(f"missing: {error}") from error
        schema = schemathesis.openapi.from_path(str(OPENAPI))
        with Daemon({"group": GROUPS, "node": {"id": "n1"}}) as daemon:
            schema.config.update(base_url=daemon.url(""))
            phases = (Phase.explicit, Phase.generate)
            bounded = settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, phases=phases)
            operations: list[Any] = [each.ok() for each in list[Any](schema.get_all_operations())]
            self.assertEqual(len(operations), 11)
            for operation in operations:
                # A node that has ended answers nobody; its own ID is never among the examples by chance.
                self._check(operation, bounded)
            self.assertEqual(daemon.get("/health/ready")[0], 200)
            self.assertGreater(daemon.metric("meshrelay_admin_requests_total"), 11 * EXAMPLES / 2)

    def sign_in(self, daemon: Daemon) -> TcpClient:
        """Return ann, who is in the lobby."""
        ann = TcpClient(daemon)
        self.addCleanup(ann.socket.close)
        ann.hello("ann")
        ann.ask(1, Command.GROUP_JOIN, encode_gid_message(LOBBY, b""))
        return ann

    def _check(self, operation: Any, bounded: Any) -> None:
        from hypothesis import given
        from schemathesis.checks import not_a_server_error
        from schemathesis.specs.openapi.checks import (
            content_type_conformance,
            response_schema_conformance,
            status_code_conformance,
        )

        checks = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]

        def answered(case: Any) -> None:
            case.call_and_validate(checks=checks, timeout=30)

        bounded(given(case=operation.as_strategy())(answered))()

    def test_documentation(self) -> None:
        """The lines of the documentation do what they say."""
        if shutil.which("curl") is None:
            raise SkipTest("missing: curl")
        text = (ROOT / "docs" / "admin-api.rst").read_text("utf-8")
        lines = re.findall(r"^   \$ (curl (?:.*\\\n)*.*)$", text, re.MULTILINE)
        self.assertGreater(len(lines), 8)
        with tempfile.TemporaryDirectory() as directory, Daemon({"group": GROUPS, "node": {"id": "n1"}}) as daemon:
            key = Path(directory) / "admin.key"
            key.write_text("x" * 40)
            ann = self.sign_in(daemon)
            room = ann.ask(1, Command.ROOM_CREATE, encode_new_room(NewRoom(10, False, True, 60, 0))).decode("ascii")
            for line in lines:
                told = line.replace("http://127.0.0.1:7000", daemon.url("")).replace("\\\n", " ")
                told = told.replace("GROUP", LOBBY).replace("ROOM", room).replace("/etc/meshrelay/admin.key", str(key))
                words = shlex.split(told.replace("$(cat ", "").replace(".key)", ".key"))
                done = subprocess.run(
                    [*words, "-sS", "--fail-with-body", "-m", "10"], capture_output=True, check=False, text=True
                )
                self.assertEqual((line, done.returncode, done.stderr), (line, 0, ""), done.stdout)
                json.loads(done.stdout)

    def test_half_open(self) -> None:
        """Many connections that never end their request keep nobody out."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
        with Daemon() as daemon:
            opened = []
            try:
                for _ in range(1100):
                    half = socket.create_connection(daemon.address("http"), timeout=30)
                    half.sendall(b"GET /health/live HTTP/1.1\r\nHost: h\r\n")
                    opened.append(half)
                before = time.monotonic()
                self.assertEqual(daemon.get("/health/live")[0], 200)
                self.assertGreater(daemon.metric('meshrelay_refused_total{reason="http_connections"}'), 0)
                # One of those would be waited for much longer.
                self.assertLess(time.monotonic() - before, 10.0)
            finally:
                for half in opened:
                    half.close()


class TwoNodeTests(SynchronousTestCase):
    """Two linked daemons; what is asked of one is true of both."""

    def test_cluster(self) -> None:
        """Publish, look up, send, list, kick and drain, all through the other node."""
        with Node(cluster_config("n1", group=GROUPS)) as one:
            config = cluster_config("n2", f"pb:{one.places['mesh']}", group=GROUPS)
            with Node(config) as two:
                one.wait_linked(1)
                ann = TcpClient(two)
                self.addCleanup(ann.socket.close)
                ann.hello("ann")
                ann.ask(1, Command.GROUP_JOIN, encode_gid_message(LOBBY, b""))
                wait_until(lambda: ask(one, "GET", "/admin/users/ann")[0] == 200, what="the user in the directory")
                status, user = ask(one, "GET", "/admin/users/ann")
                self.assertEqual((user["node"], user["transport"], user["groups"]), ("n2", "tcp", [LOBBY]))
                self.assertLess(abs(user["since"] - time.time()), 60)
                status, done = ask(one, "POST", f"/admin/groups/{LOBBY}/messages", {"text": "hi"})
                self.assertEqual((status, done["group"]), (202, LOBBY))
                self.assertTrue(ann.push().payload.endswith(b"\x06serverhi"))
                status, done = ask(one, "POST", "/admin/announcements", {"text": "all"})
                self.assertEqual((status, done), (202, {"groups": 1, "nodes_left_out": []}))
                self.assertTrue(ann.push().payload.endswith(b"all"))
                self.assertEqual(ask(one, "POST", "/admin/users/ann/messages", {"text": "dm"})[0], 200)
                self.assertEqual(ann.push().payload, b"\x00dm")
                status, page = ask(one, "GET", "/admin/groups")
                self.assertEqual([(row["id"], row["members"], row["nodes"]) for row in page["groups"]], [(LOBBY, 1, 2)])
                self.assertEqual(
                    ask(one, "DELETE", "/admin/users/ann?reason=bye"), (200, {"user": "ann", "node": "n2"})
                )
                nodes = ask(one, "GET", "/admin/nodes")[1]["nodes"]
                self.assertEqual([node["id"] for node in nodes], ["n1", "n2"])
                self.assertEqual(ask(one, "POST", "/admin/nodes/n2/drain", {}), (202, {"node": "n2"}))
                assert two.process is not None
                self.assertEqual(two.process.wait(20), 0)
                # Gone for good, or not yet known to be.
                self.assertIn(ask(one, "POST", "/admin/nodes/n2/drain", {})[0], (404, 503))
