"""A recurrent network's forward pass on a CPU, fast and bit-stable: weights in, NumPy arrays out."""

import importlib
import importlib.util
import sys
from typing import TYPE_CHECKING, Any

from . import reference
from .banks import Bank
from .engine.threads import get_num_threads, set_num_threads
from .functional import rnn_forward
from .layers import GRU, LSTM, RNN, Bidirectional, Dense, Embedding, Model, Sequential
from .native.machine_code import compile
from .sequences import generate, log_likelihood, pad, unpad
from .streaming import Stream

if TYPE_CHECKING:
    from . import dask as dask
    from . import jit as jit
    from . import sklearn as sklearn
    from .loading.files import load, save
    from .loading.keras import from_keras
    from .loading.onnx import from_onnx
    from .loading.pytorch import from_state_dict, from_torch

if "numba" in sys.modules:  # otherwise Numba imports them when it starts, through an entry point
    from . import overloads  # noqa: F401

Model._stream_class, Model._bank_class = Stream, Bank  # of its methods `stream` and `streams`

__version__ = "0.1.0"
__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Bank",
    "Bidirectional",
    "Dense",
    "Embedding",
    "Model",
    "Sequential",
    "Stream",
    "compile",
    "from_keras",
    "from_onnx",
    "from_state_dict",
    "from_torch",
    "generate",
    "get_num_threads",
    "load",
    "log_likelihood",
    "pad",
    "reference",
    "rnn_forward",
    "save",
    "set_num_threads",
    "unpad",
]

LOADERS = {
    "from_keras": "keras",
    "from_onnx": "onnx",
    "from_state_dict": "pytorch",
    "from_torch": "pytorch",
    "load": "files",
    "save": "files",
}

MODULES = {"dask": "dask", "jit": "numba", "sklearn": "sklearn"}  # each imports another package, which `import fastrnn` does not wait for


def __getattr__(name: str) -> Any:
    """Import a loader, or a module for another library, at its first use: all of them would take much of the package's import time."""
    if name in MODULES:
        return importlib.import_module(f".{name}", __name__)
    if name not in LOADERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    loader = getattr(importlib.import_module(f".loading.{LOADERS[name]}", __name__), name)
    globals()[name] = loader
    return loader


def __dir__() -> list[str]:
    found = [name for name, package in MODULES.items() if importlib.util.find_spec(package) is not None]
    return sorted({*globals(), *__all__, *found})
