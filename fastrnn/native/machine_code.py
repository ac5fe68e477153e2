"""Find the machine code of operations on disk or have it compiled; check it, load it, and call it.

An operation is a compiled function of the kernels, a row of `OPERATIONS`. A file holds one operation for one target (a processor and its
features, on a platform). Files are looked up in the package, since a wheel may bring machine code, then in three caches: the directory
FASTRNN_CACHE_DIR, a directory inside the package, and the user's cache directory. New files go to the first cache that this process can
write to and no other user can.

A file is loaded only if its checksum is right, this processor has all features of its target, and this process has all symbols that the
code needs. A file in a cache is loaded only if no other user could have written it. Otherwise the operation is compiled anew.

Child processes compile, so a program that uses fastrnn doesn't import Numba. If no child can be started, this process compiles.
"""

import _thread
import ctypes
import functools
import hashlib
import importlib
import logging
import os
import pathlib
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import llvmlite
import numpy as np

from ..arguments import IN_USE
from ..kernels.layout import ADVANCE, ADVANCE_ROWS, ARGUMENTS, OPERATIONS, PYTHON, Shape
from . import linking, processor, sources, storage
from .processor import LEVELS, Target

log = logging.getLogger("fastrnn")

PACKAGE = sources.PACKAGE
WHEEL = PACKAGE / "machine_code"
BESIDE = PACKAGE / "compiled_code"  # not in __pycache__, which is often deleted in container images
VARIABLE = "FASTRNN_CACHE_DIR"
DTYPES = ("float32", "float64")
NAMES = dict(zip("fd", DTYPES, strict=True))  # the keys are NumPy's characters for these dtypes
DIGEST = hashlib.sha256().digest_size
FASTCALL = 0x80  # METH_FASTCALL
BUILTINS = {  # functions for Python, made of machine code; and what their error texts say of their arguments
    "call": f"from 1 to {ARGUMENTS.words} arrays",
    "checked_call": "6 arguments",
    "advance": f"{ADVANCE.words} arguments",
    "advance_rows": f"{ADVANCE_ROWS.words} arguments",
    "hold": "2 arguments or more",
}
# NumPy's table of C functions, imported here because imports fail while Python shuts down. NumPy's binary interface fixes the indices of
# PyArray_NewFromDescr and PyArray_SetBaseObject.
NUMPY_API = importlib.import_module("numpy._core._multiarray_umath")._ARRAY_API
NEW_FROM_DESCRIPTION, SET_BASE = 94, 282
DISAGREE = f"LLVM and the processor say differently what it has; set {processor.CPU_NAME} to {{}}, as LLVM names it"
TOO_LATE = "fastrnn can't make machine code while Python shuts down; make it before: python -m fastrnn compile"

Wanted = tuple[str, str]  # an operation and its dtype; the dtype is "" for an operation that is compiled once for all dtypes
Progress = Callable[[int, int], None]  # called with two counts: operations compiled so far, and operations to compile


class Loaded:
    """The operations that this process has loaded, and its locks. There is one such object, which lives as long as the process."""

    lock: int | None = None  # file descriptor of the cache's lock file, open while this process compiles or waits to compile

    def __init__(self) -> None:
        self.forget_locks()
        self.addresses: dict[Wanted, int] = {}
        self.told = False  # whether this process has logged that it compiles
        self.warned: set[str] = set()  # subjects of the warnings that it has logged
        self.origins: dict[Wanted, str] = {}
        self.call: Any = None  # from here on the built-ins, set by `start`
        self.checked_call: Any = None
        self.advance: Any = None
        self.advance_rows: Any = None
        self.hold: Any = None

    def forget_locks(self) -> None:
        # held while LLVM is used and while the process forks, so that llvmlite's own lock is free in a forked child
        self.loading = threading.RLock()
        self.compiling = threading.RLock()
        if self.lock is not None:  # in a forked child: the lock is its parent's, and the child waits for it as other processes do
            os.close(self.lock)
            self.lock = None


loaded = Loaded()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: loaded.loading.acquire(), after_in_parent=lambda: loaded.loading.release(), after_in_child=loaded.forget_locks
    )


