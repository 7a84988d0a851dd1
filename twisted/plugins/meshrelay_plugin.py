"""Lists ``meshrelay`` in ``twistd --help``; every twistd on the machine runs this file: it imports nothing of ours."""

from twisted.application.service import ServiceMaker

meshrelay = ServiceMaker(
    "meshrelay", "meshrelay.tap", "realtime groups, rooms and relays over TCP, WebSocket and UDP", "meshrelay"
)
