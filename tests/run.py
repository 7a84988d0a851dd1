"""Runs the tests: ``python tests/run.py`` from the root of the project, or the same under coverage.

Without arguments the unit suite runs: everything under tests/ that needs no port and no process. Warnings are errors.
The last line that is printed counts: ``N passed, N failed``, with ``, N skipped`` behind it when something was. An
unexpected success has failed; a failure that a test expects (``todo``) counts as skipped.

Where the environment says ``CI=true`` a test that is skipped because something is "missing:" has failed: there
everything that tests need must be installed.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests"

#: Packages whose tests use ports and processes -> the option that runs them, beside --all.
APART = {"integration": "--integration", "interop": "--interop", "conformance": "--conformance"}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Run the tests of meshrelay.")
    parser.add_argument("names", nargs="*", help="what to run: tests.wire, tests.wire.test_frame.VectorTests, ...")
    parser.add_argument("--all", action="store_true", help="run everything")
    for package, option in APART.items():
        parser.add_argument(option, action="store_true", help=f"run tests/{package} as well")
    parser.add_argument("--random", action="store_true", help="run in random order")
    parser.add_argument("--seed", type=int, default=None, help="seed of the random order; said in the output")
    return parser.parse_args()


def _use_the_root() -> None:
    """Make ``tests`` importable, and not what is inside it: tests/http must not hide the http of Python."""
    sys.path[:] = [str(ROOT), *(path for path in sys.path if Path(path or ".").resolve() not in (TESTS, ROOT))]


def _names_to_run(arguments: argparse.Namespace) -> list[str]:
    if arguments.names:
        return list(arguments.names)
    names = [f"tests.{path.stem}" for path in sorted(TESTS.glob("test_*.py"))]
    for path in sorted(TESTS.iterdir()):
        is_wanted = path.name not in APART or arguments.all or getattr(arguments, path.name)
        if (path / "__init__.py").exists() and is_wanted:
            names.append(f"tests.{path.name}")
    return names


def _load(names: Iterable[str], seed: int | None) -> Any:
    from twisted.trial.runner import TestLoader

    loader = TestLoader()
    if seed is not None:
        shuffle = random.Random(seed)
        loader.sorter = lambda _: shuffle.random()
        names = sorted(names, key=lambda _: shuffle.random())
    suite = loader.suiteFactory()
    for name in names:
        suite.addTest(loader.loadByName(name, recurse=True))
    return suite


def _is_missing(reason: object) -> bool:
    return str(reason).strip("'\"").startswith("missing:")


def count(result: Any, is_strict: bool) -> tuple[int, int, int]:
    """Count tests: passed, failed, skipped.

    :param result: the reporter of a finished run.
    :param is_strict: a test that is skipped because something is missing has failed.
    """
    broken = [test for test, _ in [*result.failures, *result.errors]]
    broken += [entry[0] for entry in result.unexpectedSuccesses]
    broken += [test for test, reason in result.skips if is_strict and _is_missing(reason)]
    # A test can fail more than once, and also after it has passed: in its clean-up.
    failed = {test.id() for test in broken}
    skipped = {entry[0].id() for entry in [*result.skips, *result.expectedFailures]} - failed
    return max(0, result.testsRun - len(failed) - len(skipped)), len(failed), len(skipped)


def last_line(passed: int, failed: int, skipped: int) -> str:
    """Return the line that programs read."""
    return f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else "")


def main() -> int:
    """Run what the command line asks for and return the exit status: 0 = nothing failed."""
    arguments = _arguments()
    _use_the_root()
    os.chdir(ROOT)
    warnings.simplefilter("error")
    # Not before: an import may warn, and Twisted looks at the path.
    from twisted.trial.reporter import TreeReporter
    from twisted.trial.runner import TrialRunner

    seed = arguments.seed
    if seed is None and arguments.random:
        seed = random.SystemRandom().randrange(1 << 32)
    suite = _load(_names_to_run(arguments), seed)
    result = TrialRunner(TreeReporter).run(suite)
    if seed is not None:
        sys.stdout.write(f"random order: --seed {seed}\n")
    passed, failed, skipped = count(result, is_strict=os.environ.get("CI") == "true")
    sys.stderr.flush()
    sys.stdout.write(last_line(passed, failed, skipped) + "\n")
    sys.stdout.flush()
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
