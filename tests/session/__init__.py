"""Tests of meshrelay.session."""
