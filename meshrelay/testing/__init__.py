"""Fakes and measuring tools for tests of meshrelay and of applications on it.

=========  ========================================================================
network    a seeded bad network between two pure machines, on a virtual clock
=========  ========================================================================
"""
