"""The example of the documentation in a real daemon, used by a client that knows the published protocol alone."""

from __future__ import annotations

import struct
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.daemon import Daemon
from tests.integration.wire_clients import TcpClient

EXAMPLES = Path(__file__).resolve().parents[2] / "etc"

#: From the table at the top of the example.
SERVER_TIME, ROLL_DICE, REMIND, LOBBY, WHO_IS_HERE, REMINDER, COUNT = 1, 2, 3, 10, 11, 12, 13

JOIN, BROADCAST = 111, 113
MALFORMED_PAYLOAD, REFUSED = 1, 8

#: A copy of the example whose lobby is told the count each second, for nobody waits a minute here.
QUICK = "quick_example_app"


def sign_in(daemon: Daemon, user: str) -> tuple[TcpClient, bytes]:
    """Return a client, and the lobby that it was told of."""
    client = TcpClient(daemon)
    client.hello(user)
    push = client.push()
    assert (push.ver, push.cmd) == (2, LOBBY), push
    return client, push.payload


class ExampleAppTests(SynchronousTestCase):
    """What the example promises, over TCP."""

    def test_everything(self) -> None:
        """Commands answer, a wrong one and a banned word are refused with their code, and news reach the others."""
        with Daemon({"app": {"module": "example_app"}}, str(EXAMPLES)) as daemon:
            ann, lobby = sign_in(daemon, "ann")
            bob, same = sign_in(daemon, "bob")
            self.assertEqual((len(lobby), same), (52, lobby))
            self.check_commands(ann)
            for client, others in ((ann, b""), (bob, b"ann")):
                client.ask(1, JOIN, lobby)
                push = client.push()
                self.assertEqual((push.ver, push.cmd, push.payload), (2, WHO_IS_HERE, others))
            self.assertEqual(ann.refused(1, BROADCAST, lobby + b"say Shibboleth"), REFUSED)
            ann.ask(1, BROADCAST, lobby + b"hello")
            push = bob.push()
            self.assertEqual((push.cmd, push.payload), (BROADCAST, lobby + b"\x03ann" + b"hello"))
            for client in (ann, bob):
                client.close()

    def check_commands(self, client: TcpClient) -> None:
        """Use the commands of the example."""
        (milliseconds,) = struct.unpack("!Q", client.ask(2, SERVER_TIME))
        self.assertLess(abs(milliseconds / 1000 - time.time()), 60)
        dice = client.ask(2, ROLL_DICE, bytes((20, 6)))
        self.assertEqual(len(dice), 20)
        self.assertLessEqual(set(dice), set(range(1, 7)))
        self.assertEqual(client.refused(2, ROLL_DICE, bytes((0, 6))), MALFORMED_PAYLOAD)
        client.ask(2, REMIND, struct.pack("!H", 1) + b"tea")
        push = client.push()
        self.assertEqual((push.cmd, push.payload), (REMINDER, b"tea"))

    def test_ticks(self) -> None:
        """The lobby is told again and again how many are in it."""
        folder = Path(self.mktemp()).resolve()
        folder.mkdir()
        example = (EXAMPLES / "example_app.py").read_text("utf-8")
        (folder / f"{QUICK}.py").write_text(example.replace("self.announce_count, 60.0", "self.announce_count, 1.0"))
        with Daemon({"app": {"module": QUICK}}, str(folder)) as daemon:
            ann, lobby = sign_in(daemon, "ann")
            ann.ask(1, JOIN, lobby)
            self.assertEqual(ann.push().cmd, WHO_IS_HERE)
            for _ in range(2):
                push = ann.push()
                self.assertEqual((push.ver, push.cmd, push.payload), (2, COUNT, struct.pack("!I", 1)))
            ann.close()
