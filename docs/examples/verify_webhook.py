"""Verifies what a webhook of meshrelay posts: for servers that take it."""

# begin
import hmac
from hashlib import sha256


def is_genuine(secret: bytes, signature: str, body: bytes, now: float) -> bool:
    """Whether a POST comes from a node that knows the secret, and is not an old one; now is time.time()."""
    parts = dict(part.partition("=")[::2] for part in signature.split(","))
    if not parts.get("t", "").isdecimal() or abs(now - int(parts["t"])) > 300:
        return False
    expected = hmac.new(secret, parts["t"].encode() + b"." + body, sha256).hexdigest()
    return hmac.compare_digest(expected, parts.get("v1", ""))


# end
