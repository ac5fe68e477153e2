"""Benchmarks: `pytest bench`."""
