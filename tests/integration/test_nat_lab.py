"""The laboratory itself: each NAT does what its name says, seen by plain sockets, and nodes are reached from behind it.

Tests of what goes through NATs rely on it, so a mistake here would look like one of theirs.
"""

from __future__ import annotations

import itertools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, closing
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.integration.cluster import cluster_config
from tests.integration.daemon import ROOT
from tests.integration.nat_lab import NODE_ADDRESSES, Client, Lab, Nat, Router, missing
from tests.integration.wire_clients import ReliableUdpClient

MISSING = missing()

#: Longest wait for what must come.
PATIENCE_SECONDS = 30.0

#: What has not come by then does not come: all of it is in one kernel.
SILENCE_SECONDS = 0.2

PORT_PRESERVING = (Nat.OPEN, Nat.PORT_RESTRICTED, Nat.DOUBLE)
PORT_CHANGING = (Nat.FULL_CONE, Nat.ADDRESS_RESTRICTED)
SYMMETRIC = (Nat.SYMMETRIC, Nat.SYMMETRIC_STEP)
UDP_PASSES = (*PORT_PRESERVING, *PORT_CHANGING, *SYMMETRIC)

Place = tuple[str, int]

CRASHER = """
import sys
from tests.integration.nat_lab import Lab, Nat
client = Lab().client("a", Nat.PORT_RESTRICTED)
client.run(["sh", "-c", "echo inside; exec sleep 60"], stdout=None)
sys.stdin.read()
"""


def heard(udp: socket.socket, silence_seconds: float = SILENCE_SECONDS) -> list[tuple[bytes, Place]]:
    """All datagrams that come until none comes any more, in the order of their contents."""
    udp.settimeout(silence_seconds)
    datagrams = []
    try:
        while True:
            datagrams.append(udp.recvfrom(2048))
    except (TimeoutError, BlockingIOError):
        return sorted(datagrams)


