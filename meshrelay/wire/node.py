"""What nodes say to each other, version 1: bytes to values and back. Perspective Broker only carries these bytes.

==========  ==============================================================================================
Hello       u8 1, u8 protocol, u8 min_protocol, str8 node_id, 16 bytes incarnation, u64 features, 32 nonce
Proof       u8 2, 32 bytes proof, Resume
Resume      u64 epoch, u64 peer_epoch, u64 received
answer      u8 0 and a Hello (to a Hello) or a Proof (to a Proof); else u8 refusal code and its text, UTF-8
bye         u8 refusal code and its text, UTF-8
batch       u64 number, then messages: u8 kind, u32 length, payload
ack         u64: number of the last batch received in order
call        str8 name, then the payload; its answer: u8 status, then the payload, or a text unless it is 0
==========  ==============================================================================================

The way: ``mesh.batches`` makes batches, ``mesh.greeting`` says hello, ``mesh.strand`` carries both.

Integers are big-endian. An older node can talk to a newer one: what stands behind the last field of a Hello or Proof
is passed over, features are bits of which unknown ones are ignored, and messages of an unknown kind are skipped and
counted. Sizes are bounded here for both directions, so that no batch comes near what banana refuses (640 KiB).
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from enum import IntEnum, unique
from struct import Struct
from struct import error as struct_error

from meshrelay.errors import LocalProtocolError, MalformedFrame

__all__ = [
    "INCARNATION_BYTES",
    "MAX_BATCH_BYTES",
    "MAX_BATCH_MESSAGES",
    "MAX_CALL_BYTES",
    "MAX_MESSAGE_BYTES",
    "MAX_TEXT_BYTES",
    "MESSAGE_OVERHEAD_BYTES",
    "NODE_PROTOCOL",
    "NONCE_BYTES",
    "PROOF_BYTES",
    "Batch",
    "CallStatus",
    "Hello",
    "Message",
    "Proof",
    "Refusal",
    "Resume",
    "decode_ack",
    "decode_answer",
    "decode_batch",
    "decode_call",
    "decode_call_answer",
    "decode_hello",
    "decode_proof",
    "decode_refusal",
    "encode_ack",
    "encode_batch",
    "encode_call",
    "encode_call_answer",
    "encode_hello",
    "encode_proof",
    "encode_refusal",
    "encode_welcome",
]

#: The newest version spoken here.
NODE_PROTOCOL = 1

INCARNATION_BYTES = 16
NONCE_BYTES = 32
PROOF_BYTES = 32

#: Messages of one batch. More make banana slower, not faster.
MAX_BATCH_MESSAGES = 400

#: Bytes of one batch, unless it is one large message alone.
MAX_BATCH_BYTES = 128 * 1024

#: Largest payload of one message.
MAX_MESSAGE_BYTES = 512 * 1024

#: Largest payload of a call or of its answer.
MAX_CALL_BYTES = 512 * 1024

#: Longest text of a refusal or a failed call, encoded; what is longer is cut.
MAX_TEXT_BYTES = 512

#: Longest node ID, encoded.
MAX_NODE_ID_BYTES = 64

_HELLO_KIND = 1
_PROOF_KIND = 2

_HELLO_HEAD = Struct("!BBB")
_HELLO_TAIL = Struct(f"!{INCARNATION_BYTES}sQ{NONCE_BYTES}s")
_PROOF = Struct(f"!B{PROOF_BYTES}sQQQ")
_NUMBER = Struct("!Q")
_MESSAGE = Struct("!BI")

#: Bytes that a message needs beside its payload.
MESSAGE_OVERHEAD_BYTES = _MESSAGE.size

#: A number of a batch stays below this, so that it fits a u64 with room.
_MAX_NUMBER = (1 << 64) - 1


@unique
class Refusal(IntEnum):
    """Why a node does not link, or no longer. Codes are only ever added; an unknown one is passed on as OTHER."""

    #: No version that both speak.
    VERSION = 1
    #: The other end does not know the shared secret.
    SECRET = 2
    #: The other end is this very node.
    SELF = 3
    #: Not the node that was dialled, or its certificate names another one.
    WRONG_NODE = 4
    #: Another living node has this ID.
    TWICE = 5
    #: A newer connection of the same two nodes took over.
    REPLACED = 6
    #: The link is no longer wanted.
    CLOSED = 7
    #: What was sent does not follow the protocol.
    PROTOCOL = 8
    #: Too many connections are being greeted.
    BUSY = 9
    #: Only links with TLS are taken.
    PLAIN = 10
    OTHER = 255


@unique
class CallStatus(IntEnum):
    """First byte of the answer to a call."""

    OK = 0
    #: The other end raised; its log has it.
    FAILED = 1
    #: It did not end in time.
    TIMED_OUT = 2
    #: Too many calls at a time.
    BUSY = 3


@dataclass(frozen=True, slots=True)
class Hello:
    """Who speaks, and what it can."""

    #: Newest version spoken, 1 to 255.
    protocol: int
    #: Oldest version spoken.
    min_protocol: int
    #: 1 to 64 bytes of ASCII.
    node_id: str
    #: 16 random bytes: another one after each start.
    incarnation: bytes
    #: Bits; unknown ones are ignored.
    features: int
    #: 32 random bytes of this connection.
    nonce: bytes


@dataclass(frozen=True, slots=True)
class Resume:
    """Where the batches of both directions stand."""

    #: Names the numbering of the sender's own batches; never 0.
    epoch: int
    #: The numbering of the other end that `received` is about; 0 = none yet.
    peer_epoch: int
    #: Last batch received in order; 0 = none.
    received: int


@dataclass(frozen=True, slots=True)
class Proof:
    """That the sender knows the secret, and where its batches stand."""

    #: HMAC-SHA256 over both Hellos.
    proof: bytes
    resume: Resume


#: Kind and payload.
Message = tuple[int, bytes]


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages that travelled together."""

    #: From 1, without gaps.
    number: int
    messages: list[Message]
    #: Messages of a kind unknown here, left out of `messages`.
    skipped_count: int = 0


