"""What passes our codec, given to Node as a JavaScript peer would take it."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from meshrelay.wire.overlay import BadFrame, decode_frame, encode_frame, is_socket_url, new_envelope
from tests.vectors import load_vectors

VECTORS = load_vectors("overlay")
VIA = bytes.fromhex(VECTORS["via"])
SCRIPT = Path(__file__).with_name("overlay_js_checks.js")

#: Parts of frames, put where other parts stood.
PIECES = [
    *(b"null", b"7", b"-0", b"1e999", b"[]", b"{}", b'""', b"true", b'"toString"', b'"__proto__"', b'"constructor"'),
    *(b'{"length":1e9}', b'{"type":"Buffer","data":[1]}', b'{"toJSON":1}', b"\\u0000", b"\\ud800", b"\\u2028"),
    *(
        b"\xf0\x9f\x98\x80",
        b"[" * 60 + b"]" * 60,
        b'"ws"',
        b'"data"',
        b'"path"',
        b'"type"',
        b'"findPeers"',
        b'"signal"',
    ),
]

HOSTS = [
    *(
        "a",
        "a.b",
        "localhost",
        "1.2.3.4",
        "1.2.3",
        "256.1.1.1",
        "0x7f.1",
        "a.1",
        "a.0x",
        "1.a",
        "a-.b",
        "-a",
        "a_b",
        "A.B",
    ),
    *("[::1]", "[::ffff:1.2.3.4]", "[1::2::3]", "[:]", "[::1%25lo]", "xn--bcher-kva.example", "xn--a", "xn--", "xn--0"),
    *(
        "a.",
        "a..",
        ".a",
        ".",
        "b\u00fccher",
        "a%41",
        "a b",
        "a\\b",
        "a^b",
        "a|b",
        "01.2.3.4",
        "1.2.3.4.",
        "a.1.",
        "xn--a-ecp.ru",
    ),
    *("x" * 63, "x" * 64, ".".join(["x" * 60] * 4), "xn--bcher-kva.xn--p1ai", "XN--BCHER-KVA", "ab--c", "09", "a.09"),
]
TAILS = [
    *(
        "",
        "/",
        "?",
        "/a b",
        "/%",
        "/%41",
        "/\u00e9",
        "/#",
        "#",
        ":1",
        ":0",
        ":65535",
        ":65536",
        ":",
        ":a",
        ":01",
        "/a?b=c&d",
    ),
    *(
        "/\\",
        "/'",
        '/"',
        "/<",
        "/`",
        "/{",
        "/|",
        "/a/../b",
        "//",
        "/;,:@&=+$",
        "?a?b",
        "/\t",
        "/\n",
        "@b",
        ":1@b",
        "/[",
        "/^",
    ),
]


def check_in_node(frames: list[bytes]) -> list[str | None]:
    """What Node says to each frame; None: it took it."""
    node = shutil.which("node")
    if node is None:
        raise SkipTest("missing: node")
    lines = "".join(f"{json.dumps(frame.decode())}\n" for frame in frames)
    done = subprocess.run([node, str(SCRIPT)], input=lines, capture_output=True, text=True, check=True, timeout=60)
    said: list[str | None] = [json.loads(line) for line in done.stdout.splitlines()]
    return said


def mutate(source: random.Random, frame: bytes, tokens: list[bytes]) -> bytes:
    """A frame with one to three parts changed."""
    for _ in range(source.randint(1, 3)):
        start = source.randrange(len(frame) + 1)
        kind = source.randrange(3)
        if kind == 0:
            piece = source.choice(PIECES)
            old = source.choice(tokens)
            frame = frame.replace(old, piece, 1)
        elif kind == 1:
            frame = frame[:start] + bytes([source.randrange(256)]) + frame[start + source.randrange(2) :]
        else:
            frame = frame[:start] + source.choice(PIECES) + frame[start:]
    return frame


def tokens_of(vector: dict[str, Any]) -> list[bytes]:
    """Parts of a frame that others can stand for."""
    frame = json.loads(vector["frame"])
    data = frame["data"].get("data")
    values = [*frame.values(), *(data.values() if isinstance(data, dict) else [data])]
    texts = [json.dumps(value, separators=(",", ":")).encode() for value in values]
    return [*texts, b'"type"', b'"data"', b'"path"', b'"nonce"', b'"to"', vector["type"].encode()]


class NodeTests(SynchronousTestCase):
    """Nothing that we pass on ends a JavaScript peer."""

    def test_teeth(self) -> None:
        """The script finds what would end a JavaScript peer, else the tests below mean nothing."""
        said = check_in_node([each["frame"].encode() for each in VECTORS["bad"]])
        faults = {each["fault"] for each, problem in zip(VECTORS["bad"], said, strict=True) if problem is not None}
        self.assertEqual(
            faults,
            {
                "json",
                "envelope",
                "to",
                "from",
                "path",
                "nonce",
                "data",
                "find-peers",
                "found-peers",
                "answer",
                "url",
                "signal",
            },
        )

    def test_golden(self) -> None:
        """Every good frame is taken as we pass it on."""
        self.assertEqual(set(check_in_node([each["relayed"].encode() for each in VECTORS["envelopes"]])), {None})

    def test_garbage(self) -> None:
        """Whatever a peer makes of a frame, what we pass on is taken."""
        source = random.Random(9)
        relayed: list[bytes] = []
        while len(relayed) < 1000:
            vector = source.choice(VECTORS["envelopes"])
            frame = mutate(source, vector["frame"].encode(), tokens_of(vector))
            try:
                relayed.append(encode_frame(decode_frame(frame), VIA))
            except BadFrame:
                continue
        said = check_in_node(relayed)
        self.assertEqual([pair for pair in zip(relayed, said, strict=True) if pair[1] is not None], [])

    def test_urls(self) -> None:
        """Every URL that we let pass can be dialled by JavaScript."""
        urls = [f"{scheme}://{host}{tail}" for scheme in ("ws", "WSS") for host in HOSTS for tail in TAILS]
        passed = [url for url in urls if is_socket_url(url)]
        self.assertGreater(len(passed), 400)
        frames = [
            encode_frame(new_envelope(VIA, VIA, "1", "handshake-answer", json.dumps({"ws": url}).encode()), VIA)
            for url in passed
        ]
        said = check_in_node(frames)
        self.assertEqual([pair for pair in zip(passed, said, strict=True) if pair[1] is not None], [])