class LabCase(SynchronousTestCase):
    """An internet with three sockets of a server: an address with two ports, and another address."""

    skip = MISSING or None

    def setUp(self) -> None:
        """Build it."""
        self.stack = ExitStack()
        self.addCleanup(self.stack.close)
        self.lab = self.stack.enter_context(Lab())
        places = [(NODE_ADDRESSES[0], 4000), (NODE_ADDRESSES[0], 4001), (NODE_ADDRESSES[1], 4000)]
        self.servers = [self.server(place) for place in places]

    def server(self, place: Place) -> socket.socket:
        """A UDP socket where nodes run."""
        udp = self.stack.enter_context(self.lab.internet.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(place)
        return udp

    def udp(self, client: Client, port: int = 0) -> socket.socket:
        """A UDP socket of a client."""
        return self.stack.enter_context(client.udp_socket(port))

    def seen(self, udp: socket.socket, server: socket.socket) -> Place:
        """Where a server sees a client's socket."""
        udp.sendto(b"who am I", server.getsockname())
        server.settimeout(PATIENCE_SECONDS)
        data, place = server.recvfrom(2048)
        self.assertEqual(data, b"who am I")
        return place[0], place[1]


class MappingTests(LabCase):
    """Where a client is seen."""

    def test_same_for_all(self) -> None:
        """Behind all but the symmetric NATs a client has one public address and port, whomever it writes to."""
        for nat in (*PORT_PRESERVING, *PORT_CHANGING):
            client = self.lab.client("a", nat)
            udp = self.udp(client)
            places = {self.seen(udp, server) for server in self.servers}
            self.assertEqual((nat, len(places)), (nat, 1))
            [(address, port)] = places
            self.assertEqual((nat, address), (nat, client.public_address))
            self.assertEqual((nat, port == udp.getsockname()[1]), (nat, nat in PORT_PRESERVING))

    def test_symmetric(self) -> None:
        """Behind a symmetric NAT every destination sees another port, and always the same one."""
        client = self.lab.client("a", Nat.SYMMETRIC)
        udp = self.udp(client)
        places = [self.seen(udp, server) for server in self.servers]
        self.assertEqual({address for address, _ in places}, {client.public_address})
        # Numbers drawn at random: two may be equal, all of them are not.
        self.assertTrue(len({port for _, port in places}) > 1, places)
        self.assertEqual([self.seen(udp, server) for server in self.servers], places)

    def test_symmetric_step(self) -> None:
        """Behind a symmetric NAT in steps every destination sees the next port."""
        udp = self.udp(self.lab.client("a", Nat.SYMMETRIC_STEP))
        ports = [self.seen(udp, server)[1] for server in self.servers]
        self.assertEqual([port - ports[0] for port in ports], [0, 1, 2])
        self.assertEqual(self.seen(udp, self.servers[0])[1], ports[0])

    def test_two_with_one_port(self) -> None:
        """Two clients behind one NAT that use the same local port are told apart, and both are answered."""
        for nat in PORT_CHANGING:
            router = self.lab.router(nat)
            sockets = [self.udp(self.lab.client(name, router), 5000) for name in "ab"]
            places = [[self.seen(udp, server) for server in self.servers[::2]] for udp in sockets]
            self.assertEqual([len(set(own)) for own in places], [1, 1], nat)
            self.assertNotEqual(places[0], places[1], nat)
            for number, (own, _) in enumerate(places):
                self.servers[0].sendto(b"%d" % number, own)
            for number, udp in enumerate(sockets):
                self.assertEqual(heard(udp), [(b"%d" % number, self.servers[0].getsockname())], nat)

    def test_double(self) -> None:
        """Behind two NATs the inner one has no public address, and nodes see that of the outer one."""
        client = self.lab.client("a", Nat.DOUBLE)
        inner = client.router
        assert inner is not None
        assert isinstance(inner.uplink, Router)
        self.assertTrue(inner.public_address.startswith("100.64."), inner.public_address)
        self.assertEqual(self.seen(self.udp(client), self.servers[0])[0], inner.uplink.public_address)


class FilterTests(LabCase):
    """Who reaches a client that has written to the first server."""

    def reached_by(self, nat: Nat) -> list[int]:
        """The numbers of the servers whose datagrams come."""
        udp = self.udp(self.lab.client("a", nat))
        place = self.seen(udp, self.servers[0])
        # The answer last: it must not open the way for others.
        for number in (2, 1, 0):
            self.servers[number].sendto(b"%d" % number, place)
        datagrams = heard(udp)
        for data, sender in datagrams:
            self.assertEqual((nat, sender), (nat, self.servers[int(data)].getsockname()))
        return [int(data) for data, _ in datagrams]

    def test_anybody(self) -> None:
        """Without a NAT, and behind a full cone, everybody reaches the client."""
        for nat in (Nat.OPEN, Nat.FULL_CONE):
            self.assertEqual((nat, self.reached_by(nat)), (nat, [0, 1, 2]))

    def test_same_address(self) -> None:
        """Behind an address-restricted NAT every port of an address that the client has written to reaches it."""
        self.assertEqual(self.reached_by(Nat.ADDRESS_RESTRICTED), [0, 1])

    def test_same_address_and_port(self) -> None:
        """Behind the others only the very socket that the client has written to reaches it."""
        for nat in (Nat.PORT_RESTRICTED, Nat.DOUBLE, *SYMMETRIC):
            self.assertEqual((nat, self.reached_by(nat)), (nat, [0]))

    def test_refused_before(self) -> None:
        """What a NAT has kept out does not change the port that its client gets a moment later."""
        for nat in (Nat.PORT_RESTRICTED, Nat.DOUBLE):
            client = self.lab.client("a", nat)
            udp = self.udp(client)
            self.servers[0].sendto(b"too early", (client.public_address, udp.getsockname()[1]))
            self.assertEqual(heard(udp), [], nat)
            self.assertEqual(self.seen(udp, self.servers[0])[1], udp.getsockname()[1], nat)

    def test_udp_blocked(self) -> None:
        """Where UDP is blocked none of it passes, and TCP does."""
        client = self.lab.client("a", Nat.UDP_BLOCKED)
        udp = self.udp(client)
        for server in self.servers:
            udp.sendto(b"hello", server.getsockname())
        listener = self.stack.enter_context(self.lab.internet.call(socket.create_server, (NODE_ADDRESSES[0], 4000)))
        stream = client.call(socket.create_connection, listener.getsockname(), PATIENCE_SECONDS)
        self.stack.enter_context(stream)
        accepted, place = listener.accept()
        self.stack.enter_context(accepted)
        self.assertEqual(place[0], client.public_address)
        stream.sendall(b"hello")
        self.assertEqual(accepted.recv(5), b"hello")
        self.assertEqual([heard(server) for server in self.servers], [[], [], []])


class PairTests(LabCase):
    """Two clients who write to each other, after both have written to the first server."""

    def write_both_ways(self, one: Client, other: Client) -> list[socket.socket]:
        """Each writes twice to where the server sees the other."""
        sockets = [self.udp(one), self.udp(other)]
        places = [self.seen(udp, self.servers[0]) for udp in sockets]
        for _ in range(2):
            for udp, place in zip(sockets, reversed(places), strict=True):
                udp.sendto(b"hello", place)
        return sockets

    def heard_from(self, one: Client, other: Client) -> list[list[str]]:
        """`write_both_ways`, and the addresses from which each hears."""
        return [[place[0] for _, place in heard(udp)] for udp in self.write_both_ways(one, other)]

    def test_simple_punching(self) -> None:
        """Simultaneous packets come through, unless one NAT is symmetric and the other asks for the port."""
        strict = (Nat.PORT_RESTRICTED, Nat.DOUBLE, *SYMMETRIC)
        clients = {nat: [self.lab.client(name, nat) for name in "ab"] for nat in UDP_PASSES}
        pairs = list(itertools.combinations_with_replacement(UDP_PASSES, 2))
        sockets = [self.write_both_ways(clients[one][0], clients[other][1]) for one, other in pairs]
        time.sleep(SILENCE_SECONDS)
        for (one, other), ends in zip(pairs, sockets, strict=True):
            is_hopeless = (one in SYMMETRIC and other in strict) or (other in SYMMETRIC and one in strict)
            is_through = any(heard(udp, 0) for udp in ends)
            self.assertEqual((one, other, is_through), (one, other, not is_hopeless))

    def test_hairpin(self) -> None:
        """A full cone leads clients behind it to each other by way of its public address, the others do not."""
        for nat in (Nat.FULL_CONE, Nat.ADDRESS_RESTRICTED, Nat.PORT_RESTRICTED, Nat.SYMMETRIC):
            router = self.lab.router(nat, isolated=True)
            came = self.heard_from(self.lab.client("a", router), self.lab.client("b", router))
            wanted = [[router.public_address] * 2] * 2 if nat is Nat.FULL_CONE else [[], []]
            self.assertEqual((nat, came), (nat, wanted))

    def test_local(self) -> None:
        """Clients behind one NAT reach each other by their local addresses, unless the network isolates them."""
        for is_isolated in (False, True):
            router = self.lab.router(Nat.PORT_RESTRICTED, isolated=is_isolated)
            one, other = self.udp(self.lab.client("a", router)), self.udp(self.lab.client("b", router))
            one.sendto(b"hello", other.getsockname())
            self.assertEqual(heard(other), [] if is_isolated else [(b"hello", one.getsockname())])

    def test_cut(self) -> None:
        """Two clients who are cut off from each other still reach the servers, and each other after mending."""
        one, other = self.lab.client("a", Nat.FULL_CONE), self.lab.client("b", Nat.OPEN)
        self.assertNotEqual(self.heard_from(one, other), [[], []])
        self.lab.cut(one, other)
        self.assertEqual(self.heard_from(one, other), [[], []])
        self.lab.mend(one, other)
        self.assertNotEqual(self.heard_from(one, other), [[], []])

    def test_cut_behind_one(self) -> None:
        """What does not pass the internet cannot be cut there."""
        router = self.lab.router(Nat.FULL_CONE)
        with self.assertRaises(ValueError):
            self.lab.cut(self.lab.client("a", router), self.lab.client("b", router))

    def test_loss(self) -> None:
        """A line loses as many packets as it was told, each way, and none when that is over."""
        client = self.lab.client("a", Nat.DOUBLE)
        udp, server = self.udp(client), self.servers[0]
        place = self.seen(udp, server)
        for fraction, fewest, most in ((0.5, 50, 150), (1.0, 0, 0), (0.05, 150, 200), (0.0, 200, 200)):
            client.set_loss(fraction)
            for _ in range(200):
                udp.sendto(b"up", server.getsockname())
                server.sendto(b"down", place)
            for end in (udp, server):
                arrived = len(heard(end))
                self.assertTrue(fewest <= arrived <= most, (fraction, arrived))


class SignInTests(LabCase):
    """A node on the internet and the client program behind each NAT."""

    def ping(self, client: Client, url: str) -> subprocess.Popen[str]:
        """A ``meshrelay ping`` that goes on alone."""
        program = "from meshrelay.cli import main; main()"
        return client.run([sys.executable, "-c", program, "ping", "--count", "1", "--url", url])

    def test_sign_in(self) -> None:
        """TCP clients sign in from behind every NAT, UDP clients wherever UDP passes."""
        node = self.stack.enter_context(self.lab.node())
        self.assertEqual(node.get("/health/ready")[0], 200)
        urls = {"tcp": f"tcp://{node.places['tcp']}", "udp": f"udp+http://{node.places['http']}"}
        wanted = [(nat, "tcp") for nat in Nat] + [(nat, "udp") for nat in UDP_PASSES]
        for start in range(0, len(wanted), 4):
            some = wanted[start : start + 4]
            pings = [self.ping(self.lab.client("a", nat), urls[transport]) for nat, transport in some]
            for place, process in zip(some, pings, strict=True):
                output, errors = process.communicate(timeout=90)
                self.assertIn("1 sent, 1 answered, 0% lost", output, (place, errors))

    def test_cluster(self) -> None:
        """Two nodes of a cluster run side by side, and a client signs in to either."""
        first = self.stack.enter_context(self.lab.node(cluster_config("n0")))
        second = self.lab.node(cluster_config("n1", "pb:" + first.places["mesh"]), number=1)
        self.stack.enter_context(second)
        for number, node in enumerate((first, second)):
            node.wait_linked(1)
            self.assertEqual(node.address("udp")[0], NODE_ADDRESSES[number])
            client = self.lab.client("a", Nat.SYMMETRIC)
            connection = self.stack.enter_context(closing(client.call(ReliableUdpClient, node, f"ann{number}")))
            self.assertEqual(json.loads(connection.welcome.payload)["node"], f"n{number}")
            connection.send(0, 4)

    def test_udp_blocked(self) -> None:
        """A UDP client that no UDP leads out of its network says that it did not get through."""
        node = self.stack.enter_context(self.lab.node())
        process = self.ping(self.lab.client("a", Nat.UDP_BLOCKED), f"udp+http://{node.places['http']}")
        output, errors = process.communicate(timeout=90)
        self.assertNotEqual(process.returncode, 0, output)
        self.assertIn("the node does not answer", errors)


class EndTests(LabCase):
    """Nothing stays."""

    def test_close(self) -> None:
        """Processes inside end with the laboratory, those too that it does not know of."""
        lab = Lab()
        process = lab.client("a", Nat.OPEN).run(["sh", "-c", "sleep 60; true"])
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (child := children.read_text().strip()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        number = os.pidfd_open(int(child))
        self.addCleanup(os.close, number)
        lab.close()
        self.assertTrue(select.select([number], [], [], PATIENCE_SECONDS)[0])

    def test_crash(self) -> None:
        """Processes inside end when the process that made the laboratory is killed."""
        crasher = subprocess.Popen(
            [sys.executable, "-c", CRASHER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert crasher.stdout is not None
        with crasher:
            self.assertEqual(crasher.stdout.readline(), b"inside\n")
            crasher.send_signal(signal.SIGKILL)
            # The pipe ends with the last process that has it: the one inside, and the keeper.
            self.assertEqual(crasher.communicate(timeout=PATIENCE_SECONDS)[0], b"")

    def test_two_at_once(self) -> None:
        """Two laboratories have the same addresses and know nothing of each other."""
        with Lab() as other:
            client = other.client("a", Nat.OPEN)
            mine = self.lab.client("a", Nat.OPEN)
            self.assertEqual(client.public_address, mine.public_address)
            with client.udp_socket() as udp:
                udp.sendto(b"hello", self.servers[0].getsockname())
                self.assertEqual(heard(self.servers[0]), [])
