"""Threads: how many a call may use, and the pool of worker threads.

Work that takes longer than about 0.3 ms is shared between threads. Shorter work is shared only in calls on vectors without options, and in
steps of streams and banks. It must take 10 us or more, and the call before it must have ended less than some 20 us ago: a worker thread
spins for that long. The result has the same bits on any number of threads. What is shared depends on the input:

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

Workers are threads of the system that run no Python. They help a call in a team, which has a gate: workers join while it is open. These
are all states of the pool, of its teams and of its workers, and what changes them:

    pool    empty    a call can use more workers than there are   -> staffed: it starts them; they live as long as the process
            staffed  the process forks                            -> empty in the child, staffed in the parent
    team    free     a call that can use workers takes the team   -> shut; if no team is free, the call gets no help
            shut     the leader (the calling thread) has work     -> open
            open     no block is left, or all members are inside  -> shut; the leader waits until the workers inside have left
            shut     the call returns or fails                    -> free
    worker  looking  a team is open and wants more workers        -> inside
            inside   nothing is left to do                        -> looking
            looking  no team has been open for 1 ms               -> asleep
            asleep   a team opens                                 -> looking

A worker that looks spins for 10 to 40 us, then sleeps briefly between looks. A call of less than 0.3 ms gets help only from workers that
spin. If none spins, every MISSES-th such call opens its team all the same. The worker that it wakes comes too late for this call, and spins
when the next one comes. If a worker is preempted in the middle of a call, other programs need the processors: short calls get no help for a
while.

If threads share every step, the gate shuts before the first step, and the members wait for each other at barriers. A barrier works by
generation counters. Each member counts the barriers that it has reached, writes its count to a cache line of its own, and waits until no
other member's count is lower. If the leader waits long, a worker has been preempted: after the next barrier the workers leave, and the
leader goes on alone.

Nobody waits for a worker that is not inside. A process can end whatever its workers do, for the memory that they look at is never freed.
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
MISSES = 16  # short calls without a spinning worker, until one wakes a worker: it comes too late for this call, but helps the next
LOOKERS, BUSY = POOL.offsets["lookers"], POOL.offsets["busy"]


class Pool:
    """The worker threads and their teams; the states are listed above."""

    started = 0
    words: Array
    free: "list[Team]"
    made: "list[tuple[int, weakref.ref[Team]]]"

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Reset to a pool without workers. In a forked process, a call may still use a team of the old pool: no worker sleeps there now."""
        if self.started:
            POOL.fill(self.words, sleepers=0)
        self.started = 0
        self.words, self.teams = immortal(POOL.words), immortal(TEAMS * TEAM_BYTES // 8).reshape(TEAMS, -1)
        POOL.fill(self.words, teams=machine_code.address_of(self.teams))
        for team in self.teams:
            TEAM.fill(team, pool=machine_code.address_of(self.words), address=machine_code.address_of(team))
        if not HERE.is_windows:  # there, zeros are the initial state
            for name in ("mutex", "condition"):
                place = ctypes.c_void_p(machine_code.address_of(self.words) + 8 * POOL.offsets[name])
                getattr(ctypes.CDLL(None), {"mutex": "pthread_mutex_init", "condition": "pthread_cond_init"}[name])(place, None)
        self.free, self.made, self.missed = [], [], 0
        for index in reversed(range(TEAMS)):  # the first team is taken first, for workers look at it first
            self.make(index)

    def make(self, index: int) -> None:
        team = Team(self, index)
        self.made.append((index, weakref.ref(team)))
        self.free.append(team)

    def take(self, workers: int) -> "Team | None":
        """Start the workers that are missing. Return a free team, or None if all teams are taken."""
        while self.started < min(workers, MOST_WORKERS) and self.start():
            pass
        if not self.free:
            self.take_back_lost()
        try:
            return self.free.pop()
        except IndexError:
            return None

    def take_back_lost(self) -> None:
        """Replace teams that were never given back, because an interrupt ended their calls."""
        for pair in list(self.made):
            if pair[1]() is None:
                with contextlib.suppress(ValueError):  # another thread has replaced it
                    self.made.remove(pair)
                    self.make(pair[0])

    def is_at_hand(self) -> bool:
        """Return whether a short call should ask for help: if a worker spins, and for every MISSES-th call, to wake one for the next.

        After a worker was preempted in the middle of a call, return False for a while.
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
        """Start a worker. Return whether the system gave a thread."""
        words, head, done = immortal(WORKER.words), immortal(HEAD_BYTES // 8), immortal(TEAMS)
        WORKER.fill(words, pool=machine_code.address_of(self.words), head=machine_code.address_of(head), done=machine_code.address_of(done))
        # in another thread: an interrupt could leave signals blocked in this one
        started: bool = machine_code.run_in_thread(start_thread, machine_code.address("work"), machine_code.address_of(words))
        self.started += started
        return started


class Team:
    """The right of one call to have help from workers. The call gives it back itself: a `__del__` would swallow an interrupt."""

    def __init__(self, pool: Pool, index: int) -> None:
        self.words, self.free = pool.teams[index], pool.free

    def give_back(self) -> None:
        self.free.append(self)


def immortal(words: int) -> Array:
    """Return zeros, aligned to a cache line, that are never freed: a worker may look at them while the process ends."""
    array = np.zeros(words + 8, np.int64)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(array))
    return array[-machine_code.address_of(array) // 8 % 8 :][:words]


def start_thread(function: int, argument: int) -> bool:
    """Start a system thread that calls the function at an address. Return whether it started. Signals are blocked in it."""
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
    """Block all signals in this thread during the block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


pool = Pool()

chosen: int | None = None  # by set_num_threads
found: int | None = None  # from the environment, which is read once


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
    """Return the number of threads that a call may use.

    Returns
    -------
    int
        What `set_num_threads` set; else what the environment variable FASTRNN_NUM_THREADS says; else the processors that this process
        may use, or fewer where NUMBA_NUM_THREADS or OMP_NUM_THREADS says so, as joblib, Dask and batch systems do. The environment and
        the processors are read once, and again in a forked process.

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
    """Return the number of threads that the environment asks for, or else the number of processors."""
    own = os.environ.get(VARIABLE, "").strip()
    if own:
        return check_thread_count(VARIABLE, int(own) if own.isdecimal() else own)
    for variable in OTHER_VARIABLES:
        first = os.environ.get(variable, "").partition(",")[0].strip()  # OMP_NUM_THREADS may go on for nested regions
        if first.isdecimal() and int(first) > 0:
            return min(int(first), processors())
    return processors()


def forget() -> None:
    """Forget the workers, and the number of threads that was found: called in a forked process."""
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
