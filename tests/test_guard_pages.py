"""No call reads or writes past an array: each lies beside a page of memory that ends the process when it is touched."""

import pytest

from . import guard
from .exhaustive import few
from .process import start

pytestmark = pytest.mark.skipif(not guard.POSSIBLE, reason="pages are protected by mprotect")


def last_line(script):
    """The last line that a script prints, how it ended, and what it says of an error."""
    process = start(f"from tests import guard, guarded\n{script}", FASTRNN_NUM_THREADS=1)
    printed, errors = process.communicate(timeout=300)
    return printed.splitlines()[-1:], process.returncode, errors


@pytest.mark.parametrize("last", [True, False], ids=["at the end of a page", "at the beginning of a page"])
@pytest.mark.parametrize("some", few({"every case": False, "some cases": True}, "some cases"))
def test_every_call(last, some):
    """Inputs, weights, states, lengths, rows, outputs and what the library allocates: nothing beyond them is touched."""
    assert last_line(f"guarded.main({last}, some={some})") == (["over"], 0, "")


@pytest.mark.parametrize(("last", "beyond"), [(True, "array.strides[0] * len(array)"), (False, "-1")])
def test_the_guard(last, beyond):
    """The last byte of an array can be read, the one after it can't; and so at the beginning."""
    script = f"import ctypes, numpy as np\narray = guard.beside(np.arange(3.0), last={last})\nprint(array, flush=True)\n"
    line, code, _ = last_line(f"{script}ctypes.string_at(array.ctypes.data + {beyond}, 1)")
    assert line == ["[0. 1. 2.]"]
    assert code < 0
