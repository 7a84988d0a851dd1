"""The certificate of a relay, renewed under a running daemon, as clients by WebSocket and by QUIC see it."""

from __future__ import annotations

import logging
import shutil
import signal
from pathlib import Path

from meshrelay.relay_client import RelayConnectFailed, TransportMode
from tests.integration.test_relay_client import RelayCase, echo, soon, tokens, until
from tests.interop.netbird_programs import make_certificates


class RenewalTests(RelayCase):
    """SIGHUP."""

    def setUp(self) -> None:
        """Certificates of two authorities; aioquic's client says on standard error what it does not like."""
        super().setUp()
        quiet = logging.NullHandler()
        logging.getLogger("quic").addHandler(quiet)
        self.addCleanup(logging.getLogger("quic").removeHandler, quiet)
        self.renewed = self.directory / "renewed"
        self.renewed.mkdir()

    def renew(self, *names: str) -> None:
        """Put files of the second authority in the place of those of the first."""
        for name in names:
            shutil.copyfile(self.renewed / name, self.directory / name)

    def spoil(self, path: Path) -> None:
        """Write what is no key."""
        path.write_bytes(b"-----BEGIN PRIVATE KEY-----\nnothing\n-----END PRIVATE KEY-----\n")

    async def reload(self, text: str) -> None:
        """Send SIGHUP and wait until the log has `text` once more."""
        assert self.daemon.process is not None
        count = self.daemon.log.count(text)
        self.daemon.process.send_signal(signal.SIGHUP)
        await until(lambda: self.daemon.log.count(text) > count)

    async def check_shown(self, url: str, mode: TransportMode) -> None:
        """Whoever trusts the authority of the moment gets in."""
        client = await self.connect("carol", url, mode, tokens())
        await soon(client.close())

    async def test_renewal(self) -> None:
        """New peers are shown the new certificate, those that are there stay, and what is wrong changes nothing."""
        url = self.start_tls()
        first, second = self.certificates, make_certificates(self.renewed)
        quic = TransportMode.QUIC
        alice, bob = [await self.connect(name, url, quic, tokens()) for name in ("alice", "bob")]
        here, there = await self.open_pair(alice, bob)

        self.renew("relay.pem", "relay.key")
        await self.reload("configuration reloaded")
        with self.assertRaises(RelayConnectFailed):
            await soon(self.client("dora", url, quic, tokens()).connect())
        self.certificates = second
        for mode in (quic, TransportMode.WS):
            await self.check_shown(url, mode)
        self.assertEqual(await echo(here, there, b"still here"), b"still here")

        self.spoil(first.key)
        await self.reload("nothing changed: relay.listen")
        await self.check_shown(url, quic)
        self.assertTrue(alice.is_connected and bob.is_connected)

    async def test_key_left_behind(self) -> None:
        """A certificate that was renewed without its key changes nothing, and the log says which key it is about."""
        relay, port = self.tls_relay()
        relay["listen"] = ""
        self.daemon = self.start(relay)
        url = f"rels://127.0.0.1:{port}"
        make_certificates(self.renewed)
        self.renew("relay.pem")
        await self.reload("nothing changed: relay.certificate_file")
        await self.check_shown(url, TransportMode.QUIC)
