"""Whichever way the package is installed, twistd finds the plug-in and the meshrelay command runs.

Each test installs a copy of the tree into a virtual environment of its own. The dependencies come from the running
environment through a path file. The build back end does as well when it is new enough; else pip downloads one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from importlib.metadata import version
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parents[2]

#: What twistd's own script does; -c puts the working directory on the path, which must not matter.
TWISTD = "import sys; from twisted.scripts.twistd import run; sys.argv[0] = 'twistd'; run()"


def has_back_end() -> bool:
    """Tell whether the running environment can build: pyproject.toml asks for setuptools 77."""
    return int(version("setuptools").partition(".")[0]) >= 77


def run(*arguments: str | Path, cwd: Path) -> str:
    """Run a program to its end.

    :returns: what it wrote to standard output.
    :raises AssertionError: it failed; the text is what it wrote.
    """
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MESHRELAY_"))}
    result = subprocess.run(
        [str(argument) for argument in arguments],
        cwd=cwd,
        env=environ,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if result.returncode:
        raise AssertionError(f"{arguments} ended with {result.returncode}:\n{result.stdout}\n{result.stderr}")
    return result.stdout


class PackagingTests(SynchronousTestCase):
    """Installing."""

    def setUp(self) -> None:
        self.place = Path(self.mktemp()).resolve()
        self.place.mkdir(parents=True)
        self.elsewhere = self.place / "elsewhere"
        self.elsewhere.mkdir()
        self.tree = self.copy_tree()
        self.python = self.make_environment()

    def copy_tree(self) -> Path:
        """Return a copy of the project, so that building leaves nothing behind in the real one."""
        ignored = shutil.ignore_patterns(".*", "_trial_temp*", "__pycache__", "*.egg-info", "build", "dist", "_build")
        tree = self.place / "tree"
        shutil.copytree(ROOT, tree, ignore=ignored)
        (tree / "twisted" / "plugins" / "dropin.cache").write_bytes(b"not to be shipped")
        return tree

    def make_environment(self) -> Path:
        """Return the interpreter of a virtual environment that has the dependencies and not the package."""
        home = self.place / "venv"
        venv.create(home, symlinks=True)
        packages = Path(sysconfig.get_path("purelib", vars={"base": str(home)}))
        (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
        return home / "bin" / "python"

    def pip_install(self, *arguments: str | Path) -> None:
        """Install without the dependencies."""
        options = ("--no-index", "--no-build-isolation") if has_back_end() else ()
        run(
            *(sys.executable, "-m", "pip", "--python", self.python, "install", "--quiet", "--no-deps"),
            *("--ignore-installed", *options, *arguments),
            cwd=self.elsewhere,
        )

    def build(self, *kinds: str) -> None:
        """Build into ``dist``."""
        options = ("--no-isolation",) if has_back_end() else ()
        run(sys.executable, "-m", "build", *options, *kinds, cwd=self.tree)

    def built(self, pattern: str) -> Path:
        """Return the one file in ``dist`` of this pattern."""
        (path,) = (self.tree / "dist").glob(pattern)
        return path

    def check_installed(self, origin: Path) -> None:
        """Check that the package comes from below `origin`, that twistd lists it and that its command runs."""
        file = run(self.python, "-c", "import meshrelay; print(meshrelay.__file__)", cwd=self.elsewhere)
        self.assertTrue(Path(file.strip()).is_relative_to(origin), file)
        # A second time with the plug-in cache of the first.
        for _ in range(2):
            listing = run(self.python, "-c", TWISTD, "--help", cwd=self.elsewhere)
            self.assertRegex(listing, r"(?m)^    meshrelay +realtime groups")
            self.assertRegex(listing, r"(?m)^    web ")
        usage = run(self.python, "-c", TWISTD, "meshrelay", "--help", cwd=self.elsewhere)
        self.assertIn("--config=", usage)
        self.check_wrong_configuration()
        self.assertIn("meshrelay, version", run(self.python.with_name("meshrelay"), "--version", cwd=self.elsewhere))
        sample = run(self.python.with_name("meshrelay"), "default-config", cwd=self.elsewhere)
        self.assertEqual(sample, (ROOT / "etc" / "meshrelay.toml").read_text(encoding="utf-8"))

    def check_wrong_configuration(self) -> None:
        """Check that a wrong configuration ends twistd with status 1, the problems and nothing else."""
        (self.elsewhere / "wrong.toml").write_text("[session]\nreplay_bytes = -1\noutbox_byte = 3\n")
        command = [str(self.python), "-c", TWISTD, "-n", "--pidfile=", "meshrelay", "--config", "wrong.toml"]
        result = subprocess.run(command, cwd=self.elsewhere, capture_output=True, text=True, timeout=180, check=False)
        self.assertEqual((result.returncode, result.stdout), (1, ""))
        paths = [line.partition(":")[0] for line in result.stderr.splitlines()]
        self.assertEqual(paths, ["session.replay_bytes", "session.outbox_byte"])

    def test_wheel(self) -> None:
        """A wheel that was made from the sdist brings the plug-in, the types and no cache."""
        self.build()
        with zipfile.ZipFile(self.built("*.whl")) as wheel:
            names = wheel.namelist()
        self.assertIn("twisted/plugins/meshrelay_plugin.py", names)
        self.assertIn("meshrelay/py.typed", names)
        tops = {name.partition("/")[0] for name in names}
        self.assertEqual({top for top in tops if not top.endswith(".dist-info")}, {"meshrelay", "twisted"})
        self.assertEqual(
            [name for name in names if name.startswith("twisted/")], ["twisted/plugins/meshrelay_plugin.py"]
        )
        self.pip_install(self.built("*.whl"))
        self.check_installed(self.place / "venv")

    def test_sdist(self) -> None:
        """The sdist has what is needed to build, test and document, and installs."""
        self.build("--sdist")
        with tarfile.open(self.built("*.tar.gz")) as sdist:
            names = {name.partition("/")[2] for name in sdist.getnames()}
        for name in ("LICENSE", "setup.cfg", "etc/meshrelay.toml", "tests/test_tap.py", "meshrelay/py.typed"):
            self.assertIn(name, names)
        self.assertIn("twisted/plugins/meshrelay_plugin.py", names)
        self.assertNotIn("twisted/plugins/dropin.cache", names)
        self.pip_install(self.built("*.tar.gz"))
        self.check_installed(self.place / "venv")

    def test_editable(self) -> None:
        """An editable install is a plain path, along which twistd finds the plug-in."""
        (self.tree / "twisted" / "plugins" / "dropin.cache").unlink()
        self.pip_install("--editable", self.tree)
        self.check_installed(self.tree)
