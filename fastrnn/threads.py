"""Threads: how many a call may use, and the pool of worker threads.

Work that takes longer than about 0.3 ms is shared between threads. Shorter work stays on the calling thread. The result has the same bits
on any number of threads. What is shared depends on the input:

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
"""

import concurrent.futures
import contextlib
import functools
import os
import pathlib
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from .arguments import check_thread_count

VARIABLE = "FASTRNN_NUM_THREADS"
OTHER_VARIABLES = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS")  # joblib, Dask and batch systems set them for what they run
QUOTA = pathlib.Path("/sys/fs/cgroup/cpu.max")  # of processor time, in Linux containers


class Pool:
    """Threads that are started when they are first needed, and again in a forked process, which has none of its parent's."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.lock = threading.RLock()  # a signal's handler may call within a call
        self.executor: concurrent.futures.ThreadPoolExecutor | None = None
        self.size, self.serving, self.asking = 0, 0, False
        self.asked: list[Callable[[], None]] = []
        self.taken: list[Callable[[], None]] = []
        self.bell = np.zeros(1, np.int64)

    def ask(self, helpers: int, function: Callable[..., None], *arguments: Any) -> Callable[[], None]:
        """Have other threads call the function, where they are busy later or never; what is returned is to be withdrawn in the end.

        Its last argument is how often the bell has been rung then: at the next ring somebody asks for help again.
        """
        with self.lock:
            self.bell[0] += 1
            call = functools.partial(function, *arguments, int(self.bell[0]))
            if not self.asking:  # else this is a signal's handler, and whom it interrupts has locked the executor
                self.asking = True
                self.asked += [call] * helpers
                try:
                    self.start(helpers - (self.serving - len(self.taken)), helpers)
                finally:
                    self.asking = False
        return call

    def start(self, threads: int, size: int) -> None:
        """Have so many threads serve, of as many as `size` at least."""
        with contextlib.suppress(RuntimeError):  # the interpreter shuts down, or the system gives no more threads
            if self.executor is None or self.size < size:
                if self.executor is not None:
                    self.executor.shutdown(wait=False)
                self.executor, self.size = concurrent.futures.ThreadPoolExecutor(size, "fastrnn"), size
            for _ in range(threads):
                self.executor.submit(self.serve)

    def withdraw(self, call: Callable[[], None]) -> None:
        """Keep no more of what nobody came for; who came is free again."""
        with self.lock:
            self.asked = [other for other in self.asked if other is not call]
            self.taken = [other for other in self.taken if other is not call]

    def give_back(self, call: Callable[[], None]) -> None:
        """Be free again even where nobody withdraws the call, because it was interrupted while it asked."""
        with self.lock:
            if call in self.taken:
                self.taken.remove(call)

    def serve(self) -> None:
        """Call what was asked for, and begin no other call after a second.

        At its end the interpreter waits for this thread, and daemon threads may go on asking.
        """
        end = time.monotonic() + 1
        with self.lock:
            self.serving += 1
        try:
            while time.monotonic() < end:
                with self.lock:
                    if not self.asked:
                        break
                    call = self.asked.pop(0)
                    self.taken.append(call)
                try:
                    call()
                finally:
                    self.give_back(call)
                    del call
        finally:
            with self.lock:
                self.serving -= 1
                if self.asked:
                    self.start(1, 1)


pool = Pool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=pool.forget)

chosen: int | None = None


def set_num_threads(n: int) -> None:
    """Set how many threads a call may use, in the whole process.

    Results are the same bits at any number. Small work stays on the thread that calls.

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
        may use, or fewer where NUMBA_NUM_THREADS or OMP_NUM_THREADS says so, as joblib, Dask and batch systems do.

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
    if chosen is not None:
        return chosen
    own = os.environ.get(VARIABLE, "").strip()
    if own:
        return check_thread_count(VARIABLE, int(own) if own.isdecimal() else own)
    for variable in OTHER_VARIABLES:
        first = os.environ.get(variable, "").partition(",")[0].strip()  # OMP_NUM_THREADS may go on for nested regions
        if first.isdecimal() and int(first) > 0:
            return min(int(first), processors())
    return processors()


def processors() -> int:
    """How many processors this process may use."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(count, quota())


@functools.cache
def quota() -> int:
    """How many processors' time a container may use, rounded up; a large number where there is no limit."""
    try:
        time, period = QUOTA.read_text(encoding="ascii").split()
        return -(-int(time) // int(period))
    except (OSError, ValueError):  # no container, or "max"
        return 1 << 16
