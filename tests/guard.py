"""Arrays beside a page of memory that can't be read: whatever reads or writes past them ends the process with a signal."""

import ctypes
import functools
import math
import mmap
import os
import sys

import numpy as np

from fastrnn.engine import packing

POSSIBLE = os.name == "posix"
FORBIDDEN = 0  # PROT_NONE: neither read nor written
OTHERS = {"kernels", "native", "threads"}  # modules whose arrays live as long as the process


@functools.cache
def protect():
    """The system's function."""
    return ctypes.CDLL(None, use_errno=True).mprotect


def memory(size, *, last, align=1):
    """Memory of so many bytes, all zero, between two such pages: its last byte touches one, as far as it can be aligned, or its first."""
    page = mmap.PAGESIZE
    inside = -(-size // page) * page
    mapping = mmap.mmap(-1, inside + 2 * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
    for at in (start, start + page + inside):
        if protect()(ctypes.c_void_p(at), ctypes.c_size_t(page), FORBIDDEN):
            raise OSError(ctypes.get_errno(), "mprotect")
    return np.frombuffer(mapping, np.uint8, size, page + ((inside - size) // align * align if last else 0))


def zeros(shape, dtype=float, *, last, align=1):
    """An array of zeros that is so placed; one without elements is anywhere."""
    shape, dtype = np.zeros(shape, np.uint8).shape, np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    return memory(size, last=last, align=align).view(dtype).reshape(shape) if size else np.zeros(shape, dtype)


def beside(array, *, last):
    """A copy of an array that is so placed."""
    copy = zeros(array.shape, array.dtype, last=last)
    copy[...] = array
    return copy


class Guarded:
    """NumPy, whose new arrays are so placed."""

    def __init__(self, last):
        self.last = last

    def __getattr__(self, name):
        return getattr(np, name)

    def zeros(self, shape, dtype=float):
        return zeros(shape, dtype, last=self.last)

    empty = zeros

    def concatenate(self, arrays, axis=0):
        return beside(np.concatenate(arrays, axis=axis), last=self.last)


def guard_own(*, last):
    """Place what the library allocates so, too: outputs, states, tables, workspaces, packed weights, and the weights that it packs."""

    def aligned(size, dtype):
        return zeros(size, dtype, last=last, align=packing.ALIGNMENT)

    def pack(record, matrix, weights):
        pack.own(record, None if matrix is None else beside(matrix, last=last), weights)

    pack.own = getattr(packing.pack, "own", packing.pack)
    for name, module in list(sys.modules.items()):
        own = name.startswith("fastrnn.")
        if own and OTHERS.isdisjoint(name.split(".")) and hasattr(module, "np"):
            module.np = Guarded(last)
        if own and hasattr(module, "empty_aligned"):
            module.empty_aligned = aligned
    packing.pack = pack
