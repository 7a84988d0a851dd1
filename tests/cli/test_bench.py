"""Tests of `meshrelay.cli.bench`."""

from __future__ import annotations

import jwt
from click.testing import CliRunner, Result
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.cli import bench
from meshrelay.cli.bench import client_maker, command


class OptionTests(SynchronousTestCase):
    """What is refused before anything runs."""

    def call(self, *arguments: str) -> Result:
        """Call the command."""
        return CliRunner().invoke(command, arguments)

    def check_refused(self, expected: str, *arguments: str) -> None:
        """Status 2, and a text that names the option."""
        result = self.call(*arguments)
        self.assertEqual(result.exit_code, 2, result.output)
        self.assertIn(expected, result.output)

    def test_bounds(self) -> None:
        """More clients, bytes, messages or seconds than the program can do well are refused."""
        for option, value in (("--clients", "20001"), ("--size", "8"), ("--rate", "2000000"), ("--seconds", "9999")):
            self.check_refused(option, option, value)

    def test_url(self) -> None:
        """An address that is none."""
        self.check_refused("--url", "--url", "http://127.0.0.1:7000")

    def test_open_files(self) -> None:
        """More clients than the process may have files open."""
        self.patch(bench, "raise_open_files_limit", lambda: 100)
        self.check_refused("allows 50", "--clients", "51")

    def test_plot(self) -> None:
        """A picture without the library for it is refused before the run, not behind it."""
        self.patch(bench, "can_plot", lambda: False)
        self.check_refused("benchmarks", "--plot", "x.png")

    def test_secret(self) -> None:
        """A secret that is not there."""
        self.patch(bench, "raise_open_files_limit", lambda: 1000)
        self.check_refused("--secret-file", "--secret-file", "/nowhere/secret")


class ClientTests(SynchronousTestCase):
    """Whom it makes."""

    def test_clients(self) -> None:
        """Each is a user of its own with a token of its own, and they take turns at the nodes."""
        secret = b"s" * 40
        urls = ("tcp://127.0.0.1:1", "ws://127.0.0.1:2/")
        make = client_maker(Clock(), urls, secret, 5.0)
        connectors = [make(number)._connector for number in range(3)]
        users = {connector._machine._identity.user for connector in connectors}
        self.assertEqual(len(users), 3)
        self.assertEqual([connector._address.url for connector in connectors], [urls[0], urls[1], urls[0]])
        tokens = [jwt.decode(str(each._token), secret, algorithms=["HS256"]) for each in connectors]
        self.assertEqual({token["sub"] for token in tokens}, users)
