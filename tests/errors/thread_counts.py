"""Errors of the number of threads."""

import pytest

import fastrnn
from fastrnn import set_num_threads

from .given import SECOND


def threads_from(value):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fastrnn.engine.threads, "chosen", None)
        patch.setattr(fastrnn.engine.threads, "found", None)
        patch.setenv("FASTRNN_NUM_THREADS", value)
        fastrnn.get_num_threads()


ERRORS = {
    "no thread": (lambda: set_num_threads(0), ValueError, "n must be an integer from 1 up, got 0"),
    "true threads": (lambda: set_num_threads(True), ValueError, "n must be an integer from 1 up, got True"),
    "threads of a duration": (
        lambda: set_num_threads(SECOND),
        ValueError,
        f"n must be an integer from 1 up, got {SECOND!r}",
    ),
    "half a thread": (lambda: set_num_threads(1.5), ValueError, "n must be an integer from 1 up, got 1.5"),
    "threads left open": (lambda: set_num_threads(None), ValueError, "n must be an integer from 1 up, got None"),
    "no thread in the environment": (
        lambda: threads_from("0"),
        ValueError,
        "FASTRNN_NUM_THREADS must be an integer from 1 up, got 0",
    ),
    "no number in the environment": (
        lambda: threads_from("4,2"),
        ValueError,
        "FASTRNN_NUM_THREADS must be an integer from 1 up, got '4,2'",
    ),
}
