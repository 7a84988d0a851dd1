"""The limit of open files, which bounds the clients of a node."""

from __future__ import annotations

import resource

__all__ = ["raise_open_files_limit"]


def raise_open_files_limit() -> int:
    """Raise the soft limit of open files to the hard one.

    :returns: the limit that holds now; where there is none, a million.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError):
        # Some systems cap the soft limit below an "unlimited" hard one; what holds already is good enough.
        pass
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1_000_000 if soft == resource.RLIM_INFINITY else soft
