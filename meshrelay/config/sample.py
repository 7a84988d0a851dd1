"""The schema -> ``etc/meshrelay.toml`` and the reference page, so that neither can say something else.

In the sample every section stands open and every key is commented out with its default: what is not changed follows
the defaults of later versions, and parsing the sample gives the defaults.
"""

from __future__ import annotations

from textwrap import wrap

import msgspec

from meshrelay.config.keys import ENVIRONMENT_PREFIX, Key, keys_by_section, section_types

__all__ = ["reference_page", "sample_file"]

_WIDTH = 100

#: What needs no saying when the default is in sight.
_PLAIN = ("a text", "true or false", "a list of tables", "a list, each a text")

_SAMPLE_HEAD = f"""\
# Configuration of meshrelay: twistd -n meshrelay --config FILE
#
# Every key is shown with its default; take away the # in front of a key to change it.
# {ENVIRONMENT_PREFIX}SECTION__KEY in the environment overrides the file: {ENVIRONMENT_PREFIX}LISTEN__TCP=tcp:7200
# "reload" above a key: SIGHUP applies a new value; all others need a restart.
# Paths of files count from the directory in which the node is started.
# meshrelay check-config FILE tells everything that is wrong with a file.
"""

_PAGE_HEAD = f"""\
.. Made by ``meshrelay default-config --format rst``: change meshrelay/config/schema.py instead.

Configuration
=============

``twistd -n meshrelay --config FILE`` reads one TOML file; without one every default holds.
``{ENVIRONMENT_PREFIX}SECTION__KEY`` in the environment overrides the file: ``{ENVIRONMENT_PREFIX}LISTEN__TCP`` is
``tcp`` of ``[listen]``. A list is written as a JSON or TOML array there. A key that does not exist is an error, in the
file as in the environment, and everything that is wrong is told at once; ``meshrelay check-config FILE`` does the same
without starting a node.

*reload* says that SIGHUP applies a new value; every other key needs a restart. Paths of files count from the directory
in which the node is started.
"""


def sample_file() -> str:
    """Return the text of ``etc/meshrelay.toml``."""
    return _SAMPLE_HEAD + "".join(_sample_section(name) for name in section_types())


def reference_page() -> str:
    """Return the reference of all keys as reStructuredText."""
    return _PAGE_HEAD + "".join(_page_section(name) for name in section_types())


def _sample_section(section: str) -> str:
    lines = ["", *_comment(_summary(section)), f"[{section}]"]
    for key in keys_by_section()[section].values():
        lines += ["", *_comment(key.description), *_comment("; ".join(_remarks(key)), "  ")]
        lines.append(f"#{key.name} = {toml_value(key.default)}")
    return "\n".join(lines) + "\n"


def _comment(text: str, indent: str = "") -> list[str]:
    return [f"# {indent}{line}" for line in wrap(text, _WIDTH, break_long_words=False, break_on_hyphens=False)]


def _remarks(key: Key) -> list[str]:
    """Say which values it takes, what an empty one means, and whether a reload applies it."""
    remarks = [] if key.allowed in _PLAIN else [key.allowed]
    if key.empty:
        remarks.append(f"{toml_value(_empty_value(key))} = {key.empty}")
    if key.reload:
        remarks.append("reload")
    return remarks


def _empty_value(key: Key) -> object:
    if isinstance(key.default, tuple):
        return ()
    return "" if isinstance(key.default, str) else 0


def toml_value(value: object) -> str:
    """Write a default as TOML; for texts, numbers, truth values and lists of them JSON is TOML."""
    return msgspec.json.encode(value).decode()


def _page_section(section: str) -> str:
    title = f"[{section}]"
    lines = ["", title, "-" * len(title), "", _summary(section), ""]
    for key in keys_by_section()[section].values():
        lines.append(f"``{key.name}`` = ``{toml_value(key.default)}``")
        for text in (key.description, "; ".join(_remarks(key))):
            lines += [f"    | {_escape(text)}"] if text else []
        lines.append("")
    return "\n".join(lines)


def _escape(text: str) -> str:
    """Keep reStructuredText from seeing mark-up in ``HS*`` and ``_``."""
    return text.translate({ord(character): "\\" + character for character in "\\*_`|"})


def _summary(section: str) -> str:
    return " ".join((section_types()[section].__doc__ or "").split())
