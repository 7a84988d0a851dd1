"""The NATs of the laboratory as rules of nftables, each router's for a host with the devices "lan" and "wan"."""

from __future__ import annotations

from enum import Enum

__all__ = ["CUT_RULES", "Nat", "loss_rules", "router_rules"]

#: Public ports of Nat.SYMMETRIC_STEP, which come round.
_FIRST_PORT, _PORTS = 30000, 2048

#: How a NAT remembers.
_KEPT = "flags dynamic,timeout; timeout 5m; size 65535;"

#: Nothing passes between the pairs of addresses that are added.
CUT_RULES = """table ip cut {
  set pairs { type ipv4_addr . ipv4_addr; }
  chain forward { type filter hook forward priority filter; ip saddr . ip daddr @pairs drop; }
}
"""


class Nat(Enum):
    """What stands between a client and the internet; UDP passes the names of RFC 3489."""

    #: A public address, no filter.
    OPEN = "open"
    #: Whoever writes to the public port reaches the client; hairpinning works. The port is chosen at random.
    FULL_CONE = "full cone"
    #: Those to whose address the client has written reach it. The port is chosen at random.
    ADDRESS_RESTRICTED = "address-restricted"
    #: Those to whose address and port it has written; what Linux does (masquerade). The client's own port is kept.
    PORT_RESTRICTED = "port-restricted"
    #: As port-restricted, but each destination sees another public port, at random (masquerade fully-random).
    SYMMETRIC = "symmetric"
    #: As symmetric, but the next destination sees the next port.
    SYMMETRIC_STEP = "symmetric in steps"
    #: A port-restricted NAT behind another, as with a provider's.
    DOUBLE = "double"
    #: Port-restricted, and no UDP at all passes.
    UDP_BLOCKED = "UDP blocked"


def loss_rules(device: str, fraction: float) -> str:
    """Lose some of the packets that come in by a device, 0 to 1 of them; given again, it replaces what was.

    Nothing is lost on the way out, where the kernel would tell the sender.
    """
    # Made and removed at once: there is no telling whether it has been there.
    rules = "table ip loss {}\ndelete table ip loss\n".replace("loss", f"loss_{device}")
    lost = round(fraction * 10000)
    if not lost:
        return rules
    drop = f"numgen random mod 10000 <= {lost - 1} drop"
    return f"""{rules}table ip loss_{device} {{
  chain arriving {{ type filter hook prerouting priority raw; iifname {device} {drop}; }}
}}
"""


def router_rules(nat: Nat, gateway: str, public_address: str) -> str:
    """Return all that a router filters and translates.

    :param nat: neither OPEN nor DOUBLE, which are no routers.
    :param gateway: the router's address in the local network.
    :param public_address: its address outside.
    """
    return _filter_rules(nat, gateway) + _nat_rules(nat, public_address)


def _filter_rules(nat: Nat, gateway: str) -> str:
    # Dropped and not refused: what is refused is remembered, and then gets in the way of the mapping that a client
    # asks for a moment later.
    blocked = "meta l4proto udp drop;" if nat is Nat.UDP_BLOCKED else ""
    return f"""table ip guard {{
  chain input {{ type filter hook input priority filter; policy drop;
    ct state established,related accept
    iifname "lan" ip daddr {gateway} accept
  }}
  chain forward {{ type filter hook forward priority filter; policy drop; {blocked}
    ct state established,related accept
    iifname "lan" oifname "wan" accept
    ct status dnat accept
  }}
}}
"""


def _nat_rules(nat: Nat, public_address: str) -> str:
    # The cones keep tables of their own, since those of Linux lead back only those to whom a client has written.
    before = after = ""
    masquerade = "masquerade"
    if nat in (Nat.FULL_CONE, Nat.ADDRESS_RESTRICTED):
        to_same_port = f"snat to {public_address}:ip saddr . udp sport map @outside"
        after = f'oifname "wan" meta l4proto udp {to_same_port}'
        masquerade = "masquerade fully-random"
    if nat is Nat.FULL_CONE:
        before = f"ip daddr {public_address} dnat ip to udp dport map @inside"
        # Both ends see public addresses, also behind the same NAT (RFC 4787, REQ-9).
        after += f'\n    oifname "lan" meta l4proto udp ct status dnat {to_same_port}'
    elif nat is Nat.ADDRESS_RESTRICTED:
        before = 'iifname "wan" udp dport . ip saddr @contacts dnat ip to udp dport map @inside'
    elif nat is Nat.SYMMETRIC:
        masquerade = "masquerade fully-random"
    elif nat is Nat.SYMMETRIC_STEP:
        # A map, because the bytes of a number that is made up are in the order of this machine.
        ports = ", ".join(f"{number} : {_FIRST_PORT + number}" for number in range(_PORTS))
        after = f'oifname "wan" meta l4proto udp snat to {public_address}:numgen inc mod {_PORTS} map {{ {ports} }}'
    return f"""table ip nat {{
  map inside {{ type inet_service : ipv4_addr . inet_service; {_KEPT} }}
  map outside {{ type ipv4_addr . inet_service : inet_service; {_KEPT} }}
  set contacts {{ type inet_service . ipv4_addr; {_KEPT} }}
  chain before {{ type nat hook prerouting priority dstnat;
    {before}
  }}
  chain after {{ type nat hook postrouting priority srcnat;
    {after}
    oifname "wan" {masquerade}
  }}
  # Later than the NAT, so that the public port is known.
  chain learn {{ type filter hook postrouting priority 300;
    oifname != "wan" return
    ct direction reply return
    meta l4proto udp update @inside {{ udp sport : ct original ip saddr . ct original proto-src }}
    meta l4proto udp update @outside {{ ct original ip saddr . ct original proto-src : udp sport }}
    meta l4proto udp update @contacts {{ udp sport . ip daddr }}
  }}
}}
"""
