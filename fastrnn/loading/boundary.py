"""Where a loader reads what others made: a structure that isn't what it takes it for becomes one error, which says so.

Errors that this package raises say already what is wrong, and pass. So do OSError, ImportError and MemoryError, which say nothing about
a file's structure.
"""

import dis
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# What operations raise on values of other kinds than the code takes them for, and what reading damaged bytes raises.
RAW = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    RuntimeError,  # a RecursionError is one
    TypeError,
    ValueError,  # Unicode's and JSON's errors are some
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
PACKAGE = __name__.partition(".")[0]
RAISE = dis.opmap["RAISE_VARARGS"]


def is_ours(error: BaseException) -> bool:
    """Tell whether a statement `raise` of this package raised an error: not another library, and not an operation that failed."""
    trace = error.__traceback__
    if trace is None:
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    code, module = trace.tb_frame.f_code, str(trace.tb_frame.f_globals.get("__name__"))
    return module.partition(".")[0] == PACKAGE and code.co_code[trace.tb_lasti : trace.tb_lasti + 1] == bytes([RAISE])


@contextmanager
def understood(name: str, given: Any, wanted: str, remedy: str = "") -> Iterator[None]:
    """Turn what Python, or another library, raises about an argument that was given into a ValueError that says what was wanted."""
    try:
        yield
    except RAW as error:
        if is_ours(error):
            raise
        got = repr(os.fspath(given)) if isinstance(given, str | os.PathLike) else type(given).__name__
        what = f"got {got}, which is damaged or not understood: {type(error).__name__}: {error}"
        raise ValueError(f"{name} must be {wanted}, {what}{remedy}") from error
