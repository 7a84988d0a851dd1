"""The rules of the house that no linter knows.

``python -m tests.test_house --write`` writes the list of exported names anew; the change is then seen in review.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "meshrelay"
EXPORTS = ROOT / "tests" / "vectors" / "exports.txt"

MAX_MODULE_LINES = 500
MAX_FUNCTION_LINES = 60
MAX_CAMEL_CASE_LINES = 5

#: Protocols, factories, transports, services, options and pages.
_TWISTED_NAMES = """
    getDelayedCalls listenTCP listenSSL childDataReceived processExited processEnded
    connectionMade dataReceived connectionLost datagramReceived connectionRefused buildProtocol startProtocol
    stopProtocol makeConnection startFactory stopFactory pauseProducing resumeProducing stopProducing
    registerProducer unregisterProducer writeSequence loseConnection abortConnection getPeer getHost
    setTcpNoDelay getTcpNoDelay setTcpKeepAlive getTcpKeepAlive readConnectionLost writeConnectionLost
    loseWriteConnection startService stopService makeService parseOptions postOptions optParameters optFlags
    startedConnecting clientConnectionLost clientConnectionFailed getChild getChildWithDefault callLater logPrefix
    doRead startReading stopReading
    serverConnectionForTLS gotLength processingFailed resetTimeout
    resolveHostName resolutionBegan addressResolved resolutionComplete
"""
_AUTOBAHN_NAMES = """
    onConnect onConnecting onOpen onMessage onMessageBegin onMessageFrameBegin onMessageFrameData onMessageFrameEnd
    onMessageFrame onMessageEnd onClose onPing onPong onHandshake
"""
_TRIAL_NAMES = "setUp tearDown runTest"

#: Names that a framework calls, and nothing else of ours is in camelCase.
FRAMEWORK_NAMES = frozenset((_TWISTED_NAMES + _AUTOBAHN_NAMES + _TRIAL_NAMES).split())
FRAMEWORK_PREFIXES = ("opt_", "remote_", "render_", "assert")


#: The part of the package that users import from; its names are a promise.
PUBLIC = (
    "meshrelay.client",
    "meshrelay.errors",
    "meshrelay.interfaces",
    "meshrelay.model",
    "meshrelay.peer_relay",
    "meshrelay.relay_client",
    "meshrelay.testing",
)

#: Calls that make something which can change.
_MUTABLE_CALLS = frozenset({"list", "dict", "set", "bytearray", "deque", "Counter", "defaultdict", "OrderedDict"})
_MUTABLE = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)


def module_paths() -> list[Path]:
    """All modules of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def module_name(path: Path) -> str:
    """The dotted name of a module."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def parse(path: Path) -> ast.Module:
    """The syntax tree of a module."""
    return ast.parse(path.read_text("utf-8"), str(path))


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """All functions and methods of a module."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def is_camel_case(name: str) -> bool:
    """Whether a name is in camelCase."""
    return re.search(r"[a-z0-9][A-Z]", name) is not None


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function that do something: without its head, its docstring, comments and blank lines."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return len({line for statement in body for node in ast.walk(statement) for line in lines_of(node)})


def lines_of(node: ast.AST) -> tuple[int, ...]:
    """The first and the last line of a piece of code; a bare ``try:`` does nothing."""
    if isinstance(node, ast.Try) or not isinstance(node, (ast.stmt, ast.expr)):
        return ()
    return (node.lineno, node.end_lineno or node.lineno)


def module_level(tree: ast.Module) -> Iterator[tuple[str, ast.expr, int]]:
    """Name, value and line of each assignment at the level of the module."""
    for node in tree.body:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    yield target.id, node.value, node.lineno
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            yield node.target.id, node.value, node.lineno


def is_mutable(value: ast.expr) -> bool:
    """Whether an expression makes something that can change."""
    if isinstance(value, ast.Call):
        function = value.func
        name = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
        return name in _MUTABLE_CALLS
    return isinstance(value, _MUTABLE)


def exported_names() -> str:
    """One line for each name that users may import."""
    lines = []
    for path in module_paths():
        name = module_name(path)
        if name in PUBLIC or name.startswith(tuple(f"{public}." for public in PUBLIC)):
            lines += [f"{name}.{exported}" for exported in getattr(import_module(name), "__all__", ())]
    return "\n".join(sorted(lines)) + "\n"


