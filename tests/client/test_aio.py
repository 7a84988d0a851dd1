"""Tests of `meshrelay.client.aio`: without a network; `tests.integration.test_client` has the rest.

Each runs a loop of its own, never with a reactor that is installed globally: here that place is trial's.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.client import Client as TwistedClient
from meshrelay.client import ConnectFailed, DirectMessageReceived, Disconnected, Event
from meshrelay.client.aio import Client
from meshrelay.client.options import ClientOptions
from meshrelay.errors import MalformedPayload, UserNotFound
from meshrelay.wire.commands import decode_direct, encode_direct
from tests.client.node_end import MemoryNode


def _run(coroutine: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(debug=True) as runner:
        runner.run(coroutine)


async def _signed_in() -> tuple[Client, MemoryNode]:
    """A client, and the node in memory that it is signed in at."""
    client, node = Client("tcp://127.0.0.1:1", "ann"), MemoryNode()
    client._client = TwistedClient(client._reactor, "tcp://127.0.0.1:1", "ann", opener=node.open)
    connecting = asyncio.create_task(client.connect())
    await asyncio.sleep(0)
    node.end.welcome()
    await connecting
    return client, node


class ClientTests(SynchronousTestCase):
    """The facade."""

    def test_one_after_the_other(self) -> None:
        """Clients can be made in one loop after another; closing one does not stop its loop."""

        async def main() -> None:
            for _ in range(2):
                client = Client("tcp://127.0.0.1:1", "ann")
                await client.close()
                await asyncio.sleep(0)

        _run(main())
        _run(main())

    def test_token_that_fails(self) -> None:
        """A coroutine function may give the token, and its failure is the failure of connect."""

        async def token() -> str:
            await asyncio.sleep(0)
            raise OSError("no such token")

        async def main() -> None:
            client = Client("tcp://127.0.0.1:1", "ann", token=token)
            with self.assertRaisesRegex(ConnectFailed, "no such token"):
                await client.connect()
            await client.close()

        _run(main())

    def test_failed_entry(self) -> None:
        """An ``async with`` that cannot connect leaves nothing behind."""

        async def main() -> None:
            client = Client("tcp://127.0.0.1:1", "ann", token=lambda: 1 / 0)  # type: ignore[arg-type, return-value]
            with self.assertRaises(ConnectFailed):
                async with client:
                    self.fail("it was entered")
            self.assertFalse(client._reactor.running)

        _run(main())

    def test_cancelled_connect(self) -> None:
        """A task that waits for connect can be cancelled."""

        async def token() -> str:
            return await asyncio.Future()

        async def main() -> None:
            client = Client("tcp://127.0.0.1:1", "ann", token=token, options=ClientOptions(retry_first=True))
            task = asyncio.create_task(client.connect())
            await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            self.assertFalse(client.is_connected)
            await client.close()

        _run(main())

    def test_rebind(self) -> None:
        """Without a connection there is nothing to move."""

        async def main() -> None:
            client = Client("udp+http://127.0.0.1:1", "ann")
            self.assertFalse(client.rebind())
            await client.close()

        _run(main())

    def test_direct_messages(self) -> None:
        """Direct messages of several tasks go out without waiting for each other, and each gets its own result."""

        async def main() -> None:
            client, node = await _signed_in()
            events = client.events()
            sends = [client.send_direct("bob", b"1"), client.send_direct("eve", b"2"), client.clear_direct("bob", b"3")]
            sent = asyncio.gather(*sends, client.send_direct("", b"4"), return_exceptions=True)
            await asyncio.sleep(0)
            first, second = node.end.of_command(1, 120)
            [third] = node.end.of_command(1, 121)
            payloads = [decode_direct(frame.payload) for frame in (first, second, third)]
            self.assertEqual(payloads, [("bob", b"1"), ("eve", b"2"), ("bob", b"3")])
            node.end.answer(third)
            node.end.refuse(second, 30, "no such user")
            node.end.answer(first)
            results = await asyncio.wait_for(sent, 30)
            self.assertEqual([type(result) for result in results[1::2]], [UserNotFound, MalformedPayload])
            self.assertEqual(results[::2], [None, None])
            node.end.push(1, 120, encode_direct("bob", b"hi"))
            self.assertEqual(await anext(events), DirectMessageReceived("bob", b"hi"))
            await client.close()

        _run(main())

    def test_rooms(self) -> None:
        """Rooms are made, joined, listed, spoken in and left by coroutines."""

        async def main() -> None:
            client, node = await _signed_in()
            room_id = "r" * 52
            calls: list[tuple[int, Coroutine[Any, Any, object], bytes, object]] = [
                (100, client.create_room(max_members=2), room_id.encode(), room_id),
                (101, client.join_room(room_id), b"\x03bob", "bob"),
                (103, client.broadcast_room(room_id, b"hi"), b"", None),
                (104, client.room_members(room_id), b"\x03bob\x03bob\x03ann", ("bob", ["bob", "ann"])),
                (102, client.leave_room(room_id), b"", None),
            ]
            for cmd, call, answer, result in calls:
                waiting = asyncio.create_task(call)
                await asyncio.sleep(0)
                [frame] = node.end.of_command(1, cmd)
                node.end.answer(frame, answer)
                self.assertEqual(await asyncio.wait_for(waiting, 30), result)
            await client.close()

        _run(main())

    def test_answer_then_event(self) -> None:
        """A change that comes behind the list it changes is told when the program has the list, not before."""

        async def main() -> None:
            client, node = await _signed_in()
            told: list[object] = []
            end = client.on(DirectMessageReceived, told.append)

            async def ask() -> None:
                told.append(await client.request(1, 200))

            asking = asyncio.create_task(ask())
            await asyncio.sleep(0)
            [frame] = node.end.of_command(1, 200)
            first, second, third = (DirectMessageReceived("bob", message) for message in (b"1", b"2", b"3"))
            node.end.push(1, 120, encode_direct("bob", b"1"))
            node.end.answer(frame, b"list")
            node.end.push(1, 120, encode_direct("bob", b"2"))
            await asyncio.wait_for(asking, 30)
            await asyncio.sleep(0)
            self.assertEqual(told, [first, b"list", second])
            node.end.push(1, 120, encode_direct("bob", b"3"))
            end()
            await asyncio.sleep(0)
            self.assertNotIn(third, told)
            await client.close()

        _run(main())

    def test_events_left(self) -> None:
        """A loop over events that is left, or whose task is cancelled, leaves nothing behind that gathers them."""

        async def main() -> None:
            client = Client("tcp://127.0.0.1:1", "ann")
            listeners, event = client._client._listeners, DirectMessageReceived("bob", b"hi")

            async def read(is_once: bool) -> None:
                async for _ in client.events():
                    if is_once:
                        break

            tasks = [asyncio.create_task(read(is_once)) for is_once in (True, False)]
            await asyncio.sleep(0)
            listeners.tell(event)
            await asyncio.wait_for(tasks[0], 30)
            tasks[1].cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await tasks[1]
            for _ in range(5):
                # The loop closes a generator that was left some turns later.
                await asyncio.sleep(0)
            listeners.tell(event)
            self.assertEqual(client._client._streams, {})
            await client.close()

        _run(main())

    def test_events_end(self) -> None:
        """The stream of events ends for asyncio too, and a callback may be a coroutine function."""

        async def main() -> None:
            client = Client("tcp://127.0.0.1:1", "ann")
            heard: list[Event] = []
            has_heard = asyncio.Event()

            async def hear(event: Event) -> None:
                await asyncio.sleep(0)
                heard.append(event)
                has_heard.set()

            client.on(Event, hear)
            events = client.events()
            gone = Disconnected(4504, "kicked", False)
            client._client._listeners.tell(gone)
            self.assertEqual([event async for event in events], [gone])
            await asyncio.wait_for(has_heard.wait(), 30)
            self.assertEqual(heard, [gone])
            await client.close()

        _run(main())
