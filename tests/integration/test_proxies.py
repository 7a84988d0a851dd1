"""The recipes for nginx and HAProxy, run by the real programs in front of a real node."""

from __future__ import annotations

import base64
import http.client
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, ClassVar

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.cluster import free_port
from tests.integration.daemon import ROOT, Daemon
from tests.integration.wire_clients import TcpClient, WebSocketClient
from tests.transport.self_signed import self_signed_pem

HOST = "relay.example"


def connect_tls(port: int) -> ssl.SSLSocket:
    """Connect to a proxy, as a client that trusts everybody."""
    return _trusting().wrap_socket(socket.create_connection(("127.0.0.1", port), 10), server_hostname=HOST)


class ProxiedTcp(TcpClient):
    """Frames over TLS."""

    port = 0

    def _open(self, daemon: Daemon) -> socket.socket:
        return connect_tls(self.port)


class ProxiedWebSocket(WebSocketClient):
    """Messages over TLS."""

    port = 0

    def _open(self, daemon: Daemon) -> socket.socket:
        connection = connect_tls(self.port)
        status, self._raw = upgrade(connection, "/", f"Origin: https://{HOST}:{self.port}\r\n", self.port)
        assert status == 101, status
        return connection


def upgrade(connection: ssl.SSLSocket, path: str, more: str, port: int) -> tuple[int, bytes]:
    """Ask for a WebSocket; returns the status, and what came behind the answer."""
    key = base64.b64encode(os.urandom(16)).decode()
    connection.sendall(
        f"GET {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{more}"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    head = b""
    while b"\r\n\r\n" not in head:
        data = connection.recv(4096)
        assert data, head
        head += data
    return int(head.split()[1]), head.split(b"\r\n\r\n", 1)[1]


class ProxyKit(SynchronousTestCase):
    """A proxy of its own folder and ports, and a node behind it.

    :cvar program: what runs it.
    :cvar before: what stands in front of the node's listening places.
    :cvar is_shut: clients need a token; who has none is named in the log.
    """

    program: ClassVar[str] = ""
    before: ClassVar[str] = ""
    is_shut: ClassVar[bool] = False

    def setUp(self) -> None:
        """Start a node, then the proxy."""
        if type(self) is ProxyKit or not self.program:
            return
        path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin"))
        program = shutil.which(self.program, path=path)
        if program is None:
            self.skipTest(f"missing: {self.program}")
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.pem = self.folder / "relay.pem"
        self.pem.write_bytes(self_signed_pem(HOST, "proxy"))
        place = f"{self.before}tcp:0:interface=127.0.0.1"
        secret = self.folder / "secret"
        secret.write_text("s" * 40)
        auth = {"mode": "token", "secret_file": str(secret)} if self.is_shut else {}
        listen = {**dict.fromkeys(("tcp", "websocket", "http"), place), "advertised_host": HOST}
        relay = {"listen": place, "exposed_address": f"rels://{HOST}:443"}
        relay["secret_file"] = str(secret)
        self.daemon = Daemon({"listen": listen, "relay": relay, "auth": auth})
        self.daemon.__enter__()
        self.addCleanup(self.daemon.__exit__, None, None, None)
        self.port, self.tcp_port = free_port(), free_port()
        self.start(program)

    def start(self, program: str) -> None:
        """Write its files and run it."""
        raise NotImplementedError

    def run_proxy(self, command: list[str], check: list[str]) -> None:
        """Check the files as an operator would, then run it until the end of the test."""
        checked = subprocess.run(check, capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)
        log = (self.folder / "log").open("wb")
        self.addCleanup(log.close)
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        self.addCleanup(self.end, process)
        deadline = time.monotonic() + 60
        while self.get("/health/ready")[0] != 200:
            self.assertIsNone(process.poll(), (self.folder / "log").read_text())
            self.assertLess(time.monotonic(), deadline, (self.folder / "log").read_text())
            time.sleep(0.1)

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """Stop it at once."""
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)

    def check_address(self) -> None:
        """A TCP client without a token is refused, and the log names its own address and port, not the proxy's."""
        client: TcpClient = type("Client", (ProxiedTcp,), {"port": self.tcp_port})(self.daemon)
        self.addCleanup(client.close)
        host, port = client.socket.getsockname()
        client.refused(0, 1, b'{"protocol": 1, "user": "ann"}')
        deadline = time.monotonic() + 30
        while not re.search(rf"sign-in of {re.escape(f'{host}:{port}')} refused", self.daemon.log):
            self.assertLess(time.monotonic(), deadline, self.daemon.log)
            time.sleep(0.05)

    def replaced(self, name: str, changes: dict[str, str]) -> Path:
        """Return a copy of a recipe with the ports and files of this test; each change must fit somewhere."""
        text = (ROOT / "etc" / name).read_text(encoding="utf-8")
        for old, new in changes.items():
            self.assertIn(old, text)
            text = text.replace(old, new)
        path = self.folder / Path(name).name
        path.write_text(text)
        return path

    def behind(self) -> dict[str, str]:
        """The node's default addresses -> its own."""
        defaults = {"tcp": "7200", "websocket": "7300", "http": "7000", "relay": "33080"}
        return {f"127.0.0.1:{port}": self.daemon.places[name] for name, port in defaults.items()}

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body of a page through the proxy; 0 while there is none."""
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=30, context=_trusting())
        try:
            connection.request("GET", path, headers={"Host": f"{HOST}:{self.port}"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except OSError:
            return 0, b""
        finally:
            connection.close()


def _trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Promises:
    """What holds through both proxies."""

    daemon: Daemon
    port: int
    get: Any
    addCleanup: Any
    assertEqual: Any
    assertIn: Any

    def websocket(self, user: str) -> ProxiedWebSocket:
        """A client that is signed in, by the page of the same host."""
        client: ProxiedWebSocket = type("Client", (ProxiedWebSocket,), {"port": self.port})(self.daemon)
        self.addCleanup(client.close)
        client.hello(user)
        return client

    def test_websocket(self) -> None:
        """Two WebSocket clients of pages of the proxy's host meet in a group."""
        ann, bob = self.websocket("ann"), self.websocket("bob")
        group = ann.ask(1, 110, b"\x02\x00\x00\x00\x3c\x00\x00")
        bob.ask(1, 111, group)
        ann.send(1, 113, group + b"hello")
        self.assertEqual(bob.push().payload[-5:], b"hello")

    def test_endpoint(self) -> None:
        """The endpoint call and the health pages answer; a page that is not there is the node's 404."""
        status, body = self.get("/endpoint/type/WS/user/ann")
        self.assertEqual(status, 200)
        self.assertIn(HOST.encode(), body)
        self.assertEqual(self.get("/health/live")[0], 200)
        self.assertEqual(self.get("/no-such-page")[0], 404)

    def test_console(self) -> None:
        """A browser that asks for / gets a page of the node and no WebSocket error."""
        self.assertIn(self.get("/")[0], (200, 404))

    def test_not_public(self) -> None:
        """Pages for operators are not there for the world."""
        paths = ["/metrics", "/cluster", "/links", "/admin/overlay", "/direct"]
        # The node takes all of these for the same pages.
        paths += [
            "/metrics/",
            "/metrics/x",
            "/%6detrics",
            "/cluster/",
            "/links/x",
            "/%61dmin/groups",
            "/direct/ann",
        ]
        self.assertEqual({path: self.get(path)[0] for path in paths}, dict.fromkeys(paths, 404))
        # This one cannot be decoded, and may be refused as such.
        self.assertIn(self.get("/metrics/%zz")[0], (400, 404))

    def test_relay(self) -> None:
        """/relay is the relay's WebSocket."""
        connection = connect_tls(self.port)
        self.addCleanup(connection.close)
        self.assertEqual(upgrade(connection, "/relay", "", self.port)[0], 101)


