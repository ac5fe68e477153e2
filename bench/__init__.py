"""Benchmarks: `python -m bench` beside rivals, `pytest bench` of fastrnn's own ways."""
