"""Tests with real ports, processes and installations; they run apart from the unit suite."""
