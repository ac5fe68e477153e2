"""A library at one number of threads: in this process, or where its threads are counted at the start of a process, in one of its own."""

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
from fastrnn.threads import processors

# Times max(1, max |reference|). Wide enough for rivals' own tanh, whose errors steps carry on; a wrong weight or step is off by far more.
AGREEMENT = {"float32": 1e-4, "float64": 1e-10}

TRIAL = 0.005  # seconds a way is tried for
WARM_UP = 0.03  # seconds of calls that don't count: a processor that was idle takes 10 to 25 ms to be as fast as it can


class Contestant:
    """Prepared for a task, and then timed by the block of calls."""

    def __init__(self, name: str, threads: int) -> None:
        self.name, self.threads, self.library = name, threads, load(name)
        self.dtypes = self.library.dtypes

    def prepare(self, task: Task) -> tuple[str, float]:
        """Check every way's result, keep the fastest, and give its name and the seconds a call takes."""
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
        """Seconds a call, in a block of so many."""
        with self.running():
            start = time.perf_counter()
            while warm_up and time.perf_counter() - start < WARM_UP:
                self.way.call()
            return time_calls(self.way, calls)

    def forget(self) -> None:
        del self.way

    def close(self) -> None:
        pass


def check(way: Way, task: Task) -> None:
    """Compare a result with the reference; of single steps, the first of them one by one."""
    actual = np.stack([way.read(way.call()) for _ in task.expected]) if task.single else way.read(way.call())
    if actual.dtype != task.W.dtype:
        raise TypeError(f"{way.name} gives {actual.dtype}")
    error = np.abs(actual.reshape(task.expected.shape) - task.expected).max(initial=0.0)
    limit = AGREEMENT[str(task.W.dtype)] * max(1.0, np.abs(task.expected).max(initial=0.0))
    if not error <= limit:
        raise ValueError(f"{way.name} is off by {error:.1e}")


def time_calls(way: Way, calls: int) -> float:
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
    """A contestant in a process of its own."""

    def __init__(self, name: str, threads: int, variable: tuple[str, str]) -> None:
        self.name, self.threads, self.dtypes = name, threads, load(name).dtypes
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
    """Every library at one thread and at all; and the names of those that aren't installed."""
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
