"""Threads: how many a call may use, and the pool of worker threads.

Work that takes longer than about 0.3 ms is shared between threads. Of shorter work, calls of vectors without options and steps of streams
and banks are shared if they take 10 us or more and the call before ended less than some 20 us ago: a worker thread spins for that long.
The result has the same bits on any number of threads. What is shared depends on the input:

- a batch: its sequences;
- one sequence: the products that don't depend on the previous state, those of the input and of a `Dense` head;
- one sequence in a layer of 256 units or more: every step, too.

The default is one thread for each processor that the process may use.

>>> import fastrnn
>>> fastrnn.set_num_threads(1)                              # for the whole process: all work stays on the calling thread
>>> fastrnn.get_num_threads()
1

Without a call of `set_num_threads`, the environment decides:

- ``FASTRNN_NUM_THREADS`` is the number of threads.
- Otherwise ``NUMBA_NUM_THREADS`` or ``OMP_NUM_THREADS`` can lower the default. joblib and Dask set them for their workers, so that each
  worker uses its share of the processors.

Several processes on one machine don't know of each other: set ``FASTRNN_NUM_THREADS`` for each.

Any thread may call fastrnn, also in forked and spawned processes.

Workers are threads of the system that run no Python. All states of the pool, of its teams and of its workers, and what changes them:

    pool    empty    a call can use more workers than there are   -> staffed: it starts them; they live as long as the process
            staffed  the process forks                            -> empty in the child, staffed in the parent
    team    free     a call that can use workers takes the team   -> shut; where no team is free, the call works alone
            shut     its leader, who calls, has a piece of work   -> open
            open     no block is left, or all members are inside  -> shut; the leader waits until the workers inside have left
            shut     the call returns or fails                    -> free
    worker  looking  a team is open and wants more workers        -> inside
            inside   the piece has nothing left to do             -> looking
            looking  no team has been open for 1 ms               -> asleep
            asleep   a team opens                                 -> looking

A worker that looks spins for 10 to 40 us, then sleeps for moments between looks. A call of less than 0.3 ms has help only from workers that
spin. If none spins, every MISSES-th such call opens its team all the same. The worker that it wakes comes too late for this call, and spins
when the next one comes. If a worker loses its processor in the middle of a call, other programs need the processors: short calls have no
help for a while.

Nobody waits for a worker that is not inside, and a process ends whatever its workers do: what they look at is never freed.
"""

import contextlib
import ctypes
import os
import signal
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..arguments import Array, as_integer
from ..kernels.layout import HEAD_BYTES, HERE, MOST_WORKERS, POOL, TEAM, TEAM_BYTES, TEAMS, WORKER
from ..native import machine_code
from ..native.processor import processors

VARIABLE = "FASTRNN_NUM_THREADS"
OTHER_VARIABLES = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS")  # joblib, Dask and batch systems set them for what they run
MISSES = 16  # short calls without help before workers are woken for one: they come too late for that one, and are there for the next
LOOKERS, BUSY = POOL.offsets["lookers"], POOL.offsets["busy"]


