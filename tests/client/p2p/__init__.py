"""Tests of `meshrelay.client.p2p`."""
