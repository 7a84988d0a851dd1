"""A recorded conversation of two nodes of version 1, read by the nodes of today.

It is made without our encoders, so that a change of the link protocol shows here, and not when the first of ten nodes
is upgraded. What is recorded is never changed; a new version gets a recording of its own beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from meshrelay.directory import errors as directory_errors
from meshrelay.directory.calls import CALLS, FIND_USER, Call
from meshrelay.http.node_status import STATUS_CALL, decode_status, encode_question
from meshrelay.http.reserve import RESERVE_CALL, decode_request, decode_reserved
from meshrelay.mesh.errors import LinkRefused
from meshrelay.mesh.greeting import AcceptorGreeting, DialerGreeting, NodeIdentity
from meshrelay.wire import group_node, session_node
from meshrelay.wire.group_node import HoldSettings, MemberEntry
from meshrelay.wire.node import (
    NODE_PROTOCOL,
    CallStatus,
    Refusal,
    Resume,
    decode_ack,
    decode_batch,
    decode_call,
    decode_call_answer,
    decode_refusal,
)
from meshrelay.wire.node_kinds import NodeKind
from tests.vectors import load_vectors

VECTORS = load_vectors("node-link-1")
NEXT = VECTORS["next"]

#: Those of version 1; later ones are unknown to a node that is one version behind.
KINDS = {each["kind"] for each in VECTORS["batch"]["messages"]}

#: Calls whose payloads are plain bytes.
PLAIN_CALLS = {"nodes.sees", "group.pick"}

SESSION_CALLS: Mapping[str, tuple[Callable[[bytes], Any], Callable[[bytes], Any]]] = {
    "session.end": (session_node.decode_end, lambda answer: None if answer == b"" else answer),
    "session.release": (session_node.decode_name, session_node.decode_handover),
    "session.recall": (session_node.decode_name, session_node.decode_recalled),
}

#: Empty ones may be left out on the way.
EMPTY: tuple[object, ...] = (0, "", b"", False, None, [], {})


def raw(text: str) -> bytes:
    """Bytes of hex digits."""
    return bytes.fromhex(text)


def identity(end: Mapping[str, Any], protocol: int = 1) -> NodeIdentity:
    """Who one end of the recording is."""
    return NodeIdentity(end["node_id"], raw(end["incarnation"]), 0, protocol)


def resume(end: Mapping[str, Any]) -> Resume:
    """Where the batches of one end stand."""
    return Resume(end["epoch"], end["peer_epoch"], end["received"])


def fields_of(value: Any) -> dict[str, Any]:
    """What was decoded, as it is recorded."""
    fields: dict[str, Any] = value._asdict()
    for name, field in fields.items():
        if isinstance(field, HoldSettings):
            fields[name] = list(field)
        elif isinstance(field, bytes):
            fields[name] = field.hex()
        elif isinstance(field, tuple):
            fields[name] = [list(each) if isinstance(each, MemberEntry) else each for each in field]
    return fields


def plain(payload: bytes) -> Any:
    """MessagePack without what is empty."""
    value = msgspec.msgpack.decode(payload)
    return {k: v for k, v in value.items() if v not in EMPTY} if isinstance(value, dict) else value


class GreetingTests(SynchronousTestCase):
    """The greeting of version 1."""

    def setUp(self) -> None:
        greeting = VECTORS["greeting"]
        self.secret = raw(greeting["secret"])
        self.left, self.right = greeting["dialer"], greeting["acceptor"]
        self.dialer = DialerGreeting(identity(self.left), self.secret, raw(self.left["nonce"]), None)
        self.acceptor = AcceptorGreeting(identity(self.right), self.secret, raw(self.right["nonce"]), None)

    def test_dialer(self) -> None:
        """A node that dials says what it said then, and takes the answers of then."""
        self.assertEqual(self.dialer.hello().hex(), self.left["hello"])
        self.assertEqual(self.dialer.hello_answered(raw(self.right["hello_answer"]), "n2").protocol, 1)
        self.assertEqual(self.dialer.proof(resume(self.left)).hex(), self.left["proof"])
        self.assertEqual(self.dialer.proof_answered(raw(self.right["proof_answer"])), resume(self.right))

    def test_acceptor(self) -> None:
        """A node that is dialled does the same."""
        self.assertEqual(self.acceptor.hello_received(raw(self.left["hello"])).hex(), self.right["hello_answer"])
        self.assertEqual(self.acceptor.proof_received(raw(self.left["proof"])), resume(self.left))
        self.assertEqual(self.acceptor.welcome(resume(self.right)).hex(), self.right["proof_answer"])

    def test_version_1_is_spoken(self) -> None:
        """The nodes of today link to nodes of version 1: they say so, and mean it."""
        today = NodeIdentity("n2", b"i" * 16)
        self.assertEqual(today.min_protocol, 1)
        self.assertGreaterEqual(today.protocol, NODE_PROTOCOL)
        acceptor = AcceptorGreeting(today, self.secret, b"n" * 32, None)
        acceptor.hello_received(raw(self.left["hello"]))
        assert acceptor.peer is not None
        self.assertEqual((acceptor.peer.node_id, acceptor.peer.protocol), ("n1", 1))

    def test_next_version(self) -> None:
        """A node of version 2 that still speaks 1 is linked, whatever else it says and whatever features it has."""
        peer = self.dialer.hello_answered(raw(NEXT["hello_answer"]), "n2")
        self.assertEqual((peer.protocol, peer.min_protocol, peer.features), (2, 1, NEXT["features"]))
        self.assertEqual(self.dialer.proof(resume(self.left)).hex(), NEXT["dialer_proof"])
        self.assertEqual(self.dialer.proof_answered(raw(NEXT["proof_answer"])), resume(self.right))

    def test_too_new(self) -> None:
        """A node that speaks version 1 no more is refused with both versions in the text."""
        one = AcceptorGreeting(NodeIdentity("n1", b"i" * 16, 0, 1), self.secret, b"n" * 32, None)
        with self.assertRaises(LinkRefused) as caught:
            one.hello_received(raw(NEXT["too_new"]))
        refused: LinkRefused = caught.exception
        self.assertEqual(refused.code, Refusal.VERSION)
        self.assertEqual(refused.text, "n1 speaks versions 1 to 1, n2 2 to 3")


class BatchTests(SynchronousTestCase):
    """A batch of version 1 that has every kind of message."""

    def setUp(self) -> None:
        self.recorded = VECTORS["batch"]

    def test_batch(self) -> None:
        """All messages of it are known, in their order."""
        batch = decode_batch(raw(self.recorded["bytes"]), KINDS)
        messages = self.recorded["messages"]
        self.assertEqual((batch.number, batch.skipped_count), (1, 0))
        self.assertEqual(batch.messages, [(each["kind"], raw(each["payload"])) for each in messages])
        self.assertEqual(decode_ack(raw(self.recorded["ack"]["bytes"])), self.recorded["ack"]["number"])

    def test_kinds(self) -> None:
        """The recording has each kind of version 1, under the number that it has today."""
        kinds = {each["name"]: each["kind"] for each in self.recorded["messages"]}
        self.assertEqual(len(kinds), 9)
        for name, kind in kinds.items():
            self.assertEqual(NodeKind[name], kind)

    def test_payloads(self) -> None:
        """Each message says what it said then."""
        for each in self.recorded["messages"]:
            decode = getattr(group_node, f"decode_{each['name'].removeprefix('GROUP_').lower()}")
            self.assertEqual(fields_of(decode(raw(each["payload"]))), each["fields"], each["name"])

    def test_content(self) -> None:
        """A cast has every type of entry."""
        cast = next(each for each in self.recorded["messages"] if each["name"] == "GROUP_CAST")
        entries = group_node.decode_content(raw(cast["fields"]["content"]))
        self.assertEqual([[entry_type, data.hex()] for entry_type, data in entries], self.recorded["entries"])
        self.assertEqual({entry_type for entry_type, _ in entries}, set(range(1, 8)))

    def test_next_version(self) -> None:
        """Messages, bits, fields and entries that only version 2 knows are passed over; the others count."""
        batch = decode_batch(raw(NEXT["batch"]), KINDS)
        self.assertEqual(batch.messages, [(kind, raw(payload)) for kind, payload in NEXT["known"]])
        self.assertEqual(batch.skipped_count, NEXT["skipped"])
        hold = group_node.decode_hold(raw(NEXT["hold"]))
        self.assertEqual((hold.asks, hold.settings), (True, HoldSettings(True, False, 3600, 300, 5)))
        entry_types = [entry_type for entry_type, _ in group_node.decode_content(raw(NEXT["content"]))]
        self.assertEqual(entry_types, [200, 1])


class CallTests(SynchronousTestCase):
    """Questions and answers of version 1."""

    def setUp(self) -> None:
        self.calls = {each["name"]: each for each in VECTORS["calls"]}
        self.directory_calls: dict[str, Call[Any, Any]] = {call.name: call for call in CALLS}

    def test_frames(self) -> None:
        """Name, payload and answer of each call are found."""
        for name, each in self.calls.items():
            self.assertEqual(decode_call(raw(each["bytes"])), (name, raw(each["payload"])))
            self.assertEqual(decode_call_answer(raw(each["answer"])), (CallStatus.OK, raw(each["answer_payload"])))
        for each in VECTORS["failures"]:
            status, text = decode_call_answer(raw(each["bytes"]))
            self.assertEqual((status, text.decode()), (each["status"], each["text"]))

    def test_all_are_known(self) -> None:
        """No call of version 1 is forgotten here."""
        known = {*PLAIN_CALLS, *SESSION_CALLS, *self.directory_calls, RESERVE_CALL, STATUS_CALL}
        self.assertLessEqual(self.calls.keys(), known)

    def test_session_calls(self) -> None:
        """What nodes ask about sessions reads as it did."""
        for name, (decode, decode_answer) in SESSION_CALLS.items():
            payload, answer = raw(self.calls[name]["payload"]), raw(self.calls[name]["answer_payload"])
            self.assertEqual(plain(msgspec.msgpack.encode(decode(payload))), plain(payload), name)
            read = decode_answer(answer)
            if read is not None:
                self.assertEqual(plain(msgspec.msgpack.encode(read)), plain(answer), name)

    def test_directory_calls(self) -> None:
        """What nodes ask the node that has the directory reads as it did, answers and errors included."""
        recorded = {name for name in self.calls if name.startswith("directory.")}
        self.assertLessEqual(recorded, self.directory_calls.keys())
        for name in recorded:
            call, each = self.directory_calls[name], self.calls[name]
            arguments = call.decode_arguments(raw(each["payload"]))
            self.assertEqual(plain(call.encode_arguments(arguments)), plain(raw(each["payload"])), name)
            value = call.read_answer(raw(each["answer_payload"]))
            answer = raw(each["answer_payload"])[1:]
            self.assertEqual(plain(call.encode_value(value)[1:]), plain(answer), name)
        for answer_hex, error_name, text in VECTORS["directory_errors"]:
            error = getattr(directory_errors, error_name, ValueError)
            self.assertIn(text, str(self.assertRaises(error, FIND_USER.read_answer, raw(answer_hex))))

    def test_http_calls(self) -> None:
        """Secrets of UDP sessions and the status of nodes read as they did."""
        reserve, status = self.calls[RESERVE_CALL], self.calls[STATUS_CALL]
        request = decode_request(raw(reserve["payload"]))
        self.assertEqual((request.user_id, request.received), ("user-1", 5))
        place, secrets = decode_reserved(raw(reserve["answer_payload"]))
        self.assertEqual((place.host, place.port, secrets.mac_key), ("10.0.0.2", 7100, b"m" * 16))
        self.assertEqual(encode_question(10), raw(status["payload"]))
        node = decode_status("n2", raw(status["answer_payload"]))
        self.assertEqual((node.state, [link.to for link in node.links]), ("ready", ["n1"]))

    def test_refusals(self) -> None:
        """Refusals keep their codes."""
        for each in VECTORS["refusals"]:
            self.assertEqual(decode_refusal(raw(each["bytes"])), (Refusal[each["name"]], each["name"]))

    def test_next_version(self) -> None:
        """New members of a map are passed over, new refusals and failures are some refusal and some failure."""
        self.assertTrue(session_node.decode_handover(raw(NEXT["release_answer"])).is_found)
        self.assertEqual(decode_refusal(raw(NEXT["refusal"])), (Refusal.OTHER, "a reason of version 2"))
        self.assertEqual(decode_call_answer(raw(NEXT["call_status"])), (CallStatus.FAILED, b"another failure"))