def provide(wanted: Iterable[Wanted], progress: Progress | None = None, *, in_files: bool = False) -> None:
    """Load operations. Compile those that have no good file; with in_files=True, even if they are loaded already."""
    absent = [one for one in wanted if in_files or one not in loaded.addresses]
    if absent and sys.is_finalizing():
        load_at_the_end(absent)
        return
    missing = absent and run_in_thread(without_file if in_files else not_found, absent)
    if missing:
        compiling = run_in_thread(import_compiling)
        with loaded.compiling:
            compiling.compile_missing([one for one in missing if in_files or one not in loaded.addresses], progress, in_files=in_files)


def load_at_the_end(wanted: Iterable[Wanted]) -> None:
    """Load operations while Python shuts down; raise RuntimeError if that fails. Other threads no longer run: none can release a lock."""
    free = loaded.loading.acquire(blocking=False)
    if free:
        loaded.loading.release()
    try:
        done = free and all(load(one) for one in wanted)
    except ImportError:  # of platformdirs or of LLVM
        done = False
    if not done:
        raise RuntimeError(TOO_LATE)


def import_compiling() -> Any:
    with loaded.loading:  # a child forked during the import could never finish it
        return importlib.import_module(f"{__package__}.compiling")


def addresses(operations: Iterable[str], dtype: str) -> dict[str, int]:
    """Return the addresses of operations' machine code for a dtype. Load or compile operations that aren't loaded."""
    wanted = {operation: (operation, dtype if OPERATIONS[operation][1] else "") for operation in operations}
    provide(wanted.values())
    return {operation: loaded.addresses[one] for operation, one in wanted.items()}


def run_in_thread(function: Callable[..., Any], *arguments: Any, to_its_end: bool = False, waiting: bool = True) -> Any:
    """Call a function in a thread of its own, wait for it, and return its result.

    Python runs signal handlers in the main thread, so neither Ctrl-C nor a handler interrupts the function. If a handler calls fastrnn and
    waits for the lock `loading`, the thread that holds the lock continues and releases it. An interrupt inside llvmlite would make it free
    an object twice, and one inside Thread or Future make it release a lock twice; so this function waits for a plain lock.

    An interrupt ends the waiting, but not the thread; with to_its_end=True it is raised only after the function has ended. With
    waiting=False the function isn't waited for, and None is returned.
    """
    answers, errors, over = [], [], threading.Lock()

    def run() -> None:
        try:
            answers.append(function(*arguments))
        except BaseException as error:
            errors.append(error)
        over.release()

    over.acquire()
    try:
        if sys.is_finalizing():  # a new thread would never run
            run()
        else:
            _thread.start_new_thread(run, ())
    except RuntimeError:  # in an exit handler, or the system gives no more threads
        run()
    if not waiting:
        return None
    try:
        over.acquire()
    except BaseException:
        if to_its_end and not (answers or errors):  # an interrupt may also come after this thread has acquired the lock
            over.acquire()
        raise
    if errors:
        raise errors[0]
    return answers[0]


@functools.cache
def all_addresses(operations: tuple[str, ...], dtype: str) -> dict[str, int]:
    """Return the same, from a cache. The dtype is given by its character, which NumPy returns faster than its name."""
    return addresses(operations, NAMES[dtype])


def name_of(dtype: np.dtype[Any]) -> str:
    """Return a dtype's name. NumPy's `dtype.name` imports a module at every use, which fails while Python shuts down."""
    return NAMES[dtype.char]


def address(operation: str, dtype: str = "") -> int:
    return addresses([operation], dtype)[operation]


def everything() -> list[Wanted]:
    """Return all operations; an operation that is compiled for each dtype is listed for both."""
    return [(operation, dtype) for operation, (_, typed) in OPERATIONS.items() for dtype in (DTYPES if typed else ("",))]


def compile(progress: Progress | None = None) -> None:
    """Compile all machine code that is missing for this machine, and write it to files for later processes.

    For container images, and for clusters before their workers start: afterwards no process compiles. `python -m fastrnn compile` does
    the same and shows its progress.

    Parameters
    ----------
    progress : callable, optional
        Called now and then with two counts: operations compiled so far, and operations to compile.

    Raises
    ------
    RuntimeError
        If something must be compiled and NUMBA_DISABLE_JIT is set, or if no file can be written that later processes would load.

    Examples
    --------
    >>> import fastrnn
    >>> fastrnn.compile()
    """
    provide(everything(), progress, in_files=True)


