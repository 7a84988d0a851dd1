"""Tests of meshrelay, one module for each module of the package; tests/integration uses real ports and processes."""

from hypothesis import settings

# How long an example takes says more about the machine than about the code.
settings.register_profile("meshrelay", deadline=None)
settings.load_profile("meshrelay")
