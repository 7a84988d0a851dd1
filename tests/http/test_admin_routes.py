"""The table of routes."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.http.admin_problems import PROBLEMS
from meshrelay.http.admin_routes import (
    CHANGE_PROBLEMS,
    COMMON_PROBLEMS,
    POST_PROBLEMS,
    ROUTES,
    methods_of,
    route_of,
)


class RouteTests(SynchronousTestCase):
    """From a path to what is done."""

    def test_found(self) -> None:
        """Variable parts are whatever stands there, empty or with a slash in it."""
        for path, name, variables in (
            (("users", "a/b"), "get_user", {"user": "a/b"}),
            (("users", ""), "get_user", {"user": ""}),
            (("groups",), "list_groups", {}),
            (("groups", "groups"), "get_group", {"group": "groups"}),
        ):
            found = route_of("GET", path)
            assert found is not None
            self.assertEqual((found[0].operation, found[1]), (name, variables))

    def test_methods(self) -> None:
        """Allow names what a path takes; a path that is none takes nothing."""
        for path, methods in (
            (("users", "ann"), ("GET", "HEAD", "DELETE")),
            (("announcements",), ("POST",)),
            (("groups", "g"), ("GET", "HEAD")),
            (("groups", "g", "messages", ""), ()),
            ((), ()),
            (("",), ()),
        ):
            self.assertEqual((path, methods_of(path)), (path, methods))
        self.assertIsNone(route_of("POST", ("users", "ann")))

    def test_table(self) -> None:
        """No two routes are the same, and every code of a problem is one."""
        self.assertEqual(len({(route.method, route.path) for route in ROUTES}), len(ROUTES))
        self.assertEqual(len({route.operation for route in ROUTES}), len(ROUTES))
        codes = [code for route in ROUTES for code in route.problems]
        self.assertLessEqual({*codes, *COMMON_PROBLEMS, *CHANGE_PROBLEMS, *POST_PROBLEMS}, set(PROBLEMS))
