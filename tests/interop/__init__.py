"""Tests against the programs of others, the measure of what is compatible; they run apart from the unit suite."""
