"""Tests of the overlay."""
