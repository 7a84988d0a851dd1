# ruff: noqa: T201
"""Says hello in a group and prints what others say. The address of the node may be given; Ctrl-C ends it."""

import asyncio
import sys

from meshrelay.client import Connected, GroupMessageReceived
from meshrelay.client.aio import Client


async def main(url: str) -> None:
    user = url.partition(":")[0]
    async with Client(url, user) as client:
        events = client.events()
        _, group_id = await client.join_random_group()
        await client.broadcast(group_id, b"hello from Python")
        async for event in events:
            if isinstance(event, GroupMessageReceived):
                print(f"{event.user_id}: {event.message.decode()}", flush=True)
            elif isinstance(event, Connected) and not event.resumed:
                await client.join_random_group()


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:7200"))
