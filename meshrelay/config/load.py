"""TOML text and environment variables -> one `schema.Config`, or one `ConfigError` with every problem.

`parse_config` is pure; `read_config` adds the disk: the file itself, and the files that it names.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from meshrelay.config.checks import check_config
from meshrelay.config.files import check_files
from meshrelay.config.keys import ENVIRONMENT_PREFIX, keys_by_section, section_types
from meshrelay.config.schema import Config
from meshrelay.config.values import convert_struct, convert_text, near_miss
from meshrelay.errors import ConfigError, ConfigProblem

__all__ = ["parse_config", "read_config"]


def read_config(path: str | Path | None, environ: Mapping[str, str]) -> Config:
    """Read the configuration of a node and check the files that it names.

    :param path: TOML file; None for defaults and environment only.
    :param environ: usually `os.environ`.
    :raises ConfigError: with every problem; the operator's fault.
    """
    config, problems = _collect(_read_text(path), str(path or "defaults"), environ)
    problems += check_files(config, _paths(problems))
    return _refuse_if_wrong(config, problems)


def parse_config(text: str, source: str = "configuration", environ: Mapping[str, str] | None = None) -> Config:
    """Make a configuration out of TOML text; no file that it names is looked at.

    :param source: where the text came from, for a problem with the text as a whole.
    :param environ: ``MESHRELAY_SECTION__KEY`` overrides the text; other variables are not looked at.
    :raises ConfigError: with every problem; the operator's fault.
    """
    return _refuse_if_wrong(*_collect(text, source, environ or {}))


def _refuse_if_wrong(config: Config, problems: list[ConfigProblem]) -> Config:
    if problems:
        raise ConfigError(problems)
    return config


def _read_text(path: str | Path | None) -> str:
    if path is None:
        return ""
    try:
        # utf-8-sig: some editors begin a file with a byte order mark, which TOML does not know.
        return Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError([ConfigProblem("", f"cannot read {path}: {error.strerror or error}")]) from None
    except ValueError:
        raise ConfigError([ConfigProblem("", f"cannot read {path}: it is not UTF-8 text")]) from None


def _collect(text: str, source: str, environ: Mapping[str, str]) -> tuple[Config, list[ConfigProblem]]:
    """Return what could be read, defaults for the rest, and every problem that needs no disk."""
    problems: list[ConfigProblem] = []
    raw = _read_toml(text, source, problems)
    overrides, environ_problems = _read_environ(environ)
    known = section_types()
    problems += [_unknown_section(name) for name in raw if name not in known]
    sections: dict[str, Any] = {}
    for name, struct in known.items():
        overriding = overrides.get(name, {})
        table = raw.get(name, {})
        if isinstance(table, Mapping):
            # What the environment overrides may be wrong in the file: nobody will see it.
            table = {key: value for key, value in table.items() if key not in overriding}
        section = convert_struct(struct, table, name, problems) or struct()
        sections[name] = msgspec.structs.replace(section, **overriding)
    config = Config(**sections)
    problems += environ_problems
    return config, problems + check_config(config, _paths(problems))


def _paths(problems: list[ConfigProblem]) -> frozenset[str]:
    return frozenset(problem.path.partition("[")[0] for problem in problems)


def _read_toml(text: str, source: str, problems: list[ConfigProblem]) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # A plain ValueError is a number of more digits than Python converts.
        problems.append(ConfigProblem("", f"{source} is not TOML: {error}"))
        return {}


def _read_environ(environ: Mapping[str, str]) -> tuple[dict[str, dict[str, object]], list[ConfigProblem]]:
    """Return the values that the environment sets, by section and key, and what is wrong with it."""
    known = {key.environment_name: key for keys in keys_by_section().values() for key in keys.values()}
    short_names = [name.removeprefix(ENVIRONMENT_PREFIX) for name in known]
    values: dict[str, dict[str, object]] = {}
    problems: list[ConfigProblem] = []
    for name in sorted(environ):
        if not name.startswith(ENVIRONMENT_PREFIX) or "__" not in name:
            continue
        key = known.get(name)
        if key is None:
            problems.append(
                ConfigProblem(name, f"no such key{near_miss(name.removeprefix(ENVIRONMENT_PREFIX), short_names)}")
            )
            continue
        found: list[ConfigProblem] = []
        converted = convert_text(key.annotation, environ[name], key.path, found)
        problems += [ConfigProblem(problem.path, f"{problem.problem} (from {name})") for problem in found]
        # A wrong one still takes the place of the file's, whose problems are beside the point.
        values.setdefault(key.section, {})[key.name] = key.default if found else converted
    return values, problems


def _unknown_section(name: str) -> ConfigProblem:
    keys = keys_by_section()
    homes = [section for section, names in keys.items() if name in names]
    if homes:
        return ConfigProblem(name, f"belongs in a section: [{homes[0]}]")
    return ConfigProblem(name, f"unknown section{near_miss(name, list(keys))}")
