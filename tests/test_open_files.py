"""The limit of open files."""

from __future__ import annotations

import resource

from twisted.trial.unittest import SynchronousTestCase

from meshrelay import open_files
from meshrelay.open_files import raise_open_files_limit


class Limits:
    """The kernel's part of the module `resource`, with limits of its own.

    :param cap: the soft limit must not be above; None = no such cap.
    """

    RLIMIT_NOFILE = resource.RLIMIT_NOFILE
    RLIM_INFINITY = resource.RLIM_INFINITY

    def __init__(self, soft: int, hard: int, cap: int | None = None) -> None:
        self.limits = (soft, hard)
        self._cap = cap

    def getrlimit(self, what: int) -> tuple[int, int]:
        """As `resource.getrlimit`."""
        return self.limits

    def setrlimit(self, what: int, limits: tuple[int, int]) -> None:
        """As `resource.setrlimit`."""
        if self._cap is not None and (limits[0] > self._cap or limits[0] == self.RLIM_INFINITY):
            raise ValueError("current limit exceeds maximum limit")
        self.limits = limits


class OpenFilesTests(SynchronousTestCase):
    """How many clients may come."""

    def raised(self, limits: Limits) -> int:
        """Raise a limit and return what the node believes."""
        self.patch(open_files, "resource", limits)
        return raise_open_files_limit()

    def test_raised(self) -> None:
        """The node takes all that it may have; it need not be started by somebody who knows how."""
        limits = Limits(1024, 524_288)
        self.assertEqual(self.raised(limits), 524_288)
        self.assertEqual(limits.limits, (524_288, 524_288))

    def test_refused(self) -> None:
        """Where the kernel refuses, what holds already is used."""
        limits = Limits(1024, resource.RLIM_INFINITY, cap=10_240)
        self.assertEqual(self.raised(limits), 1024)

    def test_without_limit(self) -> None:
        """Where there is no limit the number is large, and finite."""
        limits = Limits(resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        self.assertEqual(self.raised(limits), 1_000_000)
