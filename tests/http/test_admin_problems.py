"""What can be wrong with a request to the admin API."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import GroupNotFound, InternalError, MessageTooLarge, RoomTimeout
from meshrelay.http.admin_problems import PROBLEMS, Problem, problem_of, statuses_of


class ProblemTests(SynchronousTestCase):
    """An answer that says what to change."""

    def test_answer(self) -> None:
        """Text and code always stand there, field and limit where there is one."""
        plain = Problem("no_such_path", "nothing is here").answer()
        self.assertEqual((plain.status, plain.body), (404, b'{"error":"nothing is here","code":"no_such_path"}'))
        full = Problem("too_large", "too long", "body", 0).answer((("Allow", "GET"),))
        self.assertEqual(full.body, b'{"error":"too long","code":"too_large","field":"body","limit":0}')
        self.assertEqual((full.status, full.headers), (413, (("Allow", "GET"),)))

    def test_headers(self) -> None:
        """Who may come back is told when, and who needs a key is told so."""
        for problem, header in (
            (Problem("timed_out", ""), ("Retry-After", "5")),
            (Problem("in_progress", "", retry_after=1), ("Retry-After", "1")),
            (Problem("key_needed", ""), ("WWW-Authenticate", "Bearer")),
        ):
            self.assertEqual(problem.answer().headers, (header,))

    def test_errors_of_components(self) -> None:
        """What a component says keeps its text, and what nobody has thought of is the node's fault."""
        for error, code in (
            (GroupNotFound("gone"), "group_not_found"),
            (MessageTooLarge("gone"), "too_large"),
            (RoomTimeout("gone"), "timed_out"),
            (InternalError("gone"), "internal"),
        ):
            problem = problem_of(error)
            self.assertEqual((problem.code, problem.text), (code, "gone"))

    def test_statuses(self) -> None:
        """Codes are sorted by their status."""
        self.assertEqual(
            statuses_of(("user_not_found", "bad_path", "group_not_found")),
            {400: ["bad_path"], 404: ["group_not_found", "user_not_found"]},
        )
        self.assertTrue(all(400 <= status < 600 for status in PROBLEMS.values()))