def without_file(wanted: Sequence[Wanted]) -> list[Wanted]:
    """Load operations, and return those that have no good file, even if they were loaded before."""
    return [one for one in wanted if not load(one)]


def not_found(wanted: Sequence[Wanted]) -> list[Wanted]:
    """Load operations that aren't loaded yet, and return those that have no good file."""
    return without_file([one for one in wanted if one not in loaded.addresses])


def load(wanted: Wanted) -> bool:
    """Load an operation from the first good file. Return whether there is one."""
    goal = target()
    for directory, origin in places(goal):
        path = directory / file_name(wanted, goal)
        try:
            # whoever installed a wheel may own its files: this process runs that user's Python source anyway
            content = storage.read(path, by_anybody=origin == "wheel")
        except OSError:
            continue
        except storage.Refused as reason:
            log.warning("%s is not used: %s", path, reason)
            continue
        if load_content(wanted, content, origin):
            return True
        log.warning("%s is not used: it is damaged, or needs what this process does not have", path)
    return False


def load_content(wanted: Wanted, content: bytes, origin: str) -> bool:
    """Load an operation from a file's content. Return whether the checksum is right and the operation is loaded."""
    with loaded.loading:
        whole = checked(content)
        if whole is not None and wanted not in loaded.addresses:
            address = start(whole, symbol(wanted, target()), wanted)
            if address:
                loaded.addresses[wanted], loaded.origins[wanted] = address, origin
    return whole is not None and wanted in loaded.addresses


def call(plan: Any, *arrays: Any) -> None:
    """Run an operation on the arrays' data, without Python's lock. `plan` is an array of words; the first is the operation's address.

    Every argument must be an array; this isn't checked.
    """
    address("call")
    loaded.call(plan, *arrays)


class MethodDefinition(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("method", ctypes.c_void_p), ("flags", ctypes.c_int), ("doc", ctypes.c_char_p)]


def builtin(address: int, name: str) -> Any:
    """Return a Python function that calls the machine code at an address."""
    definition = MethodDefinition(name.encode(), address, FASTCALL, None)
    linking.keep_forever(definition)
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.restype, make.argtypes = ctypes.py_object, [ctypes.POINTER(MethodDefinition), ctypes.py_object, ctypes.c_void_p]
    return make(ctypes.byref(definition), address_of(python_record()), None)


@functools.cache
def python_record() -> Any:
    """Return the record of the addresses and offsets in Python and NumPy that the built-ins use."""
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    functions = (ctypes.c_uint64 * (SET_BASE + 1)).from_address(pointer(NUMPY_API, None))
    texts = {f"text_{name}": ctypes.create_string_buffer(f"{name} takes {right}, got %zd".encode()) for name, right in BUILTINS.items()}
    texts["text_in_use"] = ctypes.create_string_buffer(IN_USE.encode())
    words = PYTHON.filled(
        type_at=data_offset() - ctypes.sizeof(ctypes.c_size_t),
        none=id(None),
        true=id(True),
        false=id(False),
        tuple=id(tuple),
        int=id(int),
        array=id(np.ndarray),
        bool_dtype=id(np.dtype(bool)),
        int64_dtype=id(np.dtype(np.int64)),
        new_array=functions[NEW_FROM_DESCRIPTION],
        set_base=functions[SET_BASE],
        type_error=id(TypeError),
        runtime_error=id(RuntimeError),
        **{name: ctypes.addressof(text) for name, text in texts.items()},
    )
    linking.keep_forever(texts)
    linking.keep_forever(words)
    return words


