"""Numba imports this package at its start, and calls `init`. It is installed as `fastrnn_numba`, outside fastrnn: a program that uses Numba
without fastrnn imports only this.
"""

import sys


def init() -> None:
    """Register the functions that compiled code may call, if fastrnn is imported. If Numba is imported first, fastrnn registers them."""
    if "fastrnn" in sys.modules:
        import fastrnn.overloads  # noqa: F401
