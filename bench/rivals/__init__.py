"""The implementations that are compared, one module a library. Each offers its best ways to do a task; the fastest of them counts."""

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
    "fastrnn": "ours",
}
DISTRIBUTIONS = {
    "NumPy": "numpy",
    "PyTorch": "torch",
    "ONNX Runtime": "onnxruntime",
    "OpenVINO": "openvino",
    "JAX": "jax",
    "fastrnn": "fastrnn",
}


@dataclass(frozen=True)
class Way:
    """A call that does a task, and how its result becomes an array, which is not timed."""

    name: str
    call: Callable[[], Any]
    read: Callable[[Any], np.ndarray]


class Library(Protocol):
    """What a module of this package holds under the name `library`."""

    dtypes: tuple[str, ...]
    environment: tuple[str, str] | None = None  # the variable that gives a process one thread, where that can't be said later

    def running(self, threads: int, dtype: str) -> AbstractContextManager[Any]:
        """Within it, ways are prepared and called."""
        return nullcontext()

    def ways(self, task: Task, threads: int) -> Iterator[Way]: ...


def load(name: str) -> Library:
    """Import a library; ModuleNotFoundError where it isn't installed."""
    return importlib.import_module(f"{__name__}.{MODULES[name]}").library


def time_major(result: Any) -> np.ndarray:
    """Put the batch, where there is one, in front of the steps."""
    return np.array(result).swapaxes(0, -2)
