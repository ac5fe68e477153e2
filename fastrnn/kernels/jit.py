"""The compile options, and the disk cache of compiled kernels."""

import contextlib
import hashlib
import pathlib

import llvmlite
from numba import njit, typeof
from numba.core.caching import FunctionCache, IndexDataCacheFile, NullCache

# All explicit: a function first compiled from a caller's @njit(fastmath=True) would inherit the caller's flags and then serve everyone.
OPTIONS = {"nogil": True, "fastmath": False, "error_model": "numpy", "boundscheck": False}

# A function is compiled on its own and once more into each that calls it, so one with a single caller is inlined: 3.1 s against 3.8.
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


def machine_code(dispatcher, *arguments):
    """What a kernel runs for arguments of these types: called directly it answers 0.4 us sooner.

    It doesn't look at the types: arguments of others, or in another order, would be read as what they are not.
    """
    signature = tuple(typeof(argument) for argument in arguments)
    dispatcher.compile(signature)
    return dispatcher.overloads[signature].entry_point


def source_digest():
    """Digest everything a kernel's machine code follows from; Numba's own stamp leaves out the functions that a kernel calls."""
    digest = hashlib.sha256(llvmlite.__version__.encode())
    for path in sorted(pathlib.Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


SOURCE = source_digest()  # now, beside the import of what it describes: the files may be other ones at the first call


class KernelCache(FunctionCache):
    """Numba's cache with files of their own for each signature, CPU and source, and without a way to fail.

    Two processes that save different signatures under one name can swap each other's machine code, and a process that dies
    between writing an index and its data can leave old code under a new stamp.
    """

    def _select_files(self, signature, codegen):
        key = repr((SOURCE, self._index_key(signature, codegen)))
        name = f"{self._impl.filename_base}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
        self._cache_file = IndexDataCacheFile(self._cache_path, name, SOURCE)

    def load_overload(self, signature, target_context):
        self._select_files(signature, target_context.codegen())
        try:
            loaded = super().load_overload(signature, target_context)
        except Exception:  # a damaged file can raise anything; start it anew
            with contextlib.suppress(OSError):
                self._cache_file.flush()
            return None
        return loaded if loaded is not None and loaded.signature.args == signature else None

    def save_overload(self, signature, data):
        self._select_files(signature, data.codegen)
        with contextlib.suppress(OSError):  # a full disk, or one that has become read-only
            super().save_overload(signature, data)
