"""What Numba runs at its start. It is installed as a package of its own, `fastrnn_numba`: a program that has no use for fastrnn imports
only this.
"""

import sys


def init() -> None:
    """Register what compiled functions may call. fastrnn does it at its import, if Numba is there first."""
    if "fastrnn" in sys.modules:
        import fastrnn.overloads  # noqa: F401
