"""Tests of meshrelay.components."""
