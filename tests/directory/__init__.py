"""Tests of `meshrelay.directory`."""