class NginxTests(Promises, ProxyKit):
    """etc/nginx/meshrelay.conf, and the stream beside it."""

    program = "nginx"

    def start(self, program: str) -> None:
        """See `ProxyKit`."""
        files = {"/etc/ssl/relay.example.pem": str(self.pem)}
        site = self.replaced(
            "nginx/meshrelay.conf", {"listen 443 ssl": f"listen 127.0.0.1:{self.port} ssl", **files, **self.web()}
        )
        main = self.folder / "nginx.conf"
        temporary = "".join(
            f"{name}_temp_path {self.folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        main.write_text(
            f"daemon off;\nmaster_process off;\npid {self.folder}/pid;\nerror_log stderr;\nevents {{}}\n"
            f"http {{\naccess_log off;\n{temporary}include {site};\n}}\n"
        )
        command = [program, "-p", str(self.folder), "-e", "stderr", "-c", str(main)]
        self.run_proxy(command, [*command, "-t"])

    def web(self) -> dict[str, str]:
        """What this recipe names; TCP clients have one of their own."""
        return {old: new for old, new in self.behind().items() if not old.endswith(":7200")}


class HaproxyTests(Promises, ProxyKit):
    """etc/haproxy/meshrelay.cfg."""

    program = "haproxy"
    before = "haproxy:"

    def start(self, program: str) -> None:
        """See `ProxyKit`."""
        changes = {
            "bind :443 ": f"bind 127.0.0.1:{self.port} ",
            "bind :7443 ": f"bind 127.0.0.1:{self.tcp_port} ",
            "/etc/ssl/relay.example.pem": str(self.pem),
            "check port 7000": f"check port {self.daemon.address('http')[1]}",
            "maxconn 100000": "maxconn 200",
            "inter 2s": "inter 200ms",
            **self.behind(),
        }
        path = str(self.replaced("haproxy/meshrelay.cfg", changes))
        self.run_proxy([program, "-db", "-f", path], [program, "-c", "-f", path])

    def test_tcp(self) -> None:
        """A TCP client signs in through TLS."""
        client: TcpClient = type("Client", (ProxiedTcp,), {"port": self.tcp_port})(self.daemon)
        self.addCleanup(client.close)
        self.assertEqual(client.hello("ann")["user"], "ann")


