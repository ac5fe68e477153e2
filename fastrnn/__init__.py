"""A recurrent network's forward pass on a CPU, fast and bit-stable: weights in, NumPy arrays out."""

import importlib
import sys
from typing import TYPE_CHECKING, Any

from . import reference
from .banks import Bank
from .bidirectional import Bidirectional
from .functional import rnn_forward
from .gated import GRU, LSTM
from .layers import RNN, Dense, Embedding, Model, Sequential
from .native import compile
from .sequences import generate, log_likelihood, pad, unpad
from .streaming import Stream
from .threads import get_num_threads, set_num_threads

if TYPE_CHECKING:
    from .loading.files import load, save
    from .loading.keras import from_keras
    from .loading.onnx import from_onnx
    from .loading.pytorch import from_state_dict, from_torch

if "numba" in sys.modules:  # else Numba registers them at its start
    from . import overloads  # noqa: F401

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


def __getattr__(name: str) -> Any:
    """Import a loader when it is asked for: all of them take a quarter of the package's time to import."""
    if name not in LOADERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    loader = getattr(importlib.import_module(f".loading.{LOADERS[name]}", __name__), name)
    globals()[name] = loader
    return loader


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
