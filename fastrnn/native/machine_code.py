"""Operations as machine code: found on disk or compiled, checked, loaded, and called.

A file holds one operation for one target. It is looked for in the package (a wheel may bring machine code), in FASTRNN_CACHE_DIR, beside
the package, and in the user's cache directory; what is compiled goes to the first of the last three that can be written. A file is loaded
only where nothing can go wrong: no other user could have written it, its checksum is right, this processor has every feature, and all
symbols that it needs are there. Other files are compiled anew.

Compiling happens in child processes, so that no program that uses fastrnn imports Numba, except where no child can be had.
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
BESIDE = PACKAGE / "compiled_code"  # not in __pycache__, which those who build images delete
VARIABLE = "FASTRNN_CACHE_DIR"
DTYPES = ("float32", "float64")
NAMES = dict(zip("fd", DTYPES, strict=True))  # by the characters that NumPy has for them
DIGEST = hashlib.sha256().digest_size
FASTCALL = 0x80  # METH_FASTCALL
BUILTINS = {  # what each takes
    "call": f"from 1 to {ARGUMENTS.words} arrays",
    "at_once": "6 arguments",
    "advance": f"{ADVANCE.words} arguments",
    "advance_rows": f"{ADVANCE_ROWS.words} arguments",
    "hold": "2 arguments or more",
}
# NumPy's table of functions of C, imported here because imports fail while Python shuts down, and the indices of PyArray_NewFromDescr and
# PyArray_SetBaseObject, which its binary interface fixes
NUMPY_API = importlib.import_module("numpy._core._multiarray_umath")._ARRAY_API
NEW_FROM_DESCRIPTION, SET_BASE = 94, 282
DISAGREE = f"LLVM and the processor say differently what it has; set {processor.CPU_NAME} to {{}}, as LLVM names it"
TOO_LATE = "fastrnn can't make machine code while Python shuts down; make it before: python -m fastrnn compile"

Wanted = tuple[str, str]  # an operation and its dtype, "" where it has none
Progress = Callable[[int, int], None]  # takes how many operations are done, and how many there are to compile


class Kept:
    """What must live as long as the process."""

    lock: int | None = None  # the open file whose lock says that this process compiles, or waits to

    def __init__(self) -> None:
        self.forget_locks()
        self.addresses: dict[Wanted, int] = {}
        self.told = False  # whether this process has logged that it compiles
        self.warned: set[str] = set()  # and what it has warned of
        self.origins: dict[Wanted, str] = {}
        self.call: Any = None  # the built-ins
        self.at_once: Any = None
        self.advance: Any = None
        self.advance_rows: Any = None
        self.hold: Any = None

    def forget_locks(self) -> None:
        self.loading = threading.RLock()  # around llvmlite's own lock, and while the process forks: that lock is free in the child
        self.compiling = threading.RLock()
        if self.lock is not None:  # a forked process has no part in its parent's lock, and waits for what that makes
            os.close(self.lock)
            self.lock = None


kept = Kept()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: kept.loading.acquire(), after_in_parent=lambda: kept.loading.release(), after_in_child=kept.forget_locks
    )


def provide(wanted: Iterable[Wanted], progress: Progress | None = None, *, in_files: bool = False) -> None:
    """Load operations, and compile together what isn't found of them; with in_files=True also what is loaded but in no file."""
    absent = [one for one in wanted if in_files or one not in kept.addresses]
    if absent and sys.is_finalizing():
        load_at_the_end(absent)
        return
    missing = absent and apart(without_file if in_files else not_found, absent)
    if missing:
        compiling = apart(import_compiling)
        with kept.compiling:
            compiling.compile_missing([one for one in missing if in_files or one not in kept.addresses], progress, in_files=in_files)


def load_at_the_end(wanted: Iterable[Wanted]) -> None:
    """Load operations while Python shuts down. No other thread goes on then, not even to release a lock or to compile."""
    free = kept.loading.acquire(blocking=False)
    if free:
        kept.loading.release()
    try:
        loaded = free and all(load(one) for one in wanted)
    except ImportError:  # of what tells the user's directory, or of LLVM
        loaded = False
    if not loaded:
        raise RuntimeError(TOO_LATE)


def import_compiling() -> Any:
    with kept.loading:  # in a process forked meanwhile the module would count as being imported, for ever
        return importlib.import_module(f"{__package__}.compiling")


