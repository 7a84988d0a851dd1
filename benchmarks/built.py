"""C sources of this folder -> programs and libraries in a cache directory, built when they are first wanted.

The cache is ``$MESHRELAY_BENCHMARK_CACHE``, or ``meshrelay-benchmarks`` where the user's caches are. A file is named
after what it was built from, so a changed source is built anew. The packages of Node that are measured stand there too,
and Crossbar.io in a virtual environment of its own, as it brings many packages.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["CROSSBAR_VERSION", "build", "cache_directory", "install_crossbar", "install_node_packages"]

HERE = Path(__file__).resolve().parent

BUILD_SECONDS = 120.0
INSTALL_SECONDS = 600.0

CROSSBAR_VERSION = "26.10.1"


def cache_directory() -> Path:
    """The directory, made if it is not there."""
    named = os.environ.get("MESHRELAY_BENCHMARK_CACHE")
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    directory = Path(named) if named else caches / "meshrelay-benchmarks"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def build(source: str, is_library: bool = False) -> Path:
    """Compile one C file of this folder.

    :returns: the program, or the shared library.
    :raises OSError: there is no compiler.
    :raises subprocess.CalledProcessError: it refused.
    """
    text = (HERE / source).read_bytes()
    stem = f"{Path(source).stem}-{hashlib.sha256(text).hexdigest()[:16]}"
    target = cache_directory() / (f"{stem}.so" if is_library else stem)
    if not target.exists():
        # Under another name first: somebody else may be building the same.
        partial = target.with_name(f"{target.name}.{os.getpid()}")
        options = ["-shared", "-fPIC"] if is_library else []
        command = [os.environ.get("CC", "cc"), "-O2", *options, "-o", str(partial), str(HERE / source)]
        subprocess.run(command, check=True, timeout=BUILD_SECONDS)
        partial.rename(target)
    return target


def install_node_packages() -> Path:
    """Install what ``peers/package.json`` names, in these versions.

    :returns: the directory to run the programs of ``peers`` in.
    :raises OSError: there is no npm.
    :raises subprocess.SubprocessError: npm failed, or took too long.
    """
    wanted = (HERE / "peers" / "package.json").read_bytes()
    directory = cache_directory() / f"node-{hashlib.sha256(wanted).hexdigest()[:16]}"
    done = directory / "installed"
    if not done.exists():
        directory.mkdir(exist_ok=True)
        (directory / "package.json").write_bytes(wanted)
        command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
        subprocess.run(command, cwd=directory, check=True, timeout=INSTALL_SECONDS, stdout=subprocess.DEVNULL)
        done.touch()
    for program in (HERE / "peers").glob("*.js"):
        shutil.copy(program, directory)
    return directory


def install_crossbar() -> Path:
    """Install Crossbar.io into a virtual environment of its own, in the version that is named here.

    :returns: its program.
    :raises OSError: a file could not be written.
    :raises subprocess.SubprocessError: pip failed, or took too long.
    """
    directory = cache_directory() / f"crossbar-{CROSSBAR_VERSION}"
    done = directory / "installed"
    if not done.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(directory)], check=True, timeout=BUILD_SECONDS)
        command = [str(directory / "bin" / "python"), "-m", "pip", "install", f"crossbar=={CROSSBAR_VERSION}"]
        subprocess.run(command, check=True, timeout=INSTALL_SECONDS, stdout=subprocess.DEVNULL)
        done.touch()
    return directory / "bin" / "crossbar"
