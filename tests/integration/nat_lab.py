"""An internet of our own in this machine: nodes in its middle, and clients behind the NATs that people have.

Every host is a network namespace without a name. The test process holds it open, and enters it with a thread to make a
socket or start a process there, so it is gone with the process however that ends. Processes inside that would keep it
are killed by a keeper: ``python -m tests.integration.nat_lab``, which waits for the end of its standard input.

The NATs are those of the kernel, told by nftables what to remember and whom to let in. Public addresses are from
11.0.0.0/8, because `ipaddress` takes those for documentation for private ones; nothing leads out of the laboratory.
Every home has the same local network, as homes do: clients of two of them may have the same local address.

Not modelled: latency (a kernel may come without netem) and IPv6. The port-restricted NAT is as Linux is: it keeps the
port where it can, and two clients with the same port get the same public one where their destinations differ.

Needs Linux, root, ``ip`` (iproute2) and ``nft`` (nftables).
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from ipaddress import IPv4Network
from itertools import count
from pathlib import Path
from secrets import token_hex
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from tests.integration.cluster import Node
from tests.integration.daemon import FREE_PORTS, ROOT
from tests.integration.nat_rules import CUT_RULES, Nat, loss_rules, router_rules

__all__ = ["HOME", "NODE_ADDRESSES", "Client", "Lab", "LabNode", "Nat", "Namespace", "Router", "keep", "missing"]

P = ParamSpec("P")
T = TypeVar("T")

#: Of the hosts where nodes run; all belong to one namespace.
NODE_ADDRESSES = ("11.0.0.1", "11.0.0.2", "11.0.0.3")

#: The local network of every home.
HOME = "192.168.1.0/24"

#: The network between a provider's NAT and the homes behind it (RFC 6598).
CARRIER = "100.64.0.0/24"

#: Numbers of devices in the middle, which those at the other ends do not have: the kernel takes a second to see that a
#: line is up whose ends have the same number.
_FIRST_INDEX = 1000

#: Longest wait for the kernel.
_PATIENCE_SECONDS = 30.0

_CLONE_NEWNET = 0x40000000


def missing() -> str:
    """Return "missing: ..." for what this machine lacks, "" when a laboratory can be built."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "missing: root on Linux"
    for program in ("ip", "nft"):
        if shutil.which(program) is None:
            return f"missing: {program}"
    try:
        with Lab() as lab:
            lab.client("a", Nat.SYMMETRIC)
    except (OSError, RuntimeError) as error:
        return f"missing: network namespaces ({error})"
    return ""


