"""Tests of the supervisor and its workers; with real processes see tests/integration/test_workers.py."""
