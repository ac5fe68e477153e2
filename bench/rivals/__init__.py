"""The compared implementations, one module for each library. A library offers its best ways to do a task; the fastest way counts."""

import importlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from bench.rows import Task

MODULES = {
    "notebook loop": "loops",
    "NumPy": "hoisted",
    "PyTorch": "pytorch",
    "ONNX Runtime": "onnx_runtime",
    "OpenVINO": "open_vino",
    "JAX": "xla",
    "reservoirpy": "reservoir",
    "fastrnn": "ours",
}
DISTRIBUTIONS = {
    "NumPy": "numpy",
    "PyTorch": "torch",
    "ONNX Runtime": "onnxruntime",
    "OpenVINO": "openvino",
    "JAX": "jax",
    "reservoirpy": "reservoirpy",
    "fastrnn": "fastrnn",
}


@dataclass(frozen=True)
class Way:
    """A call that does a task, and an untimed function that turns its result into an array."""

    name: str
    call: Callable[[], Any]
    read: Callable[[Any], np.ndarray]


class Library(Protocol):
    """The interface of a library. Each module of this package has one, under the name `library`."""

    dtypes: tuple[str, ...]
    cells: tuple[str, ...] = ("RNN", "GRU", "LSTM")
    environment: tuple[str, str] | None = None  # the variable for one thread, if only a process's start decides it

    def running(self, threads: int, dtype: str) -> AbstractContextManager[Any]:
        """Make a context that sets the number of threads. Ways are prepared and called inside it."""
        return nullcontext()

    def ways(self, task: Task, threads: int) -> Iterator[Way]: ...


def load(name: str) -> Library:
    """Import a library. Raise ModuleNotFoundError if it isn't installed."""
    return importlib.import_module(f"{__name__}.{MODULES[name]}").library


def time_major(result: Any) -> np.ndarray:
    """Turn (T, N, O) into (N, T, O). (T, O) stays as it is."""
    return np.array(result).swapaxes(0, -2)
