"""Measurements that compare; each module is a program. See README.md."""
