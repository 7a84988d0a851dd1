"""Frames that kill a process of the npm package peer-relay 0.0.2, each seen to do so by ``test_peer_relay_programs``.

A frame is text. IDs in it are hex; ``victim`` is whom it is addressed to, ``sender`` whom it says it is from.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from tests.interop.raw_overlay_peer import envelope

__all__ = ["DELIVERED", "FORWARDED", "HELLOS", "NON_PACKETS", "REPLIED", "RTC_SIGNALS", "SIGNALS", "Frame"]

Frame = Callable[[str, str], str]


def _with(data: Any, **others: Any) -> Frame:
    return lambda victim, sender: json.dumps(envelope(victim, sender, data, **others))


def _without(key: str) -> Frame:
    def frame(victim: str, sender: str) -> str:
        whole = envelope(victim, sender, {"type": "user", "data": 1})
        del whole[key]
        return json.dumps(whole)

    return frame


def _text(text: str) -> Frame:
    return lambda victim, sender: text


def _deep(victim: str, sender: str) -> str:
    whole = json.dumps(envelope(victim, sender, {"type": "user", "data": 0}))
    return whole[:-2] + ', "more": ' + "[" * 20_000 + "]" * 20_000 + "}}"


def _answer(url: Any) -> Frame:
    # Who is linked is not listened to.
    return _with({"type": "handshake-answer", "data": {"ws": url, "wrtc": False}}, **{"from": os.urandom(20).hex()})


_USER = {"type": "user", "data": 1}

#: Instead of a hello.
HELLOS: dict[str, Frame] = {
    "hello is not JSON": _text("hello"),
    "hello is null": _text("null"),
    "hello is a number": _text("7"),
    "hello is true": _text("true"),
    "hello is an object": _text("{}"),
}

#: After a hello: kill whom they are addressed to, and if they can be read at all, anybody on their way.
DELIVERED: dict[str, Frame] = {
    "not JSON": _text("nonsense"),
    "null": _text("null"),
    "no path": _without("path"),
    "no to": _without("to"),
    "no from": _without("from"),
    "no nonce": _without("nonce"),
    "nonce is a number": _with(_USER, nonce=123456789),
    "to is a number": lambda victim, sender: json.dumps(envelope(7, sender, _USER)),
    "to is a huge array": lambda victim, sender: json.dumps(envelope({"length": 1e12}, sender, _USER)),
    "from is a number": _with(_USER, **{"from": 7}),
    "path is null": _with(_USER, path=None),
    "data is null": _with(None),
    "no data": _without("data"),
    "findPeers without an ID": _with({"type": "findPeers"}),
    "findPeers for a number": _with({"type": "findPeers", "data": 7}),
    "foundPeers is no list": _with({"type": "foundPeers", "data": 7}),
    "foundPeers is absent": _with({"type": "foundPeers"}),
    "foundPeers with a number": _with({"type": "foundPeers", "data": [7]}),
    "foundPeers with null": _with({"type": "foundPeers", "data": [None]}),
    "answer with an invalid URL": _answer("nonsense"),
    "answer with a URL without a host": _answer("ws://"),
    "answer with a number for a URL": _answer(7),
}

#: Kill a peer without WebRTC.
SIGNALS: dict[str, Frame] = {
    "signal": _with({"type": "signal", "data": {"type": "offer", "sdp": "v=0"}}),
    "signal without data": _with({"type": "signal"}),
}

#: Data of ``signal`` that kill a peer with WebRTC when they are sent a few times.
RTC_SIGNALS: dict[str, Any] = {
    "null in text": "null",
    "a number in text": "7",
    "a candidate of null": {"candidate": None},
    "of another version": {"renegotiate": True},
}

#: Kill whoever passes them on.
FORWARDED: dict[str, Frame] = {
    "path is an object": _with(_USER, path={}),
    "path is text": _with(_USER, path="abc"),
    "path is a number": _with(_USER, path=7),
    "nested deeply": _deep,
}

#: Kill whoever has received them and then sends to the one they say they are from.
REPLIED: dict[str, Frame] = {
    "path is empty": _with(_USER, path=[]),
    "path of numbers": _with(_USER, path=[7]),
    "path of nulls": _with(_USER, path=[None]),
}

#: Data of ``user`` that kill a Socket.
NON_PACKETS: dict[str, Any] = {
    "text": "hello",
    "null": None,
    "an object": {"x": 1},
    "a buffer that is null": {"buffer": None, "address": "00" * 20, "port": 1},
}
