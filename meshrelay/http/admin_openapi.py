"""The table of routes -> the OpenAPI 3.1 file of the admin API: ``GET /admin/openapi.json`` and docs/openapi.json.

Only what the code promises stands in it: types of bodies, statuses, codes of problems. It holds no address and no name
of a node, so it is the same everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

import msgspec

from meshrelay import __version__
from meshrelay.http.admin_bodies import Announcement, GroupMessage, NewMessage
from meshrelay.http.admin_problems import PROBLEMS, statuses_of
from meshrelay.http.admin_repeats import MAX_KEY_CHARACTERS
from meshrelay.http.admin_routes import CHANGE_PROBLEMS, COMMON_PROBLEMS, POST_PROBLEMS, ROUTES, Route
from meshrelay.model import MAX_USER_ID_BYTES
from meshrelay.wire.buffer import GROUP_ID_BYTES

__all__ = ["openapi_document", "openapi_text"]

_PLACE_ID = MappingProxyType({"type": "string", "pattern": rf"^[\x21-\x7e]{{{GROUP_ID_BYTES}}}$"})

_VARIABLES: Mapping[str, tuple[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "group": (f"ID of a group, {GROUP_ID_BYTES} characters.", _PLACE_ID),
        "room": (f"ID of a room, {GROUP_ID_BYTES} characters.", _PLACE_ID),
        "user": (
            f"A user ID, 1 to {MAX_USER_ID_BYTES} bytes of UTF-8, percent-encoded.",
            # Bytes are what is counted; so many characters always fit.
            MappingProxyType({"type": "string", "minLength": 1, "maxLength": MAX_USER_ID_BYTES // 4}),
        ),
        "node": (
            "ID of a node.",
            MappingProxyType({"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,64}$"}),
        ),
    }
)

_IDEMPOTENCY_KEY = MappingProxyType(
    {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "The same request with the same key is done once in ten minutes, and answered as before.",
        "schema": {"type": "string", "pattern": rf"^[\x21-\x7e]{{1,{MAX_KEY_CHARACTERS}}}$"},
    }
)

_PROBLEM = MappingProxyType(
    {
        "type": "object",
        "description": "Why a request was not done. code is stable, error is a text for people.",
        "required": ["error"],
        "properties": {
            "error": {"type": "string"},
            "code": {"type": "string", "enum": sorted(PROBLEMS)},
            "field": {"type": "string", "description": "What is wrong in the body, path, query or headers."},
            "limit": {"type": "integer", "description": "The bound that it is over."},
        },
    }
)


def openapi_document() -> dict[str, Any]:
    """Return the document."""
    types = dict.fromkeys(kind for route in ROUTES for kind in (*route.answers, route.body) if kind is not None)
    _, schemas = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    for kind in (NewMessage, GroupMessage, Announcement):
        # What `NewMessage.message` looks at and a type cannot say.
        schema = schemas[kind.__name__]
        schema["oneOf"] = [_has("text", not_="body"), _has("body", not_="text")]
        schema["dependentRequired"] = {"cmd": ["ver"], "ver": ["cmd"]}
        for name in ("text", "body", "ver", "cmd", "group"):
            if name in schema["properties"]:
                schema["properties"][name] = _not_null(schema["properties"][name])
    paths: dict[str, Any] = {}
    for route in ROUTES:
        paths.setdefault("/admin/" + "/".join(route.path), {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "meshrelay admin API",
            "version": __version__,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "security": [{"key": []}, {}],
        "paths": paths,
        "components": {
            "schemas": {**schemas, "Problem": dict(_PROBLEM)},
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The content of http.admin_key_file. Callers on the node's machine need none.",
                }
            },
        },
    }


def openapi_text() -> str:
    """Return the document as the text of the file."""
    return json.dumps(openapi_document(), indent=2, ensure_ascii=False) + "\n"


def _has(name: str, not_: str) -> dict[str, Any]:
    return {"required": [name], "not": {"required": [not_]}}


def _not_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Leave out the null that only says "was not given"."""
    kinds = [each for each in schema["anyOf"] if each != {"type": "null"}]
    rest = {name: value for name, value in schema.items() if name not in ("anyOf", "default")}
    return {**kinds[0], **rest}


def _operation(route: Route) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = []
    for name in route.variables:
        text, schema = _VARIABLES[name]
        parameters.append({"name": name, "in": "path", "required": True, "description": text, "schema": dict(schema)})
    for name, text, schema in route.query:
        parameters.append({"name": name, "in": "query", "description": text, "schema": dict(schema)})
    operation: dict[str, Any] = {"operationId": route.operation, "summary": route.summary}
    if route.method == "POST":
        parameters.append(dict(_IDEMPOTENCY_KEY))
        operation["requestBody"] = {"required": True, "content": _body_of(route)}
    if parameters:
        operation["parameters"] = parameters
    operation["responses"] = _responses_of(route)
    return operation


def _body_of(route: Route) -> dict[str, Any]:
    if route.body is None:
        return {"application/json": {"schema": {"type": "object", "additionalProperties": False}}}
    content: dict[str, Any] = {"application/json": {"schema": _ref(route.body.__name__)}}
    if route.takes_bytes:
        content["application/octet-stream"] = {"schema": {"type": "string", "format": "binary"}}
    return content


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _responses_of(route: Route) -> dict[str, Any]:
    names = [_ref(kind.__name__) for kind in route.answers]
    schema: dict[str, Any] = {"type": "object"} if not names else names[0] if len(names) == 1 else {"anyOf": names}
    responses: dict[str, Any] = {
        str(route.status): {
            "description": HTTPStatus(route.status).phrase,
            "content": {"application/json": {"schema": schema}},
        }
    }
    codes = {*COMMON_PROBLEMS, *route.problems}
    if route.method != "GET":
        codes.update(CHANGE_PROBLEMS)
    if route.method == "POST":
        codes.update(POST_PROBLEMS)
    for status, found in statuses_of(tuple(codes)).items():
        responses[str(status)] = {
            "description": ", ".join(found),
            "content": {"application/json": {"schema": _ref("Problem")}},
        }
    return responses
