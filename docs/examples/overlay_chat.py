# ruff: noqa: T201
"""Writes to peers of an overlay, and prints what they write: ``overlay_chat.py ws://host:port``.

Each line of the input is an ID and a text. The end of the input ends it.
"""

import asyncio
import sys

from meshrelay.peer_relay import OverlayError
from meshrelay.peer_relay.aio import PeerRelay


async def print_messages(peer: PeerRelay) -> None:
    async for message in peer.messages():
        proof = "" if message.is_verified else " (so it says)"
        print(f"{message.sender.hex()}{proof}: {message.data!r}", flush=True)


async def main(url: str) -> None:
    async with PeerRelay(bootstrap=[url]) as peer:
        peer.on("peer", lambda peer_id: print(f"linked with {peer_id.hex()}", flush=True))
        printing = asyncio.create_task(print_messages(peer))
        print(f"this is {peer.id.hex()}", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            peer_id, _, text = line.strip().partition(" ")
            try:
                await peer.send(bytes.fromhex(peer_id), text)
            except (OverlayError, ValueError) as error:
                print(f"not sent: {error}", flush=True)
    await printing


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "ws://127.0.0.1:7400"))