def _in_thread(function: Callable[[], T]) -> T:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def _checked(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class Namespace:
    """One host."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._number = _in_thread(self._make)
        #: As ``ip`` takes it.
        self.path = f"/proc/{os.getpid()}/fd/{self._number}"
        try:
            self.ip("link set lo up")
            for name in ("all", "default"):
                self.set_kernel(f"ipv6/conf/{name}/disable_ipv6", 1)
        except BaseException:
            self.close()
            raise

    def _make(self) -> int:
        _checked(self._libc.unshare(_CLONE_NEWNET))
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY)

    @property
    def identity(self) -> str:
        """What the links /proc/PID/ns/net of the processes inside say."""
        return os.readlink(self.path)

    def call(self, function: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
        """Call a function inside: sockets that it makes and processes that it starts belong there for good."""

        def enter_and_call() -> T:
            _checked(self._libc.setns(self._number, _CLONE_NEWNET))
            return function(*arguments, **options)

        return _in_thread(enter_and_call)

    def ip(self, *lines: str) -> None:
        """Run lines of ``ip``."""
        self._feed(["ip", "-batch", "-"], "\n".join(lines) + "\n")

    def wait_until_up(self, device: str, *, in_bridge: bool = False) -> None:
        """Wait for what the kernel does in its own time; until then packets are lost without a word.

        :param in_bridge: until its bridge forwards what comes in by it.
        """
        deadline = time.monotonic() + _PATIENCE_SECONDS
        command = ["ip", "-json", "-details", "link", "show", "dev", device]
        while time.monotonic() < deadline:
            [link] = json.loads(self.call(subprocess.run, command, capture_output=True, check=True).stdout)
            state = link.get("linkinfo", {}).get("info_slave_data", {}).get("state")
            if link["operstate"] == "UP" and (state == "forwarding" or not in_bridge):
                return
            time.sleep(0.02)
        raise RuntimeError(f"{device} is not up after {_PATIENCE_SECONDS} s")

    def nft(self, rules: str) -> None:
        """Run a script of ``nft``."""
        self._feed(["nft", "-f", "-"], rules)

    def _feed(self, command: list[str], text: str) -> None:
        done = self.call(subprocess.run, command, input=text, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}\n{text}")

    def set_kernel(self, name: str, value: int) -> None:
        """Write a setting under /proc/sys/net, where the kernel knows it."""
        path = Path("/proc/sys/net") / name

        def write() -> None:
            if path.exists():
                path.write_text(str(value))

        self.call(write)

    def close(self) -> None:
        """Let go of it; the kernel takes it away with its devices as soon as no process is inside."""
        os.close(self._number)


class Router:
    """A NAT and the local network behind it.

    :param namespace: for it alone.
    :param nat: neither OPEN nor DOUBLE.
    :param uplink: where its line to the internet begins.
    :param network: of the hosts behind it; the first address is the router's.
    :param isolated: these reach each other only by way of the router, as in a guest network.
    :ivar public_address: what the next network sees: the internet's, or that of the router before it.
    """

    def __init__(
        self, namespace: Namespace, nat: Nat, uplink: _Internet | Router, network: str, isolated: bool
    ) -> None:
        self.namespace = namespace
        self.nat = nat
        self.uplink = uplink
        self.network = IPv4Network(network)
        self._isolated = isolated
        self._hosts = self.network.hosts()
        self._ports = count(1)
        gateway = next(self._hosts)
        namespace.ip("link add lan type bridge", f"addr add {gateway}/{self.network.prefixlen} dev lan")
        namespace.set_kernel("ipv4/ip_forward", 1)
        # Frames between clients of one local network are none of the filter's business.
        namespace.set_kernel("bridge/bridge-nf-call-iptables", 0)
        self.public_address = uplink.attach(namespace, "wan")
        namespace.nft(router_rules(nat, str(gateway), self.public_address))

    def attach(self, namespace: Namespace, device: str) -> str:
        """Connect a host to the local network, and return its address there."""
        number = next(self._ports)
        port = f"port{number}"
        gateway, address = self.network[1], next(self._hosts)
        isolated = "on" if self._isolated else "off"
        self.namespace.ip(
            f"link add {port} index {_FIRST_INDEX + number} type veth peer name {device} netns {namespace.path}",
            f"link set {port} master lan",
            f"link set {port} type bridge_slave isolated {isolated}",
            f"link set {port} up",
        )
        namespace.ip(
            f"addr add {address}/{self.network.prefixlen} dev {device}",
            f"link set {device} up",
            f"route add default via {gateway}",
        )
        self.namespace.wait_until_up(port)
        # Not before one port works: the kernel takes a second to see that a bridge without any has got one.
        self.namespace.ip("link set lan up")
        self.namespace.wait_until_up(port, in_bridge=True)
        namespace.wait_until_up(device)
        return str(address)

    @property
    def internet_address(self) -> str:
        """The address that nodes see."""
        return self.uplink.internet_address if isinstance(self.uplink, Router) else self.public_address


class _Internet:
    """Where nodes run and routers meet: one host that forwards between all lines."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace
        self.namespace.ip(*(f"addr add {address}/32 dev lo" for address in NODE_ADDRESSES))
        self.namespace.set_kernel("ipv4/ip_forward", 1)
        self.namespace.nft(CUT_RULES)
        self._lines = count(1)
        #: Public address -> both ends of its line: host and device.
        self._ends: dict[str, list[tuple[Namespace, str]]] = {}

    def attach(self, namespace: Namespace, device: str) -> str:
        """Connect a host by a line of its own, and return its public address."""
        number = next(self._lines)
        line, ours, address = f"line{number}", f"11.1.{number}.1", f"11.1.{number}.2"
        self.namespace.ip(
            f"link add {line} index {_FIRST_INDEX + number} type veth peer name {device} netns {namespace.path}",
            f"addr add {ours}/30 dev {line}",
            f"link set {line} up",
        )
        namespace.ip(f"addr add {address}/30 dev {device}", f"link set {device} up", f"route add default via {ours}")
        self.namespace.wait_until_up(line)
        namespace.wait_until_up(device)
        self._ends[address] = [(self.namespace, line), (namespace, device)]
        return address

    def set_loss(self, address: str, fraction: float) -> None:
        """See `Client.set_loss`."""
        for namespace, device in self._ends[address]:
            namespace.nft(loss_rules(device, fraction))


class Client:
    """A host where a client program runs.

    :ivar router: the NAT that it is behind; None = none.
    :ivar local_address: its own.
    :ivar public_address: that nodes see.
    """

    def __init__(self, name: str, namespace: Namespace, internet: _Internet, router: Router | None) -> None:
        self.name = name
        self.namespace = namespace
        self.router = router
        self._internet = internet
        self._processes: list[subprocess.Popen[str]] = []
        self.local_address = (router or internet).attach(namespace, "net")
        self.public_address = router.internet_address if router is not None else self.local_address

    def run(
        self, command: Sequence[str], environment: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[str]:
        """Start a process inside; it is killed with the laboratory if it has not ended before.

        :param environment: added to ours.
        :param options: of `subprocess.Popen`. Without any, output and errors are pipes of text.
        """
        env = {**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT}
        start: Callable[..., subprocess.Popen[str]] = subprocess.Popen
        process = self.call(start, command, env=env, **{**pipes, **options})
        self._processes.append(process)
        return process

    def call(self, function: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
        """See `Namespace.call`."""
        return self.namespace.call(function, *arguments, **options)

    def udp_socket(self, port: int = 0) -> socket.socket:
        """A UDP socket inside, for the test to use; the caller closes it."""
        udp = self.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind((self.local_address, port))
        return udp

    def set_loss(self, fraction: float) -> None:
        """Lose packets on its line to the internet, each way and at random.

        :param fraction: 0 to 1; what passes between two clients can be lost on the lines of both.
        """
        self._internet.set_loss(self.public_address, fraction)

    def kill_processes(self) -> None:
        """End what `run` has started and close the pipes."""
        for process in self._processes:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
        self._processes.clear()


class LabNode(Node):
    """A daemon in the middle of the internet; see `Lab.node`."""

    def __init__(self, namespace: Namespace, config: dict[str, dict[str, Any]]) -> None:
        super().__init__(config)
        self._namespace = namespace
        self._admin_key = token_hex(16)
        key_path = Path(self._directory.name) / "admin-key"
        key_path.write_text(self._admin_key)
        key_path.chmod(0o600)
        self._config["http"] = {"admin_key_file": str(key_path), **config.get("http", {})}

    def __enter__(self) -> LabNode:
        self._namespace.call(super().__enter__)
        return self

    def get(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, Any]:
        """See `Daemon.get`; asks as an administrator, since a test is not on the node's machine."""
        return self._namespace.call(
            super().get, path, {"Authorization": f"Bearer {self._admin_key}", **(headers or {})}
        )


class Lab:
    """All of it, from ``with`` (or from now) to `close`."""

    def __init__(self) -> None:
        self._keeper = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.nat_lab"],
            stdin=subprocess.PIPE,
            cwd=ROOT,
            start_new_session=True,
            text=True,
        )
        self._namespaces: list[Namespace] = []
        self._clients: list[Client] = []
        try:
            self._internet = _Internet(self._namespace())
        except BaseException:
            self.close()
            raise
        #: Where nodes run.
        self.internet = self._internet.namespace

    def _namespace(self) -> Namespace:
        namespace = Namespace()
        self._namespaces.append(namespace)
        assert self._keeper.stdin is not None
        self._keeper.stdin.write(f"{namespace.identity}\n")
        self._keeper.stdin.flush()
        return namespace

    def router(self, nat: Nat, behind: Router | None = None, network: str = HOME, *, isolated: bool = False) -> Router:
        """A NAT for clients, on the internet or behind another one; see `Router`.

        :param nat: DOUBLE is two of them, of which the inner one is returned.
        """
        if nat is Nat.DOUBLE:
            behind, nat = self.router(Nat.PORT_RESTRICTED, behind, CARRIER), Nat.PORT_RESTRICTED
        return Router(self._namespace(), nat, behind or self._internet, network, isolated)

    def client(self, name: str, place: Nat | Router) -> Client:
        """A client behind a NAT of its own, or behind that of others too."""
        router = None
        if place is not Nat.OPEN:
            router = self.router(place) if isinstance(place, Nat) else place
        client = Client(name, self._namespace(), self._internet, router)
        self._clients.append(client)
        return client

    def node(self, config: dict[str, dict[str, Any]] | None = None, number: int = 0) -> LabNode:
        """A daemon at ``NODE_ADDRESSES[number]`` with all transports; it runs from its ``with`` to the end of that."""
        address = NODE_ADDRESSES[number]
        listen = {name: place.replace("127.0.0.1", address) for name, place in FREE_PORTS.items()}
        told = config or {}
        return LabNode(
            self.internet,
            {
                **told,
                "node": {"id": f"node{number}", "drain_seconds": 0.2, **told.get("node", {})},
                "listen": {**listen, **told.get("listen", {})},
                "auth": {"insecure": True, **told.get("auth", {})},
            },
        )

    def cut(self, one: Client, other: Client) -> None:
        """Let nothing pass between two clients any more; both still reach the nodes.

        :raises ValueError: they have one public address, so nothing of theirs passes the internet.
        """
        self.internet.nft(f"add element ip cut pairs {{ {self._pair(one, other)} }}")

    def mend(self, one: Client, other: Client) -> None:
        """Undo `cut`."""
        self.internet.nft(f"delete element ip cut pairs {{ {self._pair(one, other)} }}")

    def _pair(self, one: Client, other: Client) -> str:
        first, second = one.public_address, other.public_address
        if first == second:
            raise ValueError(f"{one.name} and {other.name} are behind one NAT")
        return f"{first} . {second}, {second} . {first}"

    def close(self) -> None:
        """Kill what is left inside and take everything away."""
        for client in self._clients:
            client.kill_processes()
        assert self._keeper.stdin is not None
        self._keeper.stdin.close()
        # Before they are let go: a number that is free may become that of somebody else's namespace.
        self._keeper.wait()
        for namespace in self._namespaces:
            namespace.close()
        self._namespaces.clear()

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def keep() -> None:
    """Read identities of namespaces until the laboratory is gone, then kill every process inside them."""
    # Never those of the host, whatever is read.
    identities = {line.strip() for line in sys.stdin} - {os.readlink("/proc/self/ns/net")}
    # A process may start another one while it is looked for.
    for _ in range(50):
        found = False
        for path in Path("/proc").glob("[0-9]*/ns/net"):
            with suppress(OSError):
                if os.readlink(path) in identities:
                    os.kill(int(path.parts[2]), signal.SIGKILL)
                    found = True
        if not found:
            return
        time.sleep(0.02)


if __name__ == "__main__":
    keep()