def data_offset() -> int:
    """Return the offset, in an array object, of the address of its first element."""
    array = np.zeros(1)
    words = (ctypes.c_size_t * (np.ndarray.__basicsize__ // ctypes.sizeof(ctypes.c_size_t))).from_address(id(array))
    return ctypes.sizeof(ctypes.c_size_t) * list(words).index(address_of(array))


def address_of(array: Any) -> int:
    """Return the address of an array's first element. `array.ctypes` imports a module at every use, which fails while Python shuts down."""
    return int(array.__array_interface__["data"][0])


def start(content: bytes, symbol: str, wanted: Wanted) -> int:
    """Put a file's code into memory. Return a symbol's address; 0 if the code lacks it, or the process lacks a symbol for the code."""
    needs, _, code = content.partition(b"\n")
    find = linking.place(code, needs.decode().split())
    if find is None:
        return 0
    address = find(symbol)
    if address and wanted[0] in BUILTINS:
        setattr(loaded, wanted[0], builtin(address, wanted[0]))
    return address


@functools.cache
def host() -> Target:
    """Return this machine's target."""
    with loaded.loading:  # a child forked during an import could never finish it
        return processor.host()


@functools.cache
def compilers_target() -> Target:
    """Return the target by LLVM's names. Raise RuntimeError if its tiles differ from those of `target()`, for which weights are packed."""
    goal = target()
    if goal.is_llvms:
        return goal
    with loaded.loading:
        known = processor.by_llvm()
    if known.shape != goal.shape:
        raise RuntimeError(DISAGREE.format(known.cpu))
    return known


@functools.cache
def target() -> Target:
    """Return the target to load and compile code for.

    It is the best level (a named set of features) that this machine has and the package brings machine code for; else this machine.
    """
    levels = [level for level in LEVELS if (WHEEL / level.level).is_dir()]
    return next((level for level in levels if level.suits(host())), host())


@functools.cache
def shape() -> Shape:
    """Return the shape of the loaded code's tiles, blocks of outputs that fit into the registers."""
    return target().shape


def symbol(wanted: Wanted, goal: Target) -> str:
    """Return the name of the C function in an operation's file."""
    return f"fastrnn_{'_'.join(filter(None, wanted))}_{identity(wanted, goal)}"


def identity(wanted: Wanted, goal: Target) -> str:
    """Return a digest of all that a file depends on: source, platform and target; unless the target is a level, the compiler's version."""
    made_by = goal.level or (llvmlite.__version__, goal.cpu, goal.features)
    key = sources.of_module(OPERATIONS[wanted[0]][0]), tuple(goal.platform), goal.platform.triple, made_by, wanted
    return hashlib.sha256(repr(key).encode()).hexdigest()[:20]


def file_name(wanted: Wanted, goal: Target) -> str:
    return f"{'-'.join(filter(None, wanted))}-{identity(wanted, goal)}.bin"


def checked(content: bytes) -> bytes | None:
    """Return a file's content without its checksum; None if the checksum is wrong."""
    checksum, rest = content[:DIGEST], content[DIGEST:]
    return rest if hashlib.sha256(rest).digest() == checksum else None


def file_content(code: bytes, names: Sequence[str]) -> bytes:
    """Return a file's content: a checksum, the names of the symbols that the code needs, and the code."""
    rest = " ".join(names).encode() + b"\n" + code
    return hashlib.sha256(rest).digest() + rest


def places(goal: Target) -> Iterator[tuple[pathlib.Path, str]]:
    """Yield the directories to search, in order, each with its kind: "wheel" or "cache"."""
    if goal.level:
        yield WHEEL / goal.level, "wheel"
    for directory in caches():
        if is_own(directory):
            yield directory, "cache"


def is_own(directory: pathlib.Path) -> bool:
    """Return whether a directory exists and no other user can put anything into it."""
    try:
        return not storage.directory_risk(directory)
    except OSError:
        return False


def caches() -> Iterator[pathlib.Path]:
    """Yield the directories for code that is compiled on this machine, the preferred one first."""
    if os.environ.get(VARIABLE):
        yield pathlib.Path(os.environ[VARIABLE])
    yield BESIDE
    users = users_cache()
    if users is not None:
        yield users


@functools.cache
def users_cache() -> pathlib.Path | None:
    """Return the directory in the user's cache; None if the user has none. In a container the user may be unknown, and HOME unset."""
    with loaded.loading:  # a child forked during the import could never finish it
        import platformdirs  # not at fastrnn's import, of which it would take a fifth
    try:
        path = platformdirs.user_cache_path("fastrnn")
    except (OSError, RuntimeError, ValueError):  # some version of platformdirs raises each of them on some system
        return None
    return path / "machine_code" if path.is_absolute() else None  # without a home, older versions return "~/.cache"
