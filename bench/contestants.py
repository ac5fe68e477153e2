"""A contestant is a library at one number of threads. Where a running process can't change that number, it has its own process."""

import contextlib
import gc
import multiprocessing
import os
import time
from collections.abc import Iterable
from multiprocessing.connection import Connection
from unittest import mock

import numpy as np

from bench.rivals import Way, load
from bench.rows import Task
from fastrnn.native.processor import processors

# Times max(1, max |reference|). A rival has its own tanh, whose errors grow from step to step. A wrong weight or step is off by far more.
AGREEMENT = {"float32": 1e-4, "float64": 1e-10}

TRIAL = 0.005  # seconds of trying a way
WARM_UP = 0.03  # seconds of untimed calls: an idle processor takes 10 to 25 ms to reach its full speed


class Contestant:
    """Prepares a task, then times blocks of calls."""

    def __init__(self, name: str, threads: int) -> None:
        self.name, self.threads, self.library = name, threads, load(name)
        self.dtypes, self.cells = self.library.dtypes, self.library.cells

    def prepare(self, task: Task) -> tuple[str, float]:
        """Check the result of every way and keep the fastest way. Return its name and its seconds a call."""
        self.dtype, tried = str(task.W.dtype), []
        with self.running():
            for way in self.library.ways(task, self.threads):
                check(way, task)
                seconds = time_calls(way, 1)
                calls = max(1, int(TRIAL / seconds))
                tried.append((min(time_calls(way, calls) for _ in range(3 if seconds < 0.1 else 1)), way))
        seconds, self.way = min(tried, key=lambda pair: pair[0])
        return self.way.name, seconds

    def running(self) -> contextlib.AbstractContextManager:
        return self.library.running(self.threads, self.dtype)

    def time(self, calls: int, warm_up: bool) -> float:
        """Seconds a call, the mean over a block of calls."""
        with self.running():
            return time_warm(self.way, calls) if warm_up else time_calls(self.way, calls)

    def forget(self) -> None:
        del self.way

    def close(self) -> None:
        pass


def check(way: Way, task: Task) -> None:
    """Compare a result with the reference. Single steps are compared one by one."""
    actual = np.stack([way.read(way.call()) for _ in task.expected]) if task.single else way.read(way.call())
    if actual.dtype != task.W.dtype:
        raise TypeError(f"{way.name} gives {actual.dtype}")
    error = np.abs(actual.reshape(task.expected.shape) - task.expected).max(initial=0.0)
    limit = AGREEMENT[str(task.W.dtype)] * max(1.0, np.abs(task.expected).max(initial=0.0))
    if not error <= limit:
        raise ValueError(f"{way.name} is off by {error:.1e}")


def time_warm(way: Way, calls: int) -> float:
    start = time.perf_counter()
    while time.perf_counter() - start < WARM_UP:
        way.call()
    return time_calls(way, calls)


def time_calls(way: Way, calls: int) -> float:
    """Seconds a call, the mean over a block of calls."""
    call, repeats = way.call, range(calls)
    enabled = gc.isenabled()
    gc.disable()
    try:
        start = time.perf_counter()
        for _ in repeats:
            call()
        return (time.perf_counter() - start) / calls
    finally:
        if enabled:
            gc.enable()


class Remote:
    """A contestant in its own process."""

    def __init__(self, name: str, threads: int, variable: tuple[str, str]) -> None:
        self.name, self.threads, self.dtypes, self.cells = name, threads, load(name).dtypes, load(name).cells
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, name, threads), daemon=True)
        with mock.patch.dict(os.environ, [variable]):
            self.process.start()

    def ask(self, method, *arguments):
        self.connection.send((method, arguments))
        result, error = self.connection.recv()
        if error is not None:
            raise RuntimeError(error)
        return result

    def prepare(self, task: Task) -> tuple[str, float]:
        return self.ask("prepare", task)

    def time(self, calls: int, warm_up: bool) -> float:
        return self.ask("time", calls, warm_up)

    def forget(self) -> None:
        self.ask("forget")

    def close(self) -> None:
        self.connection.close()
        self.process.join()


def serve(connection: Connection, name: str, threads: int) -> None:
    contestant = Contestant(name, threads)
    with contextlib.suppress(EOFError):
        while True:
            method, arguments = connection.recv()
            try:
                answer = getattr(contestant, method)(*arguments), None
            except Exception as error:
                answer = None, f"{type(error).__name__}: {error}"
            connection.send(answer)


def enter(names: Iterable[str]) -> tuple[list[Contestant | Remote], list[str]]:
    """Make contestants of every library on one thread and on all. Return them, and the libraries that aren't installed."""
    entered: list[Contestant | Remote] = []
    missing = []
    for name in names:
        try:
            library = load(name)
        except ModuleNotFoundError:
            missing.append(name)
            continue
        for threads in sorted({1, processors()}):
            if library.environment and threads < processors():
                entered.append(Remote(name, threads, library.environment))
            else:
                entered.append(Contestant(name, threads))
    return entered, missing