def addresses(operations: Iterable[str], dtype: str) -> dict[str, int]:
    """Give the addresses of operations' machine code for a dtype, compiled where it isn't there."""
    wanted = {operation: (operation, dtype if OPERATIONS[operation][1] else "") for operation in operations}
    provide(wanted.values())
    return {operation: kept.addresses[one] for operation, one in wanted.items()}


def apart(function: Callable[..., Any], *arguments: Any, to_its_end: bool = False, waiting: bool = True) -> Any:
    """Call a function in a thread of its own: there neither Ctrl-C nor a signal's handler that calls fastrnn finds it half done.

    So all that holds the lock `loading` goes on while a handler waits for that lock. Interrupted, llvmlite frees what it has freed, and so
    do Thread and Future with locks: this waits for a plain one; with to_its_end=True an interrupt is passed on when the function has ended.
    With waiting=False the thread is started and left alone, and None is returned.
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
        if to_its_end and not (answers or errors):  # the interrupt may come when this thread has the lock
            over.acquire()
        raise
    if errors:
        raise errors[0]
    return answers[0]


@functools.cache
def all_addresses(operations: tuple[str, ...], dtype: str) -> dict[str, int]:
    """The same, remembered; the dtype is given by its character, which NumPy tells sooner than its name."""
    return addresses(operations, NAMES[dtype])


def name_of(dtype: np.dtype[Any]) -> str:
    """Name a dtype; its own `name` imports a module at every use, which fails while Python shuts down."""
    return NAMES[dtype.char]


def address(operation: str, dtype: str = "") -> int:
    return addresses([operation], dtype)[operation]


def everything() -> list[Wanted]:
    """List all operations, in both dtypes where they have one."""
    return [(operation, dtype) for operation, (_, typed) in OPERATIONS.items() for dtype in (DTYPES if typed else ("",))]


def compile(progress: Progress | None = None) -> None:
    """Make all machine code that is missing for this machine, and keep it for later processes.

    For container images, and for clusters before their workers start: afterwards no process compiles. `python -m fastrnn compile` does
    the same and shows how far it is.

    Parameters
    ----------
    progress : callable, optional
        Called now and then with how many operations are done and how many there are to compile.

    Raises
    ------
    RuntimeError
        Where something must be compiled and NUMBA_DISABLE_JIT is set, or no file can be written that later processes would load.

    Examples
    --------
    >>> import fastrnn
    >>> fastrnn.compile()
    """
    provide(everything(), progress, in_files=True)


def without_file(wanted: Sequence[Wanted]) -> list[Wanted]:
    """Load operations, and list those that there is no good file of, whether they were loaded before or not."""
    return [one for one in wanted if not load(one)]


def not_found(wanted: Sequence[Wanted]) -> list[Wanted]:
    """Load operations, and list those that there is no good file of."""
    return without_file([one for one in wanted if one not in kept.addresses])


def load(wanted: Wanted) -> bool:
    """Load an operation from the first good file, and tell whether there was one."""
    goal = target()
    for directory, origin in places(goal):
        path = directory / file_name(wanted, goal)
        try:
            # a wheel's files belong to whoever installed it, and so does the package's source, which this process runs anyway
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
    """Load a file's content where that can't go wrong, and tell whether it did."""
    with kept.loading:
        whole = checked(content)
        if whole is not None and wanted not in kept.addresses:
            address = start(whole, symbol(wanted, target()), wanted)
            if address:
                kept.addresses[wanted], kept.origins[wanted] = address, origin
    return whole is not None and wanted in kept.addresses


def call(plan: Any, *arrays: Any) -> None:
    """Run the operation whose address is the plan's first word, on the arrays' data. Python's lock is released meanwhile.

    Every argument must be an array, which nothing checks.
    """
    address("call")
    kept.call(plan, *arrays)


class MethodDefinition(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("method", ctypes.c_void_p), ("flags", ctypes.c_int), ("doc", ctypes.c_char_p)]


def builtin(address: int, name: str) -> Any:
    definition = MethodDefinition(name.encode(), address, FASTCALL, None)
    linking.keep_forever(definition)
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.restype, make.argtypes = ctypes.py_object, [ctypes.POINTER(MethodDefinition), ctypes.py_object, ctypes.c_void_p]
    return make(ctypes.byref(definition), address_of(python_record()), None)


@functools.cache
def python_record() -> Any:
    """Give the record of what the built-ins know of Python and NumPy."""
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
    """Tell where an array object holds the address of its first element."""
    array = np.zeros(1)
    words = (ctypes.c_size_t * (np.ndarray.__basicsize__ // ctypes.sizeof(ctypes.c_size_t))).from_address(id(array))
    return ctypes.sizeof(ctypes.c_size_t) * list(words).index(address_of(array))


def address_of(array: Any) -> int:
    """Tell where an array's first element is; array.ctypes imports a module at every use, which fails while Python shuts down."""
    return int(array.__array_interface__["data"][0])


