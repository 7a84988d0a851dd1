"""Tests of meshrelay.wire."""
