"""Raw values -> values of the schema: what TOML or a text of the environment says -> what a struct holds.

Each field is converted by itself, so that one wrong key does not hide the next; msgspec does the checking, the
sentences are ours because they go to people who have the file in front of them, not the types.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Annotated, Any, TypeVar, get_args, get_origin

import msgspec

from meshrelay.config.keys import allowed_values, default_of, fields_of
from meshrelay.errors import ConfigProblem

__all__ = ["convert_struct", "convert_text", "convert_value", "near_miss"]

StructT = TypeVar("StructT", bound=msgspec.Struct)

#: A wrong value is shown up to this many characters.
_SHOWN_CHARACTERS = 60


def near_miss(name: str, known: list[str]) -> str:
    """Return ``; did you mean outbox_bytes?`` when `name` looks like one of `known`, else nothing."""
    by_lower_case = {candidate.lower(): candidate for candidate in known}
    close = get_close_matches(name.lower(), list(by_lower_case), n=1, cutoff=0.6)
    return f"; did you mean {by_lower_case[close[0]]}?" if close else ""


def convert_struct(struct: type[StructT], raw: object, path: str, problems: list[ConfigProblem]) -> StructT | None:
    """Make a struct out of a table; what is wrong is added to `problems`.

    :param path: dotted path of the table, for the problems.
    :returns: the struct, with defaults where a value was wrong; None when it could not be made at all.
    """
    if not isinstance(raw, Mapping):
        problems.append(ConfigProblem(path, f"must be a table, is {_show(raw)}"))
        return None
    fields = fields_of(struct)
    values = {}
    for name, value in raw.items():
        if name not in fields:
            problems.append(ConfigProblem(f"{path}.{name}", f"unknown key{near_miss(name, list(fields))}"))
            continue
        converted = convert_value(fields[name], value, f"{path}.{name}", problems)
        if converted is not msgspec.UNSET:
            values[name] = converted
    missing = [name for name in fields if default_of(struct, name) is msgspec.NODEFAULT and name not in values]
    problems += [ConfigProblem(f"{path}.{name}", "is missing") for name in missing if name not in raw]
    return None if missing else struct(**values)


def convert_value(annotation: Any, raw: object, path: str, problems: list[ConfigProblem]) -> object:
    """Make a value of the annotated type.

    :returns: the value, or `msgspec.UNSET` after adding to `problems`.
    """
    element = _element_of(annotation)
    if element is None:
        return _convert_single(annotation, raw, path, problems)
    if not isinstance(raw, list | tuple):
        problems.append(ConfigProblem(path, f"must be {allowed_values(annotation)}, is {_show(raw)}"))
        return msgspec.UNSET
    before = len(problems)
    values = [_convert_element(element, value, f"{path}[{index}]", problems) for index, value in enumerate(raw)]
    return tuple(values) if len(problems) == before else msgspec.UNSET


def convert_text(annotation: Any, text: str, path: str, problems: list[ConfigProblem]) -> object:
    """Make a value of the annotated type out of a text of the environment.

    A list is a JSON or TOML array; a number or a truth value is what it would be in the file.

    :returns: as `convert_value`.
    """
    raw: object = text
    if _element_of(annotation) is not None:
        raw = _read_array(text)
    elif not _is_text(annotation):
        # TOML takes 1_000 and 0x10, msgspec does not, and true is true to both.
        raw = _read_toml_value(text.lower() if text.lower() in ("true", "false") else text)
    return convert_value(annotation, raw, path, problems)


def _convert_element(annotation: Any, raw: object, path: str, problems: list[ConfigProblem]) -> object:
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return convert_struct(annotation, raw, path, problems)
    return convert_value(annotation, raw, path, problems)


def _convert_single(annotation: Any, raw: object, path: str, problems: list[ConfigProblem]) -> object:
    try:
        value: object = msgspec.convert(raw, annotation)
    except msgspec.ValidationError:
        value = msgspec.UNSET
    if value is msgspec.UNSET:
        hint = near_miss(raw, _choices(annotation)) if isinstance(raw, str) else ""
        problems.append(ConfigProblem(path, f"must be {allowed_values(annotation)}, is {_show(raw)}{hint}"))
        return msgspec.UNSET
    return value


def _plain(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _element_of(annotation: Any) -> Any:
    plain = _plain(annotation)
    return get_args(plain)[0] if get_origin(plain) is tuple else None


def _is_text(annotation: Any) -> bool:
    return _plain(annotation) is str or bool(_choices(annotation))


def _choices(annotation: Any) -> list[str]:
    return [choice for choice in get_args(_plain(annotation)) if isinstance(choice, str)]


def _read_array(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return _read_toml_value(text)


def _read_toml_value(text: str) -> object:
    try:
        # One line: a line end would let a text of the environment add keys of its own.
        return tomllib.loads(f"value = {text}")["value"] if "\n" not in text else text
    except (ValueError, RecursionError):
        return text


def _show(raw: object) -> str:
    if isinstance(raw, bool):
        return str(raw).lower()
    shown = f'"{raw}"' if isinstance(raw, str) else str(raw)
    return shown if len(shown) <= _SHOWN_CHARACTERS else shown[:_SHOWN_CHARACTERS] + "..."