class NameTests(SynchronousTestCase):
    """Ours is snake_case."""

    def test_functions(self) -> None:
        """Only what a framework calls is in camelCase."""
        found = [
            f"{path.relative_to(ROOT)}:{function.lineno} {function.name}"
            for path in module_paths()
            for function in functions(parse(path))
            if is_camel_case(function.name)
            and function.name not in FRAMEWORK_NAMES
            and not function.name.startswith(FRAMEWORK_PREFIXES)
        ]
        self.assertEqual(found, [])

    def test_arguments(self) -> None:
        """No argument is in camelCase."""
        found = [
            f"{path.relative_to(ROOT)}:{function.lineno} {argument.arg}"
            for path in module_paths()
            for function in functions(parse(path))
            if not is_camel_case(function.name)
            for argument in [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
            if is_camel_case(argument.arg)
        ]
        self.assertEqual(found, [])

    def test_thin(self) -> None:
        """What a framework calls translates and hands on: five lines at most."""
        found = [
            f"{path.relative_to(ROOT)}:{function.lineno} {function.name} has {body_lines(function)} lines"
            for path in module_paths()
            for function in functions(parse(path))
            if is_camel_case(function.name) and function.name not in ("startService", "stopService", "makeService")
            if body_lines(function) > MAX_CAMEL_CASE_LINES
        ]
        self.assertEqual(found, [])


class MirrorTests(SynchronousTestCase):
    """tests/a/test_b.py tests meshrelay/a/b.py."""

    def test_every_module(self) -> None:
        """Every module with code has a test module."""
        missing = []
        for path in module_paths():
            inside = path.relative_to(PACKAGE)
            # Nothing in an interface can be wrong by itself.
            if path.stem.startswith("__") or "interfaces" in (inside.parts[0], path.stem):
                continue
            if not (ROOT / "tests" / inside.parent / f"test_{path.name}").exists():
                missing.append(str(inside))
        self.assertEqual(missing, [])

    def test_every_test_module(self) -> None:
        """Every test module has a module, or the package, or a part of a module that it names."""
        packages = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
        orphans = []
        for package in sorted(packages):
            folder = ROOT / "tests" / package
            names = {path.stem for path in (PACKAGE / package).glob("*.py")}
            for path in sorted(folder.glob("test_*.py")):
                name = path.stem.removeprefix("test_")
                # A large module may have more test modules: reliability -> test_reliability_events.
                if not any(name == module or name.startswith(f"{module}_") for module in names):
                    orphans.append(str(path.relative_to(ROOT)))
        self.assertEqual(orphans, [])


class SizeTests(SynchronousTestCase):
    """What is too long is split."""

    def test_modules(self) -> None:
        """No module has more than 500 lines."""
        long = {
            module_name(path): lines
            for path in module_paths()
            if (lines := len(path.read_text("utf-8").splitlines())) > MAX_MODULE_LINES
        }
        self.assertEqual(long, {})

    def test_functions(self) -> None:
        """No function has more than 60 lines."""
        long = [
            f"{path.relative_to(ROOT)}:{function.lineno} {function.name}"
            for path in module_paths()
            for function in functions(parse(path))
            if (function.end_lineno or 0) - function.lineno + 1 > MAX_FUNCTION_LINES
        ]
        self.assertEqual(long, [])


class SurfaceTests(SynchronousTestCase):
    """What can be imported."""

    def test_all(self) -> None:
        """Every module says what it exports, and has it."""
        wrong = []
        for path in module_paths():
            # Looked at in the text first: a package that re-exports nothing need not say so.
            if path.stem.startswith("__") and not list(functions(parse(path))):
                continue
            module = import_module(module_name(path))
            names = getattr(module, "__all__", None)
            if names is None:
                wrong.append(f"{module.__name__} has no __all__")
                continue
            wrong += [f"{module.__name__}.{name} is missing" for name in names if not hasattr(module, name)]
            if len(set(names)) != len(names):
                wrong.append(f"{module.__name__} exports a name twice")
        self.assertEqual(wrong, [])

    def test_exports(self) -> None:
        """The names that users import change in sight: python -m tests.test_house --write."""
        self.assertEqual(exported_names().splitlines(), EXPORTS.read_text("utf-8").splitlines())

    def test_no_reactor(self) -> None:
        """No module chooses the reactor by being imported, and none of them warns."""
        names = [module_name(path) for path in module_paths()]
        program = (
            "import importlib, sys\n"
            f"for name in {names!r}:\n"
            "    importlib.import_module(name)\n"
            "    if 'twisted.internet.reactor' in sys.modules: sys.exit(f'{name} installs a reactor')\n"
        )
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))


class StateTests(SynchronousTestCase):
    """No module has state: two nodes fit in one process."""

    def test_mutable(self) -> None:
        """What can change stands in no module, but constants that nobody changes."""
        found = [
            f"{path.relative_to(ROOT)}:{line} {name}"
            for path in module_paths()
            for name, value, line in module_level(parse(path))
            if is_mutable(value) and not name.lstrip("_").isupper() and not name.startswith("__")
        ]
        self.assertEqual(found, [])

    def test_global(self) -> None:
        """No function changes a module."""
        found = [
            f"{path.relative_to(ROOT)}:{node.lineno}"
            for path in module_paths()
            for node in ast.walk(parse(path))
            if isinstance(node, ast.Global)
        ]
        self.assertEqual(found, [])


if __name__ == "__main__" and "--write" in sys.argv:
    EXPORTS.write_text(exported_names(), "utf-8")
