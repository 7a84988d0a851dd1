"""Writes the pages that are made from the code: ``python docs/generate.py``.

==================  =========================================================
close-codes.rst     `meshrelay.model.CloseReason`, `meshrelay.errors.ErrorCode`
configuration.rst   `meshrelay.config.schema`
openapi.json        `meshrelay.http.admin_routes`
metrics.rst         the collectors of a node with all its parts
==================  =========================================================

A test makes them again and compares, so a page can never say something else than the code does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from meshrelay.config.sample import reference_page
from meshrelay.errors import CommandError, ErrorCode
from meshrelay.http.admin_openapi import openapi_text
from meshrelay.model import CloseReason, Status
from tests.every_metric import every_family

__all__ = ["pages"]

_CODES_HEAD = """\
.. Made by docs/generate.py from meshrelay/model.py and meshrelay/errors.py.

Close codes and error codes
===========================

Both kinds of code are stable: programs may compare them, new ones are only ever added, and none changes its meaning.
The texts beside them are for people and may change at any time.

Close codes
-----------

A close code is the ``u16`` of a GOODBYE push and of an RST packet, and the code of a WebSocket's close frame. 4000 to
4499 mean *come back*: the session waits for ``resume_seconds``, and a client should reconnect after a random delay.
4500 to 4999 mean *stay away*: the session is over, and doing the same again will end in the same way.

"""

_ERRORS_HEAD = """
Error codes
-----------

A response with status BAD (4) or ERROR (5) carries a ``u16`` error code and a text. BAD says that the caller is at
fault, and the same request will fail again; ERROR says that the node is, and another try may succeed. The connection
goes on in both cases, unless a GOODBYE follows.

Codes without an exception belong to capabilities that this version does not have yet.

"""

_METRICS_HEAD = """\
.. Made by docs/generate.py from the collectors of a node with all its parts.

.. _all-metrics:

Metrics
=======

Everything that ``/metrics`` of a node can have, in the text format of prometheus (0.0.4). A counter only grows
from the start of the process, so ask for its ``rate()``. Of a histogram there are ``_bucket``, ``_sum`` and
``_count``. Families of parts that a node does not have (links, relay, overlay) are not on its page.

No label holds what a user can choose: values come from fixed sets, and ``node`` is the ID of a node, which
operators choose. Every value that is fixed stands there with 0 from the start.

Names follow the rules of prometheus: ``meshrelay_``, what is counted, base units (seconds, bytes), ``_total``
behind counters. ``relay_*`` without ``meshrelay_`` are the names and units of NetBird's relay, so that its
dashboards go on working; ``process_*`` and ``python_*`` are prometheus' own.

``meshrelay_command_seconds`` is measured for one command, or run of commands that came together, in 16. For
commands that are pipelined (broadcasts and direct messages) it ends when all of the run were taken, for others
with the answer. ``meshrelay_link_delivery_seconds`` is measured by one clock: it begins when a message is
handed to the link to another node, waits in its queue included, and ends when that node has said that it has
it. So the way back is in it.

What to look at, and what is worth an alert, is on the page :doc:`operations`; ``etc/grafana/meshrelay.json`` is
a board, and ``etc/prometheus/alerts.yml`` has rules.

"""


def pages() -> dict[str, str]:
    """Return each generated page by its file name."""
    return {
        "close-codes.rst": _codes_page(),
        "configuration.rst": reference_page(),
        "openapi.json": openapi_text(),
        "metrics.rst": _metrics_page(),
    }


def _metrics_page() -> str:
    rows = []
    for family in every_family():
        if family.name.startswith(("process_", "python_")):
            continue
        name = family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")
        labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
        labels = labels or list(getattr(family, "_labelnames", ()))
        rows.append((f"``{name}``", family.type, ", ".join(labels), family.documentation))
    table = _table(("Name", "Type", "Labels", "What it is"), (36, 10, 14, 40), rows)
    return _METRICS_HEAD + table


def _codes_page() -> str:
    closes = [(str(reason.code), reason.name, _advice(reason), reason.text) for reason in CloseReason]
    classes = {error.code: error for error in _error_classes() if "code" in vars(error)}
    errors = [_error_row(code, classes.get(code)) for code in ErrorCode]
    return "".join(
        (
            _CODES_HEAD,
            _table(("Code", "Name", "The client", "Text"), (8, 22, 14, 56), closes),
            _ERRORS_HEAD,
            _table(("Code", "Name", "Status", "Exception", "Text"), (8, 24, 10, 22, 36), errors),
        )
    )


def _advice(reason: CloseReason) -> str:
    return "comes back" if reason.is_retryable else "stays away"


def _error_row(code: ErrorCode, error: type[CommandError] | None) -> tuple[str, ...]:
    if error is None:
        return (str(code.value), code.name, "", "", "")
    text = vars(error).get("default_text", "says when to try again" if code is ErrorCode.RATE_LIMITED else "")
    return (str(code.value), code.name, Status(error.status).name, f"``{error.__name__}``", text)


def _error_classes() -> Iterator[type[CommandError]]:
    waiting: list[type[CommandError]] = [CommandError]
    while waiting:
        error = waiting.pop()
        if error is not CommandError:
            yield error
        waiting += error.__subclasses__()


def _table(heads: Sequence[str], widths: Sequence[int], rows: Sequence[Sequence[str]]) -> str:
    lines = [".. list-table::", "   :header-rows: 1", f"   :widths: {' '.join(map(str, widths))}", ""]
    for row in (heads, *rows):
        for index, cell in enumerate(row):
            lines.append(f"   {'* -' if index == 0 else '  -'} {cell}".rstrip())
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write all pages beside this file."""
    for name, text in pages().items():
        (Path(__file__).parent / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
