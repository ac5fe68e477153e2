"""Turn whatever a damaged or unknown file makes a loader raise into one ValueError that says what was expected.

Errors that this package itself raises pass unchanged, since they already say what is wrong. So do OSError, ImportError and MemoryError,
since they say nothing about a file's structure.
"""

import dis
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Errors raised by operations on values of an unexpected type, and by reading damaged bytes.
RAW = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    RuntimeError,  # includes RecursionError
    TypeError,
    ValueError,  # includes the errors of Unicode and JSON
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
PACKAGE = __name__.partition(".")[0]
RAISE = dis.opmap["RAISE_VARARGS"]


def is_ours(error: BaseException) -> bool:
    """Return whether a `raise` statement of this package raised an error, not another library or a failed operation."""
    trace = error.__traceback__
    if trace is None:
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    code, module = trace.tb_frame.f_code, str(trace.tb_frame.f_globals.get("__name__"))
    return module.partition(".")[0] == PACKAGE and code.co_code[trace.tb_lasti : trace.tb_lasti + 1] == bytes([RAISE])


@contextmanager
def understood(name: str, given: Any, wanted: str, remedy: str = "") -> Iterator[None]:
    """Turn errors that Python or another library raises about an argument into a ValueError that says what the argument must be."""
    try:
        yield
    except RAW as error:
        if is_ours(error):
            raise
        got = repr(os.fspath(given)) if isinstance(given, str | os.PathLike) else type(given).__name__
        what = f"got {got}, which is damaged or not understood: {type(error).__name__}: {error}"
        raise ValueError(f"{name} must be {wanted}, {what}{remedy}") from error
