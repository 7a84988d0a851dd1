"""Tests of meshrelay.config."""