class Pool:
    """Worker threads, and the teams that they work for: see the states above."""

    started = 0
    words: Array
    free: "list[Team]"
    made: "list[tuple[int, weakref.ref[Team]]]"

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start anew, without a worker. A call that goes on in a forked process has a team of the pool before, where nobody sleeps."""
        if self.started:
            POOL.fill(self.words, sleepers=0)
        self.started = 0
        self.words, self.teams = immortal(POOL.words), immortal(TEAMS * TEAM_BYTES // 8).reshape(TEAMS, -1)
        POOL.fill(self.words, teams=machine_code.address_of(self.teams))
        for team in self.teams:
            TEAM.fill(team, pool=machine_code.address_of(self.words), address=machine_code.address_of(team))
        if not HERE.is_windows:  # zeros are right there
            for name in ("mutex", "condition"):
                place = ctypes.c_void_p(machine_code.address_of(self.words) + 8 * POOL.offsets[name])
                getattr(ctypes.CDLL(None), {"mutex": "pthread_mutex_init", "condition": "pthread_cond_init"}[name])(place, None)
        self.free, self.made, self.missed = [], [], 0
        for index in reversed(range(TEAMS)):  # the first is taken first: workers look at it first
            self.make(index)

    def make(self, index: int) -> None:
        team = Team(self, index)
        self.made.append((index, weakref.ref(team)))
        self.free.append(team)

    def take(self, workers: int) -> "Team | None":
        """Take a team, which so many workers may join when its leader opens the gate; None where as many calls have help as can have."""
        while self.started < min(workers, MOST_WORKERS) and self.start():
            pass
        if not self.free:
            self.take_back_lost()
        try:
            return self.free.pop()
        except IndexError:
            return None

    def take_back_lost(self) -> None:
        """Take back the teams of calls that an interrupt ended before they gave theirs back."""
        for pair in list(self.made):
            if pair[1]() is None:
                with contextlib.suppress(ValueError):  # another thread has taken it back
                    self.made.remove(pair)
                    self.make(pair[0])

    def is_at_hand(self) -> bool:
        """Tell whether a worker spins, who helps at once; now and then say so of one that doesn't, so that the next call finds it spinning.

        Where a worker has lost its processor in the middle of a call, there is no help for a while.
        """
        words = self.words
        if words[BUSY] > 0:
            words[BUSY] -= 1
            return False
        if words[LOOKERS]:
            return True
        self.missed += 1
        return self.missed % MISSES == 0

    def start(self) -> bool:
        """Start a worker, and tell whether the system gave one."""
        words, head, done = immortal(WORKER.words), immortal(HEAD_BYTES // 8), immortal(TEAMS)
        WORKER.fill(words, pool=machine_code.address_of(self.words), head=machine_code.address_of(head), done=machine_code.address_of(done))
        # apart: an interrupt could leave the signals of this thread blocked
        started: bool = machine_code.run_in_thread(start_thread, machine_code.address("work"), machine_code.address_of(words))
        self.started += started
        return started


class Team:
    """A call's right to help. It is given back at the call's end; by no `__del__`, for an interrupt there would be swallowed."""

    def __init__(self, pool: Pool, index: int) -> None:
        self.words, self.free = pool.teams[index], pool.free

    def give_back(self) -> None:
        self.free.append(self)


def immortal(words: int) -> Array:
    """Make zeros that are never freed: a worker may look at them while the process ends."""
    array = np.zeros(words + 8, np.int64)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(array))
    return array[-machine_code.address_of(array) // 8 % 8 :][:words]


def start_thread(function: int, argument: int) -> bool:
    """Have the system start a thread that calls a function at an address; it gets no signals, which are Python's main thread's."""
    if HERE.is_windows:
        kernel: Any = ctypes.windll.kernel32  # type: ignore[attr-defined, unused-ignore]
        kernel.CreateThread.restype = ctypes.c_void_p
        handle = kernel.CreateThread(None, 0, ctypes.c_void_p(function), ctypes.c_void_p(argument), 0, None)
        return bool(handle) and bool(kernel.CloseHandle(ctypes.c_void_p(handle)))
    system, thread = ctypes.CDLL(None), ctypes.c_size_t()
    with no_signals():
        refused = system.pthread_create(ctypes.byref(thread), None, ctypes.c_void_p(function), ctypes.c_void_p(argument))
    return not refused and not system.pthread_detach(thread)


@contextlib.contextmanager
def no_signals() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


pool = Pool()

chosen: int | None = None  # by set_num_threads
found: int | None = None  # in the environment, when it was first asked for


def set_num_threads(n: int) -> None:
    """Set how many threads a call may use, in the whole process.

    Results are the same bits at any number. Work below some 10 us stays on the thread that calls.

    Parameters
    ----------
    n : int
        1 keeps all work on the calling thread. More than the processors at hand gain nothing.

    Raises
    ------
    ValueError
        For anything but an integer from 1 up.

    Examples
    --------
    >>> import fastrnn
    >>> fastrnn.set_num_threads(1)
    >>> fastrnn.get_num_threads()
    1
    """
    global chosen
    chosen = check_thread_count("n", n)


def get_num_threads() -> int:
    """Tell how many threads a call may use.

    Returns
    -------
    int
        What `set_num_threads` set; else what the environment variable FASTRNN_NUM_THREADS says; else the processors that this process
        may use, or fewer where NUMBA_NUM_THREADS or OMP_NUM_THREADS says so, as joblib, Dask and batch systems do. The environment is
        asked once, as are the processors, and anew in a forked process.

    Raises
    ------
    ValueError
        For another value than an integer from 1 up in FASTRNN_NUM_THREADS.

    Examples
    --------
    >>> import fastrnn
    >>> fastrnn.get_num_threads() >= 1
    True
    """
    global found
    if chosen is not None:
        return chosen
    if found is None:
        found = count_found()
    return found


def count_found() -> int:
    """Give the number of threads that the environment asks for."""
    own = os.environ.get(VARIABLE, "").strip()
    if own:
        return check_thread_count(VARIABLE, int(own) if own.isdecimal() else own)
    for variable in OTHER_VARIABLES:
        first = os.environ.get(variable, "").partition(",")[0].strip()  # OMP_NUM_THREADS may go on for nested regions
        if first.isdecimal() and int(first) > 0:
            return min(int(first), processors())
    return processors()


def forget() -> None:
    """Start anew in a forked process."""
    global found
    found = None
    pool.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget)


def check_thread_count(name: str, n: object) -> int:
    count = as_integer(n)
    if count is None or count < 1:
        raise ValueError(f"{name} must be an integer from 1 up, got {n!r}")
    return count
