"""A recurrent network's forward pass on a CPU, fast and bit-stable: weights in, NumPy arrays out."""

import sys

from . import reference
from .banks import Bank
from .bidirectional import Bidirectional
from .functional import rnn_forward
from .gated import GRU, LSTM
from .layers import RNN, Dense, Embedding, Model, Sequential
from .loading.files import load, save
from .loading.keras import from_keras
from .loading.onnx import from_onnx
from .loading.pytorch import from_state_dict, from_torch
from .native import compile
from .sequences import generate, log_likelihood, pad, unpad
from .streaming import Stream
from .threads import get_num_threads, set_num_threads

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