def _text(data: bytes) -> str:
    return data[:MAX_TEXT_BYTES].decode("utf-8", "replace")


def _cut_text(text: str) -> bytes:
    # Cut between characters.
    return text.encode("utf-8", "replace")[:MAX_TEXT_BYTES].decode("utf-8", "ignore").encode("utf-8")


def encode_hello(hello: Hello) -> bytes:
    """Return the bytes of a Hello.

    :raises LocalProtocolError: a field is out of its range.
    """
    try:
        name = hello.node_id.encode("ascii")
        if not 1 <= len(name) <= MAX_NODE_ID_BYTES:
            raise LocalProtocolError(f"node ID of {len(name)} bytes")
        head = _HELLO_HEAD.pack(_HELLO_KIND, hello.protocol, hello.min_protocol)
        return b"%b%c%b%b" % (
            head,
            len(name),
            name,
            _HELLO_TAIL.pack(hello.incarnation, hello.features, hello.nonce),
        )
    except (struct_error, UnicodeEncodeError) as error:
        raise LocalProtocolError(f"Hello: {error}") from None


def decode_hello(data: bytes) -> Hello:
    """The reverse of `encode_hello`; what a later version appends is passed over.

    :raises MalformedFrame: the peer's fault.
    """
    head = _HELLO_HEAD.size
    try:
        kind, protocol, min_protocol = _HELLO_HEAD.unpack_from(data, 0)
        size = data[head]
        name = data[head + 1 : head + 1 + size].decode("ascii")
        incarnation, features, nonce = _HELLO_TAIL.unpack_from(data, head + 1 + size)
    except (struct_error, IndexError, UnicodeDecodeError) as error:
        raise MalformedFrame(f"Hello: {error}") from None
    if kind != _HELLO_KIND:
        raise MalformedFrame(f"Hello: kind {kind}")
    if not 1 <= size <= MAX_NODE_ID_BYTES or not name.isprintable() or " " in name:
        raise MalformedFrame(f"Hello: {size} bytes are no node ID")
    if not 1 <= min_protocol <= protocol:
        raise MalformedFrame(f"Hello: versions {min_protocol} to {protocol}")
    return Hello(protocol, min_protocol, name, incarnation, features, nonce)


def encode_proof(proof: Proof) -> bytes:
    """Return the bytes of a Proof.

    :raises LocalProtocolError: a field is out of its range.
    """
    resume = proof.resume
    try:
        return _PROOF.pack(_PROOF_KIND, proof.proof, resume.epoch, resume.peer_epoch, resume.received)
    except struct_error as error:
        raise LocalProtocolError(f"Proof: {error}") from None


def decode_proof(data: bytes) -> Proof:
    """The reverse of `encode_proof`.

    :raises MalformedFrame: the peer's fault.
    """
    try:
        kind, proof, epoch, peer_epoch, received = _PROOF.unpack_from(data, 0)
    except struct_error as error:
        raise MalformedFrame(f"Proof: {error}") from None
    if kind != _PROOF_KIND or epoch == 0:
        raise MalformedFrame(f"Proof: kind {kind}, epoch {epoch}")
    return Proof(proof, Resume(epoch, peer_epoch, received))


def encode_refusal(code: Refusal, text: str) -> bytes:
    """Return the bytes of a refusal, or of a bye."""
    return bytes((code,)) + _cut_text(text)


def decode_refusal(data: bytes) -> tuple[Refusal, str]:
    """Return code and text.

    :raises MalformedFrame: the peer's fault.
    """
    if not data or data[0] == 0:
        raise MalformedFrame("refusal without a code")
    code = Refusal(data[0]) if data[0] in Refusal._value2member_map_ else Refusal.OTHER
    return code, _text(data[1:])


def encode_welcome(answer: bytes) -> bytes:
    """Return the answer that holds an encoded Hello or Proof."""
    return b"\0" + answer


