"""What the schema says about each key, for programs: the loader, the sample file, the reference page.

Reads the annotations of ``schema`` and adds nothing to them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from meshrelay.config.schema import Config

__all__ = ["ENVIRONMENT_PREFIX", "Key", "allowed_values", "default_of", "fields_of", "keys_by_section", "section_types"]

#: ``MESHRELAY_LISTEN__TCP`` overrides ``[listen] tcp``.
ENVIRONMENT_PREFIX = "MESHRELAY_"


@dataclass(frozen=True, slots=True)
class Key:
    """One key of one section."""

    section: str
    name: str
    #: `Annotated` type with the metadata of the schema.
    annotation: Any
    default: object
    #: One line, with the unit.
    description: str
    #: What 0, "" or [] means; empty when it means nothing special.
    empty: str
    #: True: SIGHUP applies it. False: restart.
    reload: bool
    #: True: the path of a file.
    file: bool
    #: True: the node makes the file if there is none.
    made: bool

    @property
    def path(self) -> str:
        """``session.outbox_bytes``"""
        return f"{self.section}.{self.name}"

    @property
    def environment_name(self) -> str:
        """``MESHRELAY_SESSION__OUTBOX_BYTES``"""
        return f"{ENVIRONMENT_PREFIX}{self.section}__{self.name}".upper()

    @property
    def allowed(self) -> str:
        """The values it takes, in words: ``a whole number from 1 to 256``."""
        return allowed_values(self.annotation)


@cache
def section_types() -> Mapping[str, type[msgspec.Struct]]:
    """Return the struct of each section, in the order of the file."""
    return MappingProxyType(get_type_hints(Config))


@cache
def keys_by_section() -> Mapping[str, Mapping[str, Key]]:
    """Return every key by section and name, in the order of the file."""
    sections = {
        section: {name: _describe(section, struct, name, annotation) for name, annotation in fields_of(struct).items()}
        for section, struct in section_types().items()
    }
    return MappingProxyType(sections)


@cache
def fields_of(struct: type[msgspec.Struct]) -> Mapping[str, Any]:
    """Return the annotation of each field, metadata included."""
    return MappingProxyType(get_type_hints(struct, include_extras=True))


def default_of(struct: type[msgspec.Struct], name: str) -> object:
    """Return the default of a field, `msgspec.NODEFAULT` when it must be given."""
    for field in msgspec.structs.fields(struct):
        if field.name == name:
            return field.default
    raise LookupError(f"{struct.__name__} has no field {name}")


def _describe(section: str, struct: type[msgspec.Struct], name: str, annotation: Any) -> Key:
    meta = _meta_of(annotation)
    extra = meta.extra or {}
    return Key(
        section=section,
        name=name,
        annotation=annotation,
        default=default_of(struct, name),
        description=meta.description or "",
        empty=extra.get("empty", ""),
        reload=bool(extra.get("reload")),
        file=bool(extra.get("file")),
        made=bool(extra.get("made")),
    )


def _meta_of(annotation: Any) -> msgspec.Meta:
    for part in get_args(annotation)[1:] if get_origin(annotation) is Annotated else ():
        if isinstance(part, msgspec.Meta):
            return part
    return msgspec.Meta()


def allowed_values(annotation: Any) -> str:
    """Say in words which values the type takes: completes "must be ..."."""
    meta = _meta_of(annotation)
    plain = get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation
    if get_origin(plain) is Literal:
        return _join([f'"{choice}"' for choice in get_args(plain)])
    if get_origin(plain) is tuple:
        element = get_args(plain)[0]
        if isinstance(element, type) and issubclass(element, msgspec.Struct):
            return "a list of tables"
        return f"a list, each {allowed_values(element)}"
    if plain is bool:
        return "true or false"
    if plain is str:
        return str((meta.extra or {}).get("form") or "a text")
    return f"{'a whole number' if plain is int else 'a number'} from {meta.ge} to {meta.le}"


def _join(choices: list[str]) -> str:
    return choices[0] if len(choices) == 1 else f"{', '.join(choices[:-1])} or {choices[-1]}"
