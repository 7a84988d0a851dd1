"""Tests of meshrelay.fanout."""
