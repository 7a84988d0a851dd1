"""Unmasks long WebSocket payloads by the compiled code that Autobahn brings along (RFC 6455, section 5.3).

Autobahn's own way to it makes three objects for each payload, which cost 3 microseconds; the functions underneath take
0.7, and hardly more for a thousand bytes. They are in no documentation of Autobahn's, and not every build has them:
without, long integers do it, as they do for short payloads, where the call alone would cost more than the work.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from meshrelay.wire.websocket_decoder import unmask

__all__ = ["fastest_unmask"]


def fastest_unmask(module_name: str = "_nvx_xormasker") -> Callable[[bytes, bytes], bytes]:
    """Return a function that does what `meshrelay.wire.websocket_decoder.unmask` does, and is fast for long payloads.

    :param module_name: of Autobahn's extension; `unmask` is returned where there is none.
    """
    try:
        module = import_module(module_name)
        lib, ffi = module.lib, module.ffi
        make, process, free, view = lib.nvx_xormask_new, lib.nvx_xormask_process, lib.nvx_xormask_free, ffi.from_buffer
        octets = ffi.typeof("uint8_t[]")
    except (ImportError, AttributeError):
        return unmask

    def compiled(data: bytes, mask: bytes) -> bytes:
        buffer = bytearray(data)
        masker = make(mask)
        if not masker:
            raise MemoryError
        process(masker, view(octets, buffer), len(buffer))
        free(masker)
        return bytes(buffer)

    return compiled
