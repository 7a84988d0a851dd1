"""An application that is installed as a Twisted plug-in: a real daemon finds it without being told of it."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.daemon import Daemon
from tests.integration.wire_clients import TcpClient

REFUSED = 8

#: A package of somebody who writes an application, and what makes Twisted find it.
APPLICATION = '''
from twisted.plugin import IPlugin
from zope.interface import implementer

from meshrelay.errors import Refused
from meshrelay.interfaces import IMeshRelayApp


@implementer(IPlugin, IMeshRelayApp)
class Shout:
    """Answers in capitals."""

    def setup(self, relay):
        relay.command(3, 1, lambda ver, cmd, payload, user: payload.upper() + b", " + user.user_id.encode())
        relay.before(3, 1, self.keep_out)

    def keep_out(self, ver, cmd, payload, user):
        if payload == b"quiet":
            raise Refused("not so loud")
'''

PLUGIN = """
from shout_application import Shout

shout = Shout()
"""

#: A second one, named in the configuration, to see that both are set up.
MODULE = """
def setup(relay):
    relay.command(4, 1, lambda ver, cmd, payload, user: b"module")
"""


class PluginAppTests(SynchronousTestCase):
    """``twisted/plugins`` in a folder of the Python path."""

    def install(self) -> str:
        """Install the application; return what goes into PYTHONPATH."""
        folder = Path(self.mktemp()).resolve()
        plugins = folder / "twisted" / "plugins"
        plugins.mkdir(parents=True)
        (folder / "shout_application.py").write_text(APPLICATION)
        (folder / "shout_module.py").write_text(MODULE)
        (plugins / "shout_plugin.py").write_text(PLUGIN)
        return str(folder)

    def test_plugin(self) -> None:
        """Its commands work and its hooks are asked, beside those of the module that the configuration names."""
        with Daemon({"app": {"module": "shout_module"}}, self.install()) as daemon:
            client = TcpClient(daemon)
            self.addCleanup(client.close)
            client.hello("ann")
            self.assertEqual(client.ask(3, 1, b"hello"), b"HELLO, ann")
            self.assertEqual(client.refused(3, 1, b"quiet"), REFUSED)
            self.assertEqual(client.ask(4, 1), b"module")
            client.close()