def decode_answer(data: bytes) -> bytes | tuple[Refusal, str]:
    """Return what stands in the answer to a Hello or Proof: encoded as that one was, or a refusal.

    :raises MalformedFrame: the peer's fault.
    """
    return data[1:] if data[:1] == b"\0" else decode_refusal(data)


def encode_batch(number: int, messages: Sequence[Message]) -> bytes:
    """Return the bytes of a batch.

    :raises LocalProtocolError: the number, the count, a kind or a size is out of its range.
    """
    if not 1 <= number <= _MAX_NUMBER or not 1 <= len(messages) <= MAX_BATCH_MESSAGES:
        raise LocalProtocolError(f"batch {number} of {len(messages)} messages")
    pack = _MESSAGE.pack
    parts = [_NUMBER.pack(number)]
    try:
        for kind, payload in messages:
            parts.append(pack(kind, len(payload)))
            parts.append(payload)
    except struct_error as error:
        raise LocalProtocolError(f"batch {number}: {error}") from None
    data = b"".join(parts)
    _check_batch_size(len(data), len(messages), LocalProtocolError)
    return data


def _check_batch_size(size: int, count: int, error: type[LocalProtocolError | MalformedFrame]) -> None:
    one_alone = _NUMBER.size + _MESSAGE.size + MAX_MESSAGE_BYTES
    limit = one_alone if count == 1 else MAX_BATCH_BYTES
    if size > limit:
        raise error(f"batch of {count} messages has {size} bytes, {limit} are allowed")


def decode_batch(data: bytes, known_kinds: Container[int]) -> Batch:
    """The reverse of `encode_batch`.

    :param known_kinds: messages of other kinds are skipped and counted.
    :raises MalformedFrame: the peer's fault.
    """
    size = len(data)
    if size < _NUMBER.size:
        raise MalformedFrame(f"batch of {size} bytes")
    number = _NUMBER.unpack_from(data, 0)[0]
    unpack, offset, count = _MESSAGE.unpack_from, _NUMBER.size, 0
    messages: list[Message] = []
    while offset < size:
        if offset + MESSAGE_OVERHEAD_BYTES > size:
            raise MalformedFrame(f"batch {number}: the head of a message is cut off")
        kind, length = unpack(data, offset)
        start = offset + MESSAGE_OVERHEAD_BYTES
        offset = start + length
        if offset > size:
            raise MalformedFrame(f"batch {number}: a message of {length} bytes is cut off")
        count += 1
        if kind in known_kinds:
            messages.append((kind, data[start:offset]))
    if number == 0 or not 1 <= count <= MAX_BATCH_MESSAGES:
        raise MalformedFrame(f"batch {number} of {count} messages")
    _check_batch_size(size, count, MalformedFrame)
    return Batch(number, messages, count - len(messages))


def encode_ack(number: int) -> bytes:
    """Return the bytes of an acknowledgement of all batches up to `number`."""
    return _NUMBER.pack(number)


def decode_ack(data: bytes) -> int:
    """The reverse of `encode_ack`.

    :raises MalformedFrame: the peer's fault.
    """
    if len(data) != _NUMBER.size:
        raise MalformedFrame(f"acknowledgement of {len(data)} bytes")
    number: int = _NUMBER.unpack(data)[0]
    return number


def encode_call(name: str, payload: bytes) -> bytes:
    """Return the bytes of a call.

    :param name: 1 to 255 bytes of ASCII.
    :raises LocalProtocolError: name or payload is too long.
    """
    encoded = name.encode("ascii", "replace")
    if not 1 <= len(encoded) <= 255 or len(payload) > MAX_CALL_BYTES:
        raise LocalProtocolError(f"call {name!r} of {len(payload)} bytes")
    return b"%c%b%b" % (len(encoded), encoded, payload)


def decode_call(data: bytes) -> tuple[str, bytes]:
    """Return name and payload.

    :raises MalformedFrame: the peer's fault.
    """
    if not data or not 1 <= data[0] < len(data):
        raise MalformedFrame("call without a name")
    end = 1 + data[0]
    try:
        return data[1:end].decode("ascii"), data[end:]
    except UnicodeDecodeError:
        raise MalformedFrame("call: the name is not ASCII") from None


def encode_call_answer(status: CallStatus, payload: bytes | str) -> bytes:
    """Return the answer to a call.

    :param payload: bytes of the answer for OK, else a text.
    :raises LocalProtocolError: the answer is too long.
    """
    content = _cut_text(payload) if isinstance(payload, str) else payload
    if len(content) > MAX_CALL_BYTES:
        raise LocalProtocolError(f"the answer to a call has {len(content)} bytes")
    return bytes((status,)) + content


def decode_call_answer(data: bytes) -> tuple[CallStatus, bytes]:
    """Return status and payload; a status of a later version reads as FAILED.

    :raises MalformedFrame: the peer's fault.
    """
    if not data:
        raise MalformedFrame("empty answer to a call")
    known = data[0] in CallStatus._value2member_map_
    return CallStatus(data[0]) if known else CallStatus.FAILED, data[1:]
