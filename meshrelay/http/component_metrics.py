"""What components say of themselves -> prometheus samples.

A component counts under plain names, `IComponent.statistics`, and does not know prometheus. This table says what each
name is: something that only grows, whose samples end in ``_total``, or how much there is now; what its text is; and
where several names are one family, told apart by a label. A name that is not here is a gauge, so that nothing that is
counted gets lost; a test finds it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, Protocol

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

__all__ = ["COMPONENT_COUNTERS", "COMPONENT_GAUGES", "Counted", "component_metrics"]


class Counted(Protocol):
    """A part of the node that counts; `meshrelay.interfaces.IComponent` is one."""

    @property
    def name(self) -> str:
        """Goes into the text of each sample."""

    def statistics(self) -> Mapping[str, int]:
        """Counts; the same keys at each call."""


class _Family(NamedTuple):
    """Several names that are one metric.

    :ivar values: name of a count -> value of the label.
    """

    name: str
    is_counter: bool
    text: str
    label: str
    values: Mapping[str, str]


#: Names that only grow.
COMPONENT_COUNTERS: Mapping[str, str] = {
    "admin_problems": "Requests to the admin API that were not done.",
    "admin_repeats_evicted": "Answers of the admin API that were forgotten early for want of room.",
    "admin_repeats_replayed": "Requests to the admin API that came again and were answered as before.",
    "admin_requests": "Requests to the admin API.",
    "console_pushes": "States of the node that were pushed to consoles.",
    "console_pushes_skipped": "States that a console was passed over with, as it had not read the one before.",
    "console_tickets_refused": "Sign-ins with a ticket of the console that is none, or none any more.",
    "console_watchers_refused": "Consoles that were turned away because too many watch.",
    "direct_channels_evicted": "Pairs of users that were forgotten for want of room.",
    "direct_declined": "Direct messages that the application refused.",
    "direct_delivered": "Direct messages to users of this node.",
    "direct_failed": "Direct messages whose callbacks failed.",
    "direct_lookups": "Users looked up in the directory.",
    "direct_results_dropped": "Outcomes of direct messages that were not told, as too much waited for a node.",
    "direct_sent": "Direct messages of users of this node.",
    "direct_stale": "Users who had moved since they were looked up.",
    "direct_timeouts": "Direct messages answered with code 6.",
    "group_casts": "Casts of this node to others.",
    "group_casts_lost": "Casts of others that nobody has any more.",
    "group_casts_passed_on": "Casts of others, passed on.",
    "group_entry_timeouts": "Groups looked for on other nodes and given up with code 6.",
    "group_log_append_failures": "Messages that the store of history did not take.",
    "group_log_calls": "Calls to the store of history.",
    "group_log_calls_refused": "Calls to the store of history refused because too many were under way.",
    "group_log_dropped": "Messages of history dropped for want of room.",
    "group_log_epochs": "Histories begun, or begun anew.",
    "group_log_evicted": "Histories forgotten for want of room.",
    "group_log_gap_reads": "Questions to the store for messages that were missing.",
    "group_log_logged": "Messages that went into histories.",
    "group_log_missed": "Messages of histories that members here have missed.",
    "group_log_not_recovered": "Members that could not be given all that they had missed.",
    "group_log_recovered": "Members that were given all that they had missed.",
    "group_log_repeated": "Messages of histories that came twice.",
    "group_log_unlogged": "Messages delivered without history.",
    "group_repairs_answered": "Answers to questions for casts that were missing.",
    "group_repairs_asked": "Questions for casts that were missing.",
    "membership_failed_rounds": "Rounds of keeping this node in the directory that failed.",
    "mesh_malformed": "Messages of other nodes that cannot be read.",
    "mesh_unknown_calls": "Calls of other nodes that this version does not know.",
    "overlay_bridge_timeouts": "Messages of this node's users to peers, given up with code 6.",
    "peer_link_messages_dropped": "What P2P links had for a node whose link was full, lost.",
    "peer_link_packets_forwarded": "Packets for peers handed on, to sessions or to other nodes.",
    "peer_link_reports_ignored": "Reports about strangers, or beyond the limit of pairs.",
    "peer_link_starts": "P2P links started in rooms of this node.",
    "registration_dropped_unsaid": "What was to be said to the directory and was dropped for want of room.",
    "registration_failed_calls": "Calls to the directory that failed.",
    "registration_refreshes": "Times that the directory was told everything again.",
    "relay_dropped_to_nodes": "Messages of relay peers that no link to another node took.",
    "relay_evictions_by_nodes": "Relay peers that came back on another node.",
    "relay_peers_not_known": "Relay peers of other nodes that were not noted for want of room.",
    "roaming_arrived": "Sessions that came from other nodes.",
    "roaming_ends_given_up": "Ends of sessions of which another node could not be told.",
    "roaming_left": "Sessions that went to other nodes.",
    "roaming_malformed": "Answers about sessions that cannot be read.",
    "roaming_not_found": "Sessions looked for that are on no node.",
    "roaming_recalled": "Memberships called back from nodes that are gone.",
    "roaming_refused": "Sessions that were not given to this node.",
    "roaming_replaced": "Sessions that ended because their user signed in elsewhere.",
    "room_casts": "Messages of rooms to other nodes.",
    "room_casts_lost": "Messages of rooms that no link took.",
    "room_members_lost": "Members lost without leaving.",
    "room_messages_dropped": "What rooms had for a node whose link was full, lost.",
    "room_messages_refused": "What rooms had for a node whose link was full.",
    "room_outs": "Sessions of this node that were told to be out of a room.",
    "room_timeouts": "What was wanted of rooms of other nodes and given up with code 6.",
    "webhook_breaker_openings": "Times that an URL was left in peace for having failed.",
    "webhook_events_dropped": "Events that were dropped because too many waited.",
    "webhook_events_given_up": "Events that no try has brought to their URL.",
    "webhook_events_sent": "Events that their URL has taken.",
    "webhook_posts": "POSTs to webhooks.",
    "webhook_posts_failed": "POSTs to webhooks that were not answered with 2xx.",
}

#: How much there is now.
COMPONENT_GAUGES: Mapping[str, str] = {
    "admin_repeat_keys": "Idempotency keys that are remembered.",
    "console_watchers": "Consoles that watch.",
    "direct_channels": "Pairs of users that are remembered.",
    "direct_in_flight": "Direct messages on their way to other nodes.",
    "direct_pending": "Direct messages without an outcome yet.",
    "direct_refused_kept": "Pairs whose messages are refused, to keep the order.",
    "direct_results_kept": "Outcomes of direct messages that wait until a link to a node takes them.",
    "direct_waiting": "Direct messages behind slow callbacks.",
    "group_entries": "Groups that are being looked for on other nodes.",
    "group_history_bytes": "Casts that are kept to be asked for.",
    "group_log_bytes": "Bytes of histories.",
    "group_log_groups": "Groups with a history.",
    "group_log_messages": "Messages of histories.",
    "group_log_unsure": "Histories that are to begin anew.",
    "group_members": "Memberships of users of this node.",
    "group_orphans": "Memberships of nodes that are gone, kept for resumes.",
    "group_remote_members": "Members on other nodes of the groups that are held here.",
    "groups": "Groups that are held here.",
    "membership_is_registered": "1: the directory knows this node.",
    "membership_nodes_in_directory": "Nodes that the directory knows.",
    "mesh_nodes_known": "Other nodes.",
    "mesh_nodes_linked": "Other nodes with a link.",
    "mesh_nodes_lost": "Other nodes that are gone without a word.",
    "overlay_bridge_nodes": "Other nodes that hand messages to the overlay.",
    "overlay_bridge_pending": "Messages of this node's users to peers, under way.",
    "peer_link_messages_kept": "What P2P links keep until a link to a node takes it.",
    "peer_link_rooms": "Rooms of this node with P2P links.",
    "peer_link_rooms_seated": "Rooms of any node with P2P links of members here.",
    "peer_link_sessions_with_addresses": "Sessions that have said where they are.",
    "registration_unsaid": "What is still to be said to the directory.",
    "relay_nodes": "Other nodes with relay peers.",
    "relay_peers_elsewhere": "Relay peers on other nodes.",
    "roaming_pending_ends": "Ends of sessions that other nodes are still to be told of.",
    "roaming_searching": "Sessions that are being looked for.",
    "room_asks_pending": "What is wanted of rooms of other nodes, without an answer yet.",
    "room_members": "Members of rooms of this node, wherever they are.",
    "room_messages_kept": "What rooms keep until a link to a node takes it.",
    "room_seats": "Sessions of this node in rooms of any node, each as often as it is in one.",
    "rooms": "Rooms of this node.",
    "webhook_batches": "Batches of events under way, or waiting for another try.",
    "webhook_breakers_open": "URLs that are left in peace for having failed.",
    "webhook_bytes_waiting": "Memory of the events that wait.",
    "webhook_events_waiting": "Events that wait to be sent.",
}

_FAMILIES = (
    _Family(
        "peer_link_packets_dropped",
        True,
        "Packets for peers that were not handed on.",
        "reason",
        {f"peer_link_packets_dropped_{reason}": reason for reason in ("limit", "slow", "gone", "node")},
    ),
    _Family(
        "peer_link_pairs",
        False,
        "How members of rooms of this node reach each other, both ways counted.",
        "state",
        {f"peer_link_pairs_{state}": state for state in ("direct", "relayed", "lost")},
    ),
    _Family(
        "peer_link_pairs_not_direct",
        False,
        "Why pairs are not direct.",
        "reason",
        {f"peer_link_pairs_{reason}": reason for reason in ("no_udp", "no_hole")},
    ),
)

_FAMILY_OF: Mapping[str, _Family] = {key: family for family in _FAMILIES for key in family.values}


def component_metrics(components: Iterable[Counted]) -> Iterator[Metric]:
    """Yield the samples of all components."""
    for component in components:
        families: dict[str, Metric] = {}
        for key, value in component.statistics().items():
            family = _FAMILY_OF.get(key)
            if family is None:
                yield _plain(component.name, key, value)
                continue
            metric = families.get(family.name)
            if metric is None:
                metric = families[family.name] = _empty(family)
            metric.add_metric([family.values[key]], value)  # type: ignore[attr-defined]
        yield from families.values()


def _plain(component: str, key: str, value: float) -> Metric:
    if key in COMPONENT_COUNTERS:
        return CounterMetricFamily(f"meshrelay_{key}", COMPONENT_COUNTERS[key], value=value)
    return GaugeMetricFamily(f"meshrelay_{key}", COMPONENT_GAUGES.get(key, f"Of {component}."), value=value)


def _empty(family: _Family) -> Metric:
    kind = CounterMetricFamily if family.is_counter else GaugeMetricFamily
    return kind(f"meshrelay_{family.name}", family.text, labels=[family.label])
