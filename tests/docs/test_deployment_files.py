"""Units, images and compose files: they name what there is, and their configurations are good."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from configparser import RawConfigParser
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.cli.ca import init_authority, issue_certificate
from meshrelay.cli.check_config import command as check_config
from meshrelay.config.load import read_config
from meshrelay.config.schema import Config
from meshrelay.session.drain import LINGER_SECONDS

ROOT = Path(__file__).parent.parent.parent
ETC = ROOT / "etc"


class UnitTests(SynchronousTestCase):
    """etc/systemd."""

    def setUp(self) -> None:
        """Read both."""
        self.single = (ETC / "systemd" / "meshrelay.service").read_text(encoding="utf-8")
        self.template = (ETC / "systemd" / "meshrelay@.service").read_text(encoding="utf-8")

    def test_alike(self) -> None:
        """The unit of several nodes is the one of a single node but for the name of the file."""
        service = self.single[self.single.index("[Service]") :]
        expected = service.replace("meshrelay.toml", "%i.toml")
        expected = expected.replace("StateDirectory=meshrelay\n", "StateDirectory=meshrelay-%i\n")
        self.assertEqual(self.template[self.template.index("[Service]") :], expected)

    def test_life(self) -> None:
        """The node tells systemd how it is, and a drain has the time that it may take."""
        parser = RawConfigParser(strict=False)
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read_string(self.single)
        service = parser["Service"]
        self.assertEqual((service["Type"], service["NotifyAccess"]), ("notify", "main"))
        self.assertGreater(float(service["TimeoutStopSec"]), Config().node.drain_seconds + LINGER_SECONDS)
        self.assertGreater(float(service["WatchdogSec"]), 10)
        # By the shell's own word: slim machines have no /bin/kill.
        self.assertEqual(service["ExecReload"], "/bin/sh -c 'kill -HUP $$MAINPID'")

    def test_systemd(self) -> None:
        """systemd knows every word of them, and finds little that an intruder could reach beyond the node."""
        program = shutil.which("systemd-analyze")
        if program is None:
            self.skipTest("missing: systemd-analyze")
        folder = Path(self.mktemp())
        folder.mkdir()
        for name, text in (("meshrelay.service", self.single), ("meshrelay-at@.service", self.template)):
            path = folder / name
            path.write_text(text, encoding="utf-8")
            asked = [program, "security", "--offline=yes", str(path)]
            done = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False)
            if "nrecognized option" in done.stderr:
                self.skipTest("systemd-analyze is too old")
            self.assertNotIn("Unknown", done.stdout + done.stderr)
            exposure = re.search(r"exposure level for \S+: ([0-9.]+)", done.stdout)
            assert exposure is not None, done.stdout + done.stderr
            self.assertLess(float(exposure[1]), 2.0)


class ImageTests(SynchronousTestCase):
    """etc/docker."""

    def setUp(self) -> None:
        """Read the instructions, lines that go on joined."""
        text = (ETC / "docker" / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        self.instructions = [tuple(line.split(None, 1)) for line in lines]

    def all_of(self, instruction: str) -> list[str]:
        """What stands behind each."""
        return [rest for name, rest in self.instructions if name == instruction]

    def test_user(self) -> None:
        """The node does not run as root, and what runs it is a list, so that it gets the signals itself."""
        (user,) = self.all_of("USER")
        self.assertTrue(user.split(":")[0].isdigit() and int(user.split(":")[0]) > 0)
        (entry,) = self.all_of("ENTRYPOINT")
        self.assertTrue(entry.startswith('["twistd", "-n", "--pidfile="'), entry)
        self.assertEqual(self.all_of("STOPSIGNAL"), ["SIGTERM"])

    def test_health(self) -> None:
        """The health check asks the page that there is."""
        (check,) = self.all_of("HEALTHCHECK")
        self.assertIn("http://127.0.0.1:7000/health/ready", check)

    def test_names(self) -> None:
        """Extras and files that it names exist."""
        (install,) = [run for run in self.all_of("RUN") if "pip install" in run]
        extras = re.findall(r"\.\[([^\]]*)\]", install)[0].split(",")
        setup = RawConfigParser()
        setup.read(ROOT / "setup.cfg")
        self.assertEqual(set(extras) - set(setup["options.extras_require"]), set())
        for copied in self.all_of("COPY"):
            source = copied.split()[-2]
            self.assertTrue(source.startswith("/srv") or (ROOT / source).exists(), copied)

    def test_configuration(self) -> None:
        """Its configuration is good, and listens on the ports that the image names."""
        folder = Path(self.mktemp())
        folder.mkdir()
        config, text = checked(ETC / "docker" / "meshrelay.toml", folder, {})
        (ports,) = self.all_of("EXPOSE")
        for port in ports.split():
            self.assertIn(f'{"udp" if port.endswith("udp") else "tcp"}:{port.split("/")[0]}"', text)
        self.assertEqual(config.auth.mode, "token")


def checked(path: Path, folder: Path, environ: Mapping[str, str]) -> tuple[Config, str]:
    """Read a configuration with its files made, as ``meshrelay check-config`` does; returns it and its text."""
    text = path.read_text(encoding="utf-8")
    for name in set(re.findall(r'"/run/secrets/(\w+)"', text)):
        (folder / name).write_text("0123456789abcdef" * 4)
    made = folder / path.name
    made.write_text(text.replace("/run/secrets", str(folder)).replace("/ca/", f"{folder}/ca/"), encoding="utf-8")
    here = {name: value.replace("/ca/", f"{folder}/ca/") for name, value in environ.items()}
    result = CliRunner().invoke(check_config, [str(made)], env=here)
    assert result.exit_code == 0, result.output
    return read_config(str(made), here), text


class ComposeTests(SynchronousTestCase):
    """etc/compose."""

    def setUp(self) -> None:
        """Read it."""
        self.compose: dict[str, Any] = msgspec.yaml.decode(
            (ETC / "compose" / "compose.yml").read_text(encoding="utf-8")
        )
        self.services: dict[str, Any] = self.compose["services"]
        self.nodes = {name: each for name, each in self.services.items() if name.startswith("node")}

    def test_configurations(self) -> None:
        """Each node's configuration is good; IDs and certificates are its own, and the directory is the Redis here."""
        folder = Path(self.mktemp())
        (folder / "ca").mkdir(parents=True)
        now = datetime.now(UTC)
        init_authority(folder / "ca", now)
        self.assertEqual(len(self.nodes), 3)
        for name, node in self.nodes.items():
            issue_certificate(folder / "ca", name, (name,), now)
            config, _ = checked(ETC / "compose" / "meshrelay.toml", folder, node["environment"])
            self.assertEqual((config.node.id, config.mesh.advertised_address), (name, f"{name}:6779"))
            self.assertEqual(config.mesh.directory, "redis://redis:6379/0")
            wanted = {config.listen.tcp, config.listen.websocket, f"{config.listen.udp}/udp", config.listen.http}
            inside = {f"{'udp' if port.endswith('udp') else 'tcp'}:{port.split(':')[-1]}" for port in node["ports"]}
            self.assertEqual(inside, wanted)

    def test_ports(self) -> None:
        """No two want the same port of the machine, and nothing is open to other machines."""
        ports = [port for service in self.services.values() for port in service.get("ports", [])]
        self.assertEqual([port for port in ports if not port.startswith("127.0.0.1:")], [])
        outside = [(port.split(":")[1], port.endswith("udp")) for port in ports]
        self.assertEqual(len(set(outside)), len(outside))

    def test_names(self) -> None:
        """Files, services and secrets that it names exist."""
        made_by_hand = {"./ca", "./token.secret", "./mesh.secret"}
        for service in self.services.values():
            for volume in service.get("volumes", []):
                source = volume.split(":")[0]
                self.assertTrue(source in made_by_hand or (ETC / "compose" / source).exists(), source)
            self.assertEqual(set(service.get("depends_on", {})) - set(self.services), set())
            self.assertEqual(set(service.get("secrets", [])) - set(self.compose["secrets"]), set())
        build = self.nodes["node1"]["build"]
        self.assertTrue((ETC / "compose" / build["context"] / build["dockerfile"]).is_file())
        scrape = msgspec.yaml.decode((ETC / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
        (job,) = scrape["scrape_configs"]
        targets = {target.split(":")[0] for target in job["static_configs"][0]["targets"]}
        self.assertEqual(targets, set(self.nodes))
        (source,) = msgspec.yaml.decode((ETC / "compose" / "grafana.yml").read_text(encoding="utf-8"))["datasources"]
        self.assertIn(source["url"].split("//")[1].split(":")[0], self.services)

    def test_stop(self) -> None:
        """A node is given the time that its drain may take."""
        for node in self.nodes.values():
            self.assertGreater(int(node["stop_grace_period"].rstrip("s")), Config().node.drain_seconds + LINGER_SECONDS)
