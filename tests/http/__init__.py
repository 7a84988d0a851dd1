"""Tests of meshrelay.http."""
