"""Group settings in the JSON form of other realtime servers -> `schema.GroupConfig`.

::

    {"remoteJoinTries": 4, "relayLimit": 2, "sendInterval": 300,
     "staticGroups": [{"groupID": "52 characters", "interval": 200}]}

Who moves to meshrelay brings this file along. The keys are renamed and everything else is the TOML way: the same
ranges, the same defaults, all problems at once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from meshrelay.config.checks import check_static_groups
from meshrelay.config.schema import GroupConfig
from meshrelay.config.values import convert_struct, near_miss
from meshrelay.errors import ConfigError, ConfigProblem

__all__ = ["load_group_json", "parse_group_json"]

_KEYS = {
    "remoteJoinTries": "remote_join_tries",
    "relayLimit": "relay_limit",
    "sendInterval": "send_interval_ms",
    "staticGroups": "static_groups",
}
_STATIC_GROUP_KEYS = {"groupID": "group_id", "interval": "interval_ms"}


def load_group_json(path: str | Path) -> GroupConfig:
    """Read group settings from a JSON file.

    :raises ConfigError: with every problem, each with its JSON key; the operator's fault.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError([ConfigProblem("", f"cannot read {path}: {error.strerror or error}")]) from None
    except ValueError:
        raise ConfigError([ConfigProblem("", f"cannot read {path}: it is not UTF-8 text")]) from None
    return parse_group_json(text, str(path))


def parse_group_json(text: str, source: str = "group settings") -> GroupConfig:
    """Make group settings out of JSON text.

    :param source: where the text came from, for a problem with the text as a whole.
    :raises ConfigError: as `load_group_json`.
    """
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError([ConfigProblem("", f"{source} is not JSON: {error}")]) from None
    if not isinstance(raw, Mapping):
        raise ConfigError([ConfigProblem("", f"{source} must hold one JSON object")])
    problems: list[ConfigProblem] = []
    renamed = _rename(raw, _KEYS, "", problems)
    groups = renamed.get("static_groups")
    if isinstance(groups, list):
        renamed["static_groups"] = [
            _rename(group, _STATIC_GROUP_KEYS, f"staticGroups[{index}].", problems)
            if isinstance(group, Mapping)
            else group
            for index, group in enumerate(groups)
        ]
    found: list[ConfigProblem] = []
    config = convert_struct(GroupConfig, renamed, "group", found) or GroupConfig()
    found = found or list(check_static_groups(config))
    problems += [ConfigProblem(_json_path(problem.path), problem.problem) for problem in found]
    if problems:
        raise ConfigError(problems)
    return config


def _rename(
    raw: Mapping[str, object], keys: Mapping[str, str], path: str, problems: list[ConfigProblem]
) -> dict[str, object]:
    unknown = [name for name in raw if name not in keys]
    problems += [ConfigProblem(f"{path}{name}", f"unknown key{near_miss(name, list(keys))}") for name in unknown]
    return {ours: raw[theirs] for theirs, ours in keys.items() if theirs in raw}


def _json_path(path: str) -> str:
    """Turn ``group.static_groups[0].group_id`` into what stands in the JSON file."""
    for theirs, ours in (*_KEYS.items(), *_STATIC_GROUP_KEYS.items()):
        path = path.replace(ours, theirs)
    return path.removeprefix("group.")
