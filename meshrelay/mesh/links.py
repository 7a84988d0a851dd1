"""All links of this node: connections in and out on one side, messages and calls per node on the other.

::

    dial, accepted --> Strand (greets) --greeted, proven--> NodeLink of that node --> observer
                                                             ^ send, call

Whoever knows the secret, and shows a certificate of the private CA for the node it says it is, may link; which nodes
this one dials is told by `keep`, and by `contact` where only an address is known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from meshrelay.machine.backoff import Backoff
from meshrelay.mesh.batches import BatchLimits, BatchSender
from meshrelay.mesh.errors import LinkLost, LinkRefused
from meshrelay.mesh.greeting import AcceptorGreeting, DialerGreeting, NodeIdentity
from meshrelay.mesh.interfaces import Dial, INodeConnection, INodeLinkObserver, WritesOfTurn
from meshrelay.mesh.link import LinkState, NodeLink
from meshrelay.mesh.rarely import Rarely
from meshrelay.mesh.strand import Strand, StrandOptions, StrandState
from meshrelay.wire.node import NONCE_BYTES, Hello, Refusal, Resume, decode_batch, encode_ack

__all__ = ["Chance", "LinkOptions", "Links"]


@dataclass(frozen=True, slots=True)
class LinkOptions:
    """Times and bounds of the links of one node."""

    strand: StrandOptions = field(default_factory=StrandOptions)
    batches: BatchLimits = field(default_factory=BatchLimits)
    #: Longest delay before the first new try to reach a node, and before any.
    backoff_base_seconds: float = 0.2
    backoff_cap_seconds: float = 5.0
    #: Connections whose other end has not proven itself yet.
    max_greetings: int = 64
    #: Nodes, linked or kept in mind.
    max_links: int = 4096


@dataclass(frozen=True, slots=True)
class Chance:
    """Where randomness comes from."""

    #: `os.urandom`, or a seeded one in tests.
    random_bytes: Callable[[int], bytes]
    #: `random.uniform`.
    uniform: Callable[[float, float], float]


class Links:
    """The links of one node.

    :param secret: shared by all nodes; empty = none, on all of them.
    :param kinds: messages that this node understands; others are skipped and counted.
    :param turn: where links are flushed once a turn.
    :ivar refused: code -> connections that were refused, by either end.
    """

    _log = Logger()

    def __init__(
        self,
        identity: NodeIdentity,
        secret: bytes,
        kinds: Container[int],
        observer: INodeLinkObserver,
        turn: WritesOfTurn,
        clock: IReactorTime,
        chance: Chance,
        options: LinkOptions,
    ) -> None:
        self.identity = identity
        self._secret = secret
        self._kinds = kinds
        self._observer = observer
        self._turn = turn
        self._clock = clock
        self._chance = chance
        self._options = options
        self._links: dict[str, NodeLink] = {}
        #: All that have an open connection, greeted or not.
        self._strands: set[Strand] = set()
        self._greeting_count = 0
        self._order = 0
        self._is_stopped = False
        self._rarely = Rarely(clock)
        #: Contacts that are being dialled, and those that are being greeted.
        self._dialing: dict[Deferred[str], Deferred[INodeConnection]] = {}
        self._contacts: dict[Strand, Deferred[str]] = {}
        self._waiting_for_end: list[Deferred[None]] = []
        self.refused: Counter[str] = Counter()

    def __iter__(self) -> Iterator[NodeLink]:
        """All links, up or not."""
        return iter(list(self._links.values()))

    def find(self, node_id: str) -> NodeLink | None:
        """The link to a node; None: nothing is known of it."""
        return self._links.get(node_id)

    def keep(self, node_id: str, dial: Dial) -> NodeLink:
        """Link to a node and link again whenever it is lost, until `forget`.

        :raises LinkRefused: there are max_links already, or it is this very node.
        """
        if node_id == self.identity.node_id:
            raise LinkRefused(Refusal.SELF, f"node {node_id} would dial itself")
        link = self._link(node_id)
        link.keep(dial)
        return link

    def _link(self, node_id: str) -> NodeLink:
        link = self._links.get(node_id)
        if link is not None:
            return link
        if len(self._links) >= self._options.max_links or self._is_stopped:
            raise LinkRefused(Refusal.BUSY, f"{self.identity.node_id} takes no more links")
        options = self._options
        # 0 is "none yet".
        epoch = int.from_bytes(self._chance.random_bytes(8), "big") or 1
        link = NodeLink(
            node_id,
            BatchSender(options.batches, epoch),
            self._turn,
            self._clock,
            Backoff(options.backoff_base_seconds, options.backoff_cap_seconds, self._chance.uniform),
            self._dialled,
        )
        self._links[node_id] = link
        return link

    def forget(self, node_id: str) -> None:
        """Close the link to a node and drop what waits for it. Unknown nodes are passed over."""
        link = self._links.get(node_id)
        if link is not None:
            link.stop()
            self._links.pop(node_id, None)
        # One that is being greeted has told where the link stood, which is no longer true.
        for strand in [each for each in self._strands if each.node_id == node_id and each.up_order == 0]:
            strand.close(Refusal.CLOSED, "the link was forgotten meanwhile")

    def forget_unused(self, wanted: Container[str]) -> None:
        """Forget the links that are not up, that nobody dials, and whose node is not `wanted`."""
        greeted = {strand.node_id for strand in self._strands if strand.up_order == 0}
        for link in self:
            is_idle = link.strand is None and link.attempt is None and not link.is_kept
            if is_idle and link.node_id not in greeted and link.node_id not in wanted:
                self.forget(link.node_id)

    def contact(self, dial: Dial) -> Deferred[str]:
        """Link once to whoever is at an address. Afterwards it is a link like any other, which nobody dials again.

        :returns: fires with the ID of the node when the link to it is up, or when it will be by another connection that
            the two prefer; fails with LinkRefused or LinkLost, or with what `dial` failed with. Cancelling it gives up.
        """
        if self._is_stopped:
            return fail(LinkRefused(Refusal.CLOSED, f"{self.identity.node_id} stops"))
        found: Deferred[str] = Deferred(self._give_up)
        dialing = dial()
        self._dialing[found] = dialing
        dialing.addCallbacks(self._contacted, self._not_contacted, callbackArgs=(found,), errbackArgs=(found,))
        return found

    def _give_up(self, found: Deferred[str]) -> None:
        dialing = self._dialing.get(found)
        if dialing is not None:
            dialing.cancel()
        for strand in [each for each, waiting in self._contacts.items() if waiting is found]:
            del self._contacts[strand]
            # One that is up belongs to the link.
            if strand.up_order == 0:
                strand.abort("given up")
                self._forget_unproven(strand.node_id)

    def _contacted(self, connection: INodeConnection, found: Deferred[str]) -> None:
        del self._dialing[found]
        if self._is_stopped:
            connection.abort("this node stops")
            found.errback(LinkRefused(Refusal.CLOSED, f"{self.identity.node_id} stops"))
            return
        greeting = DialerGreeting(self.identity, self._secret, self._nonce(), connection.names)
        strand = self._begin(connection, greeting, None)
        self._contacts[strand] = found
        strand.start()

    def _not_contacted(self, failure: Failure, found: Deferred[str]) -> None:
        del self._dialing[found]
        found.errback(failure)

    def _forget_unproven(self, node_id: str) -> None:
        """The table of links is not for names that anybody may say."""
        link = self._links.get(node_id)
        if link is not None and link.incarnation is None and link.strand is None and not link.is_kept:
            self.forget(node_id)

    def _contact_over(self, strand: Strand, reason: str, refused: LinkRefused | None) -> None:
        """A contact came to nothing, or to a link that is there already."""
        found = self._contacts.pop(strand, None)
        if found is None:
            return
        link = self._links.get(strand.node_id)
        if link is not None and refused is not None and refused.code is Refusal.REPLACED:
            found.callback(link.node_id)
            return
        self._forget_unproven(strand.node_id)
        found.errback(refused or LinkLost(strand.node_id, reason))

    def stop(self) -> Deferred[None]:
        """Close all links.

        :returns: fires when the last connection is closed.
        """
        self._is_stopped = True
        for node_id in list(self._links):
            self.forget(node_id)
        for found in list(self._dialing):
            found.cancel()
        for strand in list(self._strands):
            strand.close(Refusal.CLOSED, f"{self.identity.node_id} stops")
        if not self._strands:
            return succeed(None)
        gone: Deferred[None] = Deferred()
        self._waiting_for_end.append(gone)
        return gone

    def _nonce(self) -> bytes:
        return self._chance.random_bytes(NONCE_BYTES)

    def _begin(
        self, connection: INodeConnection, greeting: DialerGreeting | AcceptorGreeting, expected: str | None
    ) -> Strand:
        self._order += 1
        strand = Strand(connection, self, greeting, self._clock, self._options.strand, expected, self._order)
        self._strands.add(strand)
        self._greeting_count += 1
        return strand

    def _dialled(self, link: NodeLink, connection: INodeConnection) -> Strand:
        greeting = DialerGreeting(self.identity, self._secret, self._nonce(), connection.names)
        strand = self._begin(connection, greeting, link.node_id)
        # Behind the return: the link must know its attempt before anything happens to it.
        link.attempt = strand
        strand.start()
        return strand

    def accepted(self, connection: INodeConnection) -> None:
        """Another node connected to us."""
        if self._greeting_count >= self._options.max_greetings or self._is_stopped:
            self.refused[Refusal.BUSY.name] += 1
            connection.abort("too many connections are being greeted")
            return
        greeting = AcceptorGreeting(self.identity, self._secret, self._nonce(), connection.names)
        self._begin(connection, greeting, None).start()

    def greeted(self, strand: Strand, peer: Hello) -> Resume:
        """See `meshrelay.mesh.strand.StrandOwner`."""
        if strand.is_dialer:
            self._check_only_dial(strand, peer.node_id)
        return self._check_wanted(strand, peer)

    def _check_only_dial(self, strand: Strand, node_id: str) -> None:
        """Of two connections that we dialled, both ends would not always see the same one as the newer."""
        others = (each for each in self._strands if each is not strand and each.node_id == node_id)
        if any(each.is_dialer and each.up_order == 0 and each.state is StrandState.GREETING for each in others):
            raise LinkRefused(Refusal.REPLACED, "another connection to this node is being greeted")
        link = self._links.get(node_id)
        if strand in self._contacts and link is not None and link.strand is not None and not link.strand.is_silent:
            raise LinkRefused(Refusal.REPLACED, "the node is linked already")

    def _check_wanted(self, strand: Strand, peer: Hello) -> Resume:
        link = self._link(peer.node_id)
        current = link.strand
        if current is not None and link.incarnation != peer.incarnation:
            # Half-dead ones are silent; one that still speaks is another living node.
            if not current.is_silent:
                raise LinkRefused(Refusal.TWICE, f"two nodes have the ID {peer.node_id}")
        elif not link.is_winner(strand, self.identity.node_id):
            raise LinkRefused(Refusal.REPLACED, "both nodes dialled, the other connection stays")
        return link.resume()

    def proven(self, strand: Strand, resume: Resume) -> None:
        """See `meshrelay.mesh.strand.StrandOwner`."""
        peer = strand.peer
        assert peer is not None
        self._check_wanted(strand, peer)
        link = self._link(peer.node_id)
        is_new_peer = link.is_anew(peer.incarnation, resume)
        before = link.strand
        if is_new_peer:
            if before is not None:
                # It carried what was meant for the old one.
                before.close(Refusal.REPLACED, "the node began anew")
                before = None
            self._announce_down(link, "the node began anew")
        dropped = link.sender.resume(resume, is_new_peer)
        link.receiver.follow(resume.epoch)
        link.incarnation = peer.incarnation
        self._greeting_count -= 1
        strand.up_order = self._order + 1
        link.connected(strand)
        if before is not None:
            before.close(Refusal.REPLACED, "a newer connection took over")
        if is_new_peer:
            self._tell("link_reset", partial(self._observer.link_reset, link.node_id, dropped))

    def ready(self, strand: Strand) -> None:
        """See `meshrelay.mesh.strand.StrandOwner`."""
        link = self._links.get(strand.node_id)
        if link is None or link.strand is not strand:
            return
        if not link.is_announced:
            link.is_announced = True
            self._log.info("linked to {node} at {address}", node=link.node_id, address=strand.address)
            self._tell("link_up", partial(self._observer.link_up, link.node_id))
        found = self._contacts.pop(strand, None)
        if found is not None:
            found.callback(link.node_id)
        link.flush()

    def batch_received(self, strand: Strand, data: bytes) -> bytes:
        """See `meshrelay.mesh.strand.StrandOwner`."""
        link = self._links[strand.node_id]
        batch = decode_batch(data, self._kinds)
        messages = link.receiver.receive(batch)
        if messages:
            self._tell("messages_received", partial(self._observer.messages_received, link.node_id, messages))
        return encode_ack(link.receiver.received)

    def acknowledged(self, strand: Strand, number: int) -> None:
        """See `meshrelay.mesh.strand.StrandOwner`."""
        link = self._links.get(strand.node_id)
        if link is not None and link.strand is strand:
            link.acknowledged(number)

    def call_received(self, strand: Strand, name: str, payload: bytes) -> Deferred[bytes]:
        """See `meshrelay.mesh.strand.StrandOwner`."""
        return maybeDeferred(self._observer.call_received, strand.node_id, name, payload)

    def strand_over(self, strand: Strand, reason: str, refused: LinkRefused | None) -> None:
        """See `meshrelay.mesh.strand.StrandOwner`."""
        if strand.up_order == 0:
            self._greeting_count -= 1
        if refused is not None:
            self.refused[refused.code.name] += 1
        link = self._links.get(strand.node_id) or self._link_of_attempt(strand)
        self._tell_over(strand, link, reason, refused)
        if link is not None:
            self._strand_of_link_over(link, strand, reason, refused)
        self._contact_over(strand, reason, refused)

    def _strand_of_link_over(self, link: NodeLink, strand: Strand, reason: str, refused: LinkRefused | None) -> None:
        if link.attempt is strand:
            link.attempt_failed()
        elif link.strand is strand:
            link.strand = None
            link.refused = refused
            if link.state is not LinkState.STOPPED:
                link.lost()
            is_replaced = refused is not None and refused.code is Refusal.REPLACED
            if is_replaced and (link.attempt is not None or self._is_contacted(link.node_id)):
                # Both dialled, and the other end was first to see that our connection is the one that stays.
                return
        if link.strand is None:
            self._announce_down(link, reason)

    def _is_contacted(self, node_id: str) -> bool:
        return any(strand.node_id == node_id and strand.up_order == 0 for strand in self._contacts)

    def _announce_down(self, link: NodeLink, reason: str) -> None:
        if link.is_announced:
            link.is_announced = False
            self._tell("link_down", partial(self._observer.link_down, link.node_id, reason))

    def _link_of_attempt(self, strand: Strand) -> NodeLink | None:
        return next((link for link in self._links.values() if link.attempt is strand), None)

    def _tell_over(self, strand: Strand, link: NodeLink | None, reason: str, refused: LinkRefused | None) -> None:
        node = strand.node_id or (link.node_id if link is not None else "a node")
        # The port of who dialled us is another one each time.
        place = strand.address if strand.is_dialer else strand.address.rpartition(":")[0]
        if refused is not None:
            usual, key = refused.code in (Refusal.REPLACED, Refusal.CLOSED), (node, refused.code.name)
        else:
            usual, key = strand.up_order != 0, ("", place)
        if usual or self._rarely.is_due(key):
            log = self._log.info if usual or (refused is None and not strand.is_dialer) else self._log.warn
            log("no link to {node} at {address}: {reason}", node=node, address=strand.address, reason=reason)

    def strand_gone(self, strand: Strand) -> None:
        """See `meshrelay.mesh.strand.StrandOwner`."""
        self._strands.discard(strand)
        if not self._strands:
            waiting, self._waiting_for_end = self._waiting_for_end, []
            for gone in waiting:
                gone.callback(None)

    def _tell(self, what: str, call: Callable[[], object]) -> None:
        maybeDeferred(call).addErrback(
            lambda failure: self._log.failure("{what} failed in the observer of links", failure=failure, what=what)
        )

    def statistics(self) -> Mapping[str, int]:
        """Counts for the metrics page; the same keys at each call."""
        links = list(self._links.values())
        return {
            "links": len(links),
            "links_up": sum(link.state is LinkState.UP for link in links),
            "greetings": self._greeting_count,
            "refused": sum(self.refused.values()),
        }
