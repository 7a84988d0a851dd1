"""Runs the suite's cases against the server at the URL given, and prints how many passed; any that does not, raises.

A process of its own: the suite and the client library of the package load different builds of the same UTF-8 validator.
"""

from __future__ import annotations

import asyncio
import os
import sys

import kosoku

#: permessage-deflate, which the node never accepts.
COMPRESSION = ["12.*", "13.*"]


async def main(url: str) -> None:
    """Run all cases without compression."""
    results = await kosoku.run_fuzzingclient(url, exclude_cases=COMPRESSION, concurrency=8)
    sys.stdout.write(f"{len(results)}\n")
    sys.stdout.flush()
    # The suite's own threads sometimes abort the process while it is taken down. All that it had to say is said.
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
