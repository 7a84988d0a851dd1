"""The application of the lobby example, run in a node without ports."""

from __future__ import annotations

import json
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from random import Random
from sys import modules
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from meshrelay.errors import ErrorCode
from meshrelay.model import Status
from meshrelay.testing.node import MemoryClient, make_node
from meshrelay.wire.commands import Command, encode_gid_message
from meshrelay.wire.room_commands import NewRoom, encode_new_room

EXAMPLE = Path(__file__).parent.parent / "examples" / "lobby" / "lobby_app.py"


def load_example() -> Any:
    """Import the example, which is in no package. Its types are looked up among the modules that there are."""
    spec = spec_from_file_location("lobby_app", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class Player:
    """Somebody with a page: what it was told last, by the number of the push."""

    def __init__(self, client: MemoryClient) -> None:
        self.client = client
        self._told: dict[int, Any] = {}

    def told(self, cmd: int) -> Any:
        """The last news of a kind; None = there were none."""
        self.client.node.advance(1)
        self._told.update({push.cmd: json.loads(push.payload) for push in self.client.pushes() if push.ver == 10})
        return self._told.get(cmd)

    def ask(self, cmd: int, **question: Any) -> Any:
        """Use a command of the example, which must take it."""
        answer = self.client.request(cmd, json.dumps(question).encode(), ver=10)
        assert answer.status == Status.OK, answer
        return json.loads(answer.payload or b"null")

    def refusal(self, cmd: int, **question: Any) -> tuple[int, str]:
        """Use a command of the example, which must refuse it; returns code and text."""
        return self.client.refusal(cmd, json.dumps(question).encode(), ver=10)[1:]

    def sit_down(self, table: str) -> None:
        """Join the room."""
        answer = self.client.request(Command.ROOM_JOIN, encode_gid_message(table, b""))
        assert answer.status == Status.OK, answer

    def not_seated(self, table: str) -> tuple[int, str]:
        """Join the room, which must be refused; returns code and text."""
        return self.client.refusal(Command.ROOM_JOIN, encode_gid_message(table, b""))[1:]


class LobbyTests(SynchronousTestCase):
    """What the example promises in its own words."""

    def setUp(self) -> None:
        """Start a node with the example in it; the lot is known."""
        self.app = load_example()
        self.addCleanup(modules.pop, "lobby_app", None)

        def set_up(relay: Any) -> None:
            self.lobby_app = self.app.LobbyApp(relay, Random(1))
            self.lobby_app.register()

        self.node = make_node(set_up=set_up)

    def enter(self, user_id: str) -> Player:
        """Return somebody who is in the lobby."""
        player = Player(self.node.sign_in(user_id))
        player.client.join(player.told(self.app.LOBBY)["lobby"])
        return player

    def begun(self) -> tuple[Player, Player, str]:
        """Return the two who play, and their table."""
        ann, bob = self.enter("ann"), self.enter("bob")
        table = ann.ask(self.app.OPEN_TABLE, name="chess", seats=3)["table"]
        bob.sit_down(table)
        for player in (ann, bob):
            player.ask(self.app.SET_READY, table=table, ready=True)
        ann.ask(self.app.START, table=table)
        return ann, bob, table

    def test_tables(self) -> None:
        """Everybody in the lobby sees how many are there, which tables there are, and how many seats are taken."""
        ann, bob = self.enter("ann"), self.enter("bob")
        self.assertEqual(ann.told(self.app.TABLES), {"people": 2, "tables": []})
        table = ann.ask(self.app.OPEN_TABLE, name="chess", seats=2)["table"]
        seen = {"id": table, "name": "chess", "seats": 2, "taken": 1, "is_started": False}
        self.assertEqual(bob.told(self.app.TABLES)["tables"], [seen])
        bob.sit_down(table)
        self.assertEqual(ann.told(self.app.TABLES)["tables"], [{**seen, "taken": 2}])

    def test_play(self) -> None:
        """When all are ready the owner starts, and both see the same order."""
        ann, bob, _ = self.begun()
        told = ann.told(self.app.TABLE)
        self.assertEqual((told["name"], told["owner"]), ("chess", "ann"))
        players = [{"user": "ann", "is_ready": True}, {"user": "bob", "is_ready": True}]
        self.assertEqual((told["players"], told), (players, bob.told(self.app.TABLE)))
        self.assertEqual(sorted(told["order"]), ["ann", "bob"])
        self.assertTrue(self.enter("eve").told(self.app.TABLES)["tables"][0]["is_started"])

    def test_no_start(self) -> None:
        """Nobody starts alone, before all are ready, for the owner, or a second time; nor at another table."""
        ann, bob = self.enter("ann"), self.enter("bob")
        table = ann.ask(self.app.OPEN_TABLE, name="chess", seats=2)["table"]
        ann.ask(self.app.SET_READY, table=table, ready=True)
        refused = ErrorCode.REFUSED
        self.assertEqual(ann.refusal(self.app.START, table=table), (refused, "not everybody is ready"))
        self.assertEqual(bob.refusal(self.app.START, table=table)[0], ErrorCode.NOT_IN_ROOM)
        self.assertEqual(bob.refusal(self.app.SET_READY, table=table, ready=True)[0], ErrorCode.NOT_IN_ROOM)
        bob.sit_down(table)
        self.assertEqual(ann.refusal(self.app.START, table=table), (refused, "not everybody is ready"))
        bob.ask(self.app.SET_READY, table=table, ready=True)
        self.assertEqual(bob.refusal(self.app.START, table=table), (refused, "only the owner of the table may start"))
        bob.ask(self.app.SET_READY, table=table, ready=False)
        self.assertEqual(ann.refusal(self.app.START, table=table), (refused, "not everybody is ready"))
        bob.ask(self.app.SET_READY, table=table, ready=True)
        ann.ask(self.app.START, table=table)
        self.assertEqual(ann.refusal(self.app.START, table=table), (refused, "the game has begun"))
        self.assertEqual(bob.refusal(self.app.SET_READY, table=table, ready=False), (refused, "the game has begun"))

    def test_seats(self) -> None:
        """Nobody sits at a full table, at two, or at one where they have begun; and rooms are made as tables only."""
        ann, bob, table = self.begun()
        eve = self.enter("eve")
        self.assertEqual(eve.not_seated(table), (ErrorCode.REFUSED, "the game has begun"))
        other = eve.ask(self.app.OPEN_TABLE, name="go", seats=2)["table"]
        self.assertEqual(ann.not_seated(other), (ErrorCode.REFUSED, "you sit at a table already"))
        again = eve.refusal(self.app.OPEN_TABLE, name="go", seats=2)
        self.assertEqual(again, (ErrorCode.REFUSED, "you sit at a table already"))
        self.enter("fay").sit_down(other)
        self.assertEqual(self.enter("gil").not_seated(other)[0], ErrorCode.ROOM_FULL)
        own_room = encode_new_room(NewRoom(2, False, True, 60, 0))
        self.assertEqual(bob.client.refusal(Command.ROOM_CREATE, own_room)[1], ErrorCode.REFUSED)

    def test_getting_up(self) -> None:
        """Who gets up is not ready any more, the next one owns the table, and it is gone with the last."""
        ann, bob = self.enter("ann"), self.enter("bob")
        table = ann.ask(self.app.OPEN_TABLE, name="chess", seats=2)["table"]
        ann.ask(self.app.SET_READY, table=table, ready=True)
        bob.sit_down(table)
        ann.client.request(Command.ROOM_LEAVE, encode_gid_message(table, b""))
        self.assertEqual(bob.told(self.app.TABLE)["owner"], "bob")
        ann.sit_down(table)
        players = [{"user": "bob", "is_ready": False}, {"user": "ann", "is_ready": False}]
        self.assertEqual(bob.told(self.app.TABLE)["players"], players)
        for player in (ann, bob):
            player.client.request(Command.ROOM_LEAVE, encode_gid_message(table, b""))
        self.assertEqual(ann.told(self.app.TABLES), {"people": 2, "tables": []})

    def test_lost(self) -> None:
        """Who loses the connection keeps the seat for as long as the session, and the others see when it is free."""
        ann, bob = self.enter("ann"), self.enter("bob")
        table = ann.ask(self.app.OPEN_TABLE, name="chess", seats=2)["table"]
        bob.sit_down(table)
        ann.client.lose()
        self.assertEqual(bob.told(self.app.TABLE)["owner"], "ann")
        self.node.advance(40, 40)
        self.assertEqual(bob.told(self.app.TABLE)["players"], [{"user": "bob", "is_ready": False}])
        self.assertEqual(bob.told(self.app.TABLES)["people"], 1)

    def test_lost_in_the_lobby(self) -> None:
        """Who was lost without a seat is counted for as long as the session, and not any more then."""
        ann, bob = self.enter("ann"), self.enter("bob")
        bob.client.lose()
        self.assertEqual(ann.told(self.app.TABLES)["people"], 2)
        self.node.advance(40, 40)
        self.assertEqual(ann.told(self.app.TABLES)["people"], 1)

    def test_look(self) -> None:
        """Who missed something is told again."""
        ann, _, table = self.begun()
        before = ann.told(self.app.TABLE), ann.told(self.app.TABLES)
        ann = Player(ann.client)
        self.assertEqual(ann.told(self.app.TABLE), None)
        self.assertEqual(ann.client.request(self.app.LOOK, ver=10).status, Status.OK)
        self.assertEqual((ann.told(self.app.TABLE), ann.told(self.app.TABLES)), before)
        self.assertEqual(before[0]["table"], table)

    def test_nonsense(self) -> None:
        """What is no question of the example is the caller's fault, and the answer says what is wrong."""
        ann = self.enter("ann")
        wrong = (
            b"",
            b"{",
            b"[]",
            b'{"name": "", "seats": 2}',
            b'{"name": "x", "seats": 9}',
            b'{"name": 1, "seats": 2}',
        )
        for cmd in (self.app.OPEN_TABLE, self.app.SET_READY, self.app.START):
            for payload in (*wrong, b'{"name": "x", "seats": 2, "more": 1}', b"\xff\xfe"):
                status, code, _ = ann.client.refusal(cmd, payload, ver=10)
                self.assertEqual((payload, status, code), (payload, Status.BAD, ErrorCode.MALFORMED_PAYLOAD))
        for payload in (b"", b"\xff" * 52, b"x" * 52, b"x" * 3):
            self.assertEqual(ann.client.request(Command.ROOM_JOIN, payload).status, Status.BAD)
            self.assertEqual(ann.client.request(Command.ROOM_LEAVE, payload).status, Status.BAD)

    def test_too_many_tables(self) -> None:
        """There are no more tables than the example says, and one that is gone makes room for another."""
        owners = [self.enter(f"user{number}") for number in range(self.app.MAX_TABLES + 1)]
        for owner in owners[:-1]:
            owner.ask(self.app.OPEN_TABLE, name="x", seats=2)
        again = {"name": "y", "seats": 2}
        self.assertEqual(owners[-1].refusal(self.app.OPEN_TABLE, **again), (ErrorCode.REFUSED, "all tables are taken"))
        first = self.node.relay.find_user("user0")
        assert first is not None
        (room,) = self.node.rooms.room_ids(first)
        owners[0].client.request(Command.ROOM_LEAVE, encode_gid_message(room, b""))
        self.node.advance(1)
        owners[-1].ask(self.app.OPEN_TABLE, **again)

    def test_few_news(self) -> None:
        """A hundred changes at once are one piece of news."""
        ann = self.enter("ann")
        table = ann.ask(self.app.OPEN_TABLE, name="chess", seats=2)["table"]
        ann.told(self.app.TABLE)
        for number in range(100):
            payload = json.dumps({"table": table, "ready": number % 2 == 0}).encode()
            ann.client.send(self.app.SET_READY, payload, ver=10)
        self.node.advance(1)
        self.assertEqual([push.cmd for push in ann.client.pushes()], [self.app.TABLE, self.app.TABLES])

    def test_starts_by_name(self) -> None:
        """The module is what a node starts with."""
        make_node(set_up=self.app.setup)