class HaproxyAddressTests(ProxyKit):
    """Whom the node sees behind HAProxy."""

    program = "haproxy"
    before = "haproxy:"
    is_shut = True
    start = HaproxyTests.start

    def test_address(self) -> None:
        """The node knows where a client really comes from."""
        self.check_address()


class NginxStreamTests(ProxyKit):
    """etc/nginx/meshrelay-stream.conf."""

    program = "nginx"
    before = "haproxy:"
    is_shut = True

    def start(self, program: str) -> None:
        """See `ProxyKit`."""
        module = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
        if not module.exists():
            self.skipTest("missing: nginx's stream module")
        changes = {
            "listen 7443 ssl": f"listen 127.0.0.1:{self.tcp_port} ssl",
            "/etc/ssl/relay.example.pem": str(self.pem),
            "127.0.0.1:7200": self.daemon.places["tcp"],
        }
        main = self.folder / "nginx.conf"
        main.write_text(
            f"load_module {module};\ndaemon off;\nmaster_process off;\npid {self.folder}/pid;\nerror_log stderr;\n"
            f"events {{}}\ninclude {self.replaced('nginx/meshrelay-stream.conf', changes)};\n"
        )
        command = [program, "-p", str(self.folder), "-e", "stderr", "-c", str(main)]
        self.run_proxy(command, [*command, "-t"])

    def get(self, path: str) -> tuple[int, bytes]:
        """See `ProxyKit`; this one has no pages."""
        try:
            connect_tls(self.tcp_port).close()
        except OSError:
            return 0, b""
        return 200, b""

    def test_address(self) -> None:
        """A TCP client gets through TLS, and the node knows where it really comes from."""
        self.check_address()
