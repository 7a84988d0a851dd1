"""Tests of the NetBird-compatible relay without its sockets."""
