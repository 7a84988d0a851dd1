"""Rules between keys."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.config.checks import check_config
from meshrelay.config.schema import (
    AuthConfig,
    Config,
    GroupConfig,
    ListenConfig,
    MeshConfig,
    OverlayConfig,
    RelayConfig,
    StaticGroup,
)


def problems_of(config: Config, *, wrong: frozenset[str] = frozenset()) -> list[str]:
    """Return what is wrong, as the operator reads it."""
    return [str(problem) for problem in check_config(config, wrong)]


class OpenTests(SynchronousTestCase):
    """Mode "open" beyond loopback."""

    def test_every_listener(self) -> None:
        """A node that takes anybody's word refuses to be reachable from other machines, by any listener."""
        everywhere = ListenConfig(tcp="tcp:1", udp="udp:2", websocket="tcp:3:interface=0.0.0.0", http=r"tcp6:4")
        problems = problems_of(Config(listen=everywhere))
        self.assertEqual(
            [problem.partition(":")[0] for problem in problems],
            ["listen.tcp", "listen.udp", "listen.websocket", "listen.http"],
        )
        self.assertIn("auth.insecure = true", problems[0])

    def test_allowed(self) -> None:
        """With tokens, or when the operator insists, it may be reached; a listener that is off does not matter."""
        everywhere = ListenConfig(tcp="tcp:1", udp="")
        insecure = Config(listen=everywhere, auth=AuthConfig(insecure=True))
        token = Config(listen=everywhere, auth=AuthConfig(mode="token", secret_file="secret"))
        self.assertEqual(problems_of(insecure) + problems_of(token), [])


class PlaceTests(SynchronousTestCase):
    """Listening places."""

    def test_unreadable(self) -> None:
        """A place that cannot be read is told with its key, once."""
        config = Config(listen=ListenConfig(tcp="7200", udp="tcp:1"), mesh=MeshConfig(listen="nonsense"))
        paths = [problem.partition(":")[0] for problem in problems_of(config)]
        self.assertEqual(paths, ["listen.tcp", "mesh.listen", "listen.udp"])


class TokenTests(SynchronousTestCase):
    """Keys of auth mode "token"."""

    def refused(self, auth: AuthConfig) -> str:
        """Return the one problem."""
        (problem,) = problems_of(Config(auth=auth))
        return problem

    def test_secret(self) -> None:
        """HS256 needs the secret, and who gave a public key is told how it is used."""
        self.assertEqual(self.refused(AuthConfig(mode="token")), "auth.secret_file: is needed by HS256")
        self.assertIn('["RS256"]', self.refused(AuthConfig(mode="token", public_key_file="key.pem")))

    def test_public_key(self) -> None:
        """The other algorithms need the public key."""
        auth = AuthConfig(mode="token", algorithms=("ES256",), secret_file="secret")
        self.assertEqual(self.refused(auth), "auth.public_key_file: is needed by ES256")

    def test_mixed(self) -> None:
        """A secret and a public key side by side are refused: the public key could be used as the secret."""
        auth = AuthConfig(mode="token", algorithms=("RS256", "HS256"), secret_file="a", public_key_file="b")
        self.assertIn("HS256 and RS256 cannot be mixed", self.refused(auth))

    def test_none(self) -> None:
        """No algorithm at all is refused."""
        self.assertIn("names no algorithm", self.refused(AuthConfig(mode="token", algorithms=(), secret_file="a")))

    def test_open(self) -> None:
        """Mode "open" needs no key."""
        self.assertEqual(problems_of(Config(auth=AuthConfig(algorithms=()))), [])


class OtherTests(SynchronousTestCase):
    """The other rules."""

    def test_static_groups(self) -> None:
        """Each static group has an ID of its own."""
        groups = tuple(StaticGroup(group_id=letter * 52) for letter in "aba")
        self.assertEqual(
            problems_of(Config(group=GroupConfig(static_groups=groups))),
            ["group.static_groups[2].group_id: is the ID of number 0 as well"],
        )

    def test_relay(self) -> None:
        """A relay without a secret is for this machine only, with one for everybody."""
        self.assertEqual(problems_of(Config(relay=RelayConfig(listen="tcp:1:interface=127.0.0.1"))), [])
        self.assertEqual(problems_of(Config(relay=RelayConfig(listen="tcp:1", secret_file="s"))), [])
        (problem,) = problems_of(Config(relay=RelayConfig(listen="tcp:1")))
        self.assertIn("relay.listen: tcp:1 can be reached from other machines", problem)
        self.assertEqual(len(problems_of(Config(relay=RelayConfig(listen="tcp")))), 1)

    def test_relay_quic(self) -> None:
        """QUIC needs a certificate and its key."""
        config = RelayConfig(quic="udp:1:interface=127.0.0.1")
        told = [f"relay.{name}: is needed by relay.quic" for name in ("certificate_file", "key_file")]
        self.assertEqual(problems_of(Config(relay=config)), told)

    def test_overlay(self) -> None:
        """A peer of the overlay that listens, dials or does both is fine, with networks and addresses that are some."""
        for overlay in (
            OverlayConfig(listen="tcp:1:interface=127.0.0.1", public_url="wss://peer.example:1"),
            OverlayConfig(bootstrap=("ws://127.0.0.1:1",)),
            OverlayConfig(dial_networks=("10.0.0.0/8", "fd00::/8", "10.1.2.3"), webrtc_addresses=("127.0.0.1", "::1")),
        ):
            self.assertEqual(problems_of(Config(overlay=overlay)), [])

    def test_overlay_url(self) -> None:
        """An URL at which nobody listens is told."""
        overlay = OverlayConfig(public_url="ws://peer.example:1")
        self.assertEqual(
            problems_of(Config(overlay=overlay)), ["overlay.public_url: is of no use without overlay.listen"]
        )

    def test_overlay_networks(self) -> None:
        """Each network and address that is none is told with its place in the list."""
        overlay = OverlayConfig(dial_networks=("10.0.0.0/8", "10.0.0.1/8", "1.2"), webrtc_addresses=("::1", "1.2.3"))
        problems = problems_of(Config(overlay=overlay))
        places = [problem.split(": is no ")[0] for problem in problems]
        self.assertEqual(
            places, ["overlay.dial_networks[1]", "overlay.dial_networks[2]", "overlay.webrtc_addresses[1]"]
        )

    def test_one_mistake_once(self) -> None:
        """A rule says nothing about a key that is known to be wrong."""
        config = Config(auth=AuthConfig(mode="token"), overlay=OverlayConfig(public_url="ws://peer.example:1"))
        self.assertEqual(problems_of(config, wrong=frozenset({"auth.secret_file", "overlay.public_url"})), [])
