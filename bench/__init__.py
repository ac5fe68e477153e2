"""Benchmarks. `python -m bench` times fastrnn beside its rivals; `pytest bench` times fastrnn's own ways of calling."""
