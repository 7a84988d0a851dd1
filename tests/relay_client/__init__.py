"""Tests of the relay client."""
