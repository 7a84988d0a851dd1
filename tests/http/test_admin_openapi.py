"""The OpenAPI file of the admin API."""

from __future__ import annotations

import json
import re

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.http.admin_openapi import openapi_document, openapi_text
from meshrelay.http.admin_problems import PROBLEMS
from meshrelay.http.admin_routes import ROUTES


class OpenApiTests(SynchronousTestCase):
    """What programs read."""

    def setUp(self) -> None:
        """Make it."""
        self.document = openapi_document()

    def test_every_route(self) -> None:
        """Every route is there, with all variable parts of its path."""
        found = {
            (method.upper(), path): operation
            for path, operations in self.document["paths"].items()
            for method, operation in operations.items()
        }
        self.assertEqual(set(found), {(route.method, "/admin/" + "/".join(route.path)) for route in ROUTES})
        for (_, path), operation in found.items():
            named = {each["name"] for each in operation.get("parameters", ()) if each["in"] == "path"}
            self.assertEqual(named, set(re.findall(r"{(\w+)}", path)))

    def test_references(self) -> None:
        """Nothing is named that is not there."""
        names = set(re.findall(r"#/components/schemas/(\w+)", openapi_text()))
        self.assertLessEqual(names, set(self.document["components"]["schemas"]))

    def test_codes(self) -> None:
        """Every code of a problem stands at some status of some route."""
        told = {
            code
            for operations in self.document["paths"].values()
            for operation in operations.values()
            for response in operation["responses"].values()
            for code in response["description"].split(", ")
        }
        self.assertEqual(set(PROBLEMS) - told, set())

    def test_message(self) -> None:
        """The file says of a message what the code asks of it: text or body, ver with cmd, and no null."""
        schema = self.document["components"]["schemas"]["NewMessage"]
        self.assertEqual(len(schema["oneOf"]), 2)
        self.assertEqual(schema["dependentRequired"], {"cmd": ["ver"], "ver": ["cmd"]})
        self.assertFalse(schema["additionalProperties"])
        self.assertNotIn("null", json.dumps(schema["properties"]))
        self.assertEqual((schema["properties"]["ver"]["minimum"], schema["properties"]["ver"]["maximum"]), (2, 255))

    def test_text(self) -> None:
        """The text is the document."""
        self.assertEqual(json.loads(openapi_text()), self.document)
