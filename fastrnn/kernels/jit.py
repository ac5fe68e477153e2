"""The compile options, and the disk cache of compiled kernels."""

import functools
import hashlib
import pathlib
import pickle

import llvmlite
from numba import njit
from numba.core.caching import FunctionCache, IndexDataCacheFile, NullCache

# All explicit: a function first compiled from a caller's @njit(fastmath=True) would inherit the caller's flags and then serve everyone.
OPTIONS = {"nogil": True, "fastmath": False, "error_model": "numpy", "boundscheck": False}

function = njit(**OPTIONS)
inline = njit(inline="always", **OPTIONS)


def kernel(python_function):
    """Compile at the first call from Python, and keep the machine code on disk where that is possible."""
    dispatcher = njit(**OPTIONS)(python_function)
    try:
        dispatcher._cache = KernelCache(python_function)
    except (RuntimeError, OSError):  # no writable directory
        dispatcher._cache = NullCache()
    return dispatcher


@functools.cache
def source_stamp():
    """Digest everything a kernel's machine code follows from; Numba's own stamp leaves out the functions that a kernel calls."""
    digest = hashlib.sha256(llvmlite.__version__.encode())
    for path in sorted(pathlib.Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


class KernelCache(FunctionCache):
    """Numba's cache with a file of its own for each signature and CPU, and without a way to fail.

    Two processes that save different signatures into one index can swap each other's machine code.
    """

    def _files(self, signature, codegen):
        key = hashlib.sha256(repr(self._index_key(signature, codegen)).encode()).hexdigest()
        return IndexDataCacheFile(self._cache_path, f"{self._impl.filename_base}-{key[:16]}", source_stamp())

    def load_overload(self, signature, target_context):
        self._cache_file = self._files(signature, target_context.codegen())
        try:
            loaded = super().load_overload(signature, target_context)
        except (OSError, EOFError, ValueError, TypeError, AttributeError, ImportError, IndexError, pickle.UnpicklingError):
            return None  # a damaged file
        return loaded if loaded is None or loaded.signature.args == signature else None

    def save_overload(self, signature, data):
        self._cache_file = self._files(signature, data.codegen)
        try:
            super().save_overload(signature, data)
        except OSError:
            return  # a full or read-only disk