def start(content: bytes, symbol: str, wanted: Wanted) -> int:
    """Put a file's code into memory, and give the symbol's address, 0 where that can't be or the code is another operation's."""
    needs, _, code = content.partition(b"\n")
    find = linking.place(code, needs.decode().split())
    if find is None:
        return 0
    address = find(symbol)
    if address and wanted[0] in BUILTINS:
        setattr(kept, wanted[0], builtin(address, wanted[0]))
    return address


@functools.cache
def host() -> Target:
    with kept.loading:  # in a process forked meanwhile a module would count as being imported, for ever
        return processor.host()


@functools.cache
def compilers_target() -> Target:
    """Give the target in LLVM's words, which has the same tiles: weights are packed for these."""
    goal = target()
    if goal.is_llvms:
        return goal
    with kept.loading:
        known = processor.by_llvm()
    if known.shape != goal.shape:
        raise RuntimeError(DISAGREE.format(known.cpu))
    return known


@functools.cache
def target() -> Target:
    """Choose what to load and compile for: the best level that the package brings machine code for and the machine has, or the machine."""
    levels = [level for level in LEVELS if (WHEEL / level.level).is_dir()]
    return next((level for level in levels if level.suits(host())), host())


@functools.cache
def shape() -> Shape:
    """Give the shape of the tiles in the code that is loaded."""
    return target().shape


def symbol(wanted: Wanted, goal: Target) -> str:
    return f"fastrnn_{'_'.join(filter(None, wanted))}_{identity(wanted, goal)}"


def identity(wanted: Wanted, goal: Target) -> str:
    """Digest what makes a file another file: source, platform and target, and for what is compiled here the compiler."""
    made_by = goal.level or (llvmlite.__version__, goal.cpu, goal.features)
    key = sources.of_module(OPERATIONS[wanted[0]][0]), tuple(goal.platform), goal.platform.triple, made_by, wanted
    return hashlib.sha256(repr(key).encode()).hexdigest()[:20]


def file_name(wanted: Wanted, goal: Target) -> str:
    return f"{'-'.join(filter(None, wanted))}-{identity(wanted, goal)}.bin"


def checked(content: bytes) -> bytes | None:
    """Give what is in a file, if it is whole."""
    checksum, rest = content[:DIGEST], content[DIGEST:]
    return rest if hashlib.sha256(rest).digest() == checksum else None


def file_content(code: bytes, names: Sequence[str]) -> bytes:
    rest = " ".join(names).encode() + b"\n" + code
    return hashlib.sha256(rest).digest() + rest


def places(goal: Target) -> Iterator[tuple[pathlib.Path, str]]:
    """Give the directories to look into, one after the other, each with the word that says what it is."""
    if goal.level:
        yield WHEEL / goal.level, "wheel"
    for directory in caches():
        if is_own(directory):
            yield directory, "cache"


def is_own(directory: pathlib.Path) -> bool:
    """Tell whether a directory is there and no other user can put anything into it."""
    try:
        return not storage.directory_risk(directory)
    except OSError:
        return False


def caches() -> Iterator[pathlib.Path]:
    """Give the directories for what is compiled here, in the order of preference."""
    if os.environ.get(VARIABLE):
        yield pathlib.Path(os.environ[VARIABLE])
    yield BESIDE
    users = users_cache()
    if users is not None:
        yield users


@functools.cache
def users_cache() -> pathlib.Path | None:
    """Return the directory in the user's cache, None where the user has none: in containers the user may be unknown, and HOME unset."""
    with kept.loading:  # in a process forked meanwhile the module would count as being imported, for ever
        import platformdirs  # takes a fifth of the time in which fastrnn is imported
    try:
        path = platformdirs.user_cache_path("fastrnn")
    except (OSError, RuntimeError, ValueError):  # each is raised on some system, by some version
        return None
    return path / "machine_code" if path.is_absolute() else None  # older versions give "~/.cache" then
