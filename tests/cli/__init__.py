"""Tests of meshrelay.cli."""
