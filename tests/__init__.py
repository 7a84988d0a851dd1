"""Tests of meshrelay, one module for each module of the package; tests/integration uses real ports and processes."""
