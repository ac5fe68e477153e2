"""Python functions put around the engine's operations: they watch its threads, and delay them at exact places."""

import contextlib
import ctypes

import pytest

from fastrnn.kernels.layout import JOB_BYTES, OPERATIONS
from fastrnn.native import machine_code

kept = []  # layers and jobs hold addresses of these, so they are never released


def field(fields, address, name):
    """Give a field of the record at an address; its `value` can be read and written."""
    return ctypes.c_int64.from_address(address + ctypes.sizeof(ctypes.c_int64) * fields.offsets[name])


def chunk_of(job):
    """Give the address of the chunk that belongs to a thread's own job."""
    return job + JOB_BYTES


@contextlib.contextmanager
def around(operation, function, dtype=None, arguments=3):
    """Have layers and jobs that are made inside the block call `function(call, *records)`, which calls `call()` for the operation itself.

    Records are given by their addresses, so many of them.
    """
    wanted = operation, str(dtype.__name__) if OPERATIONS[operation][1] else ""
    machine_code.addresses([operation], wanted[1])
    kind = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * arguments)
    real = kind(machine_code.loaded.addresses[wanted])
    replacement = kind(lambda *records: function(lambda: real(*records), *records))
    kept.append(replacement)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(machine_code.loaded.addresses, wanted, ctypes.cast(replacement, ctypes.c_void_p).value)
        machine_code.all_addresses.cache_clear()
        yield
    machine_code.all_addresses.cache_clear()
