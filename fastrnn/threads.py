"""How many threads a call may use, and the pool of those that help."""

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
        self.size, self.serving = 0, 0
        self.asked: list[Callable[[int], None]] = []
        self.bell = np.zeros(1, np.int64)

    def ask(self, helpers: int, function: Callable[..., None], *arguments: Any) -> Callable[[int], None]:
        """Have the function called in other threads; where they are busy, later, or never. What is returned can be withdrawn.

        Its last argument is how often the bell has been rung: rung once more, somebody asks again.
        """
        call = functools.partial(function, *arguments)
        with contextlib.suppress(RuntimeError), self.lock:  # the interpreter shuts down, or the system gives no more threads
            if self.executor is None or self.size < helpers:
                if self.executor is not None:
                    self.executor.shutdown(wait=False)
                self.executor, self.size = concurrent.futures.ThreadPoolExecutor(helpers, "fastrnn"), helpers
            for _ in range(helpers - self.serving):
                self.executor.submit(self.serve)
            self.asked += [call] * helpers
            self.bell[0] += 1
        return call

    def withdraw(self, call: Callable[[int], None]) -> None:
        """Keep no more of what nobody came for."""
        with self.lock:
            self.asked = [other for other in self.asked if other is not call]

    def serve(self) -> None:
        """Call what was asked for, for a second: at its end the interpreter waits for this thread, and daemon threads may go on asking."""
        end = time.monotonic() + 1
        with self.lock:
            self.serving += 1
        try:
            while time.monotonic() < end:
                with self.lock:
                    if not self.asked:
                        break
                    call, rung = self.asked.pop(0), int(self.bell[0])
                call(rung)
                del call
        finally:
            with contextlib.suppress(RuntimeError), self.lock:  # as in `ask`
                self.serving -= 1
                if self.asked and self.executor is not None:
                    self.executor.submit(self.serve)


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
