"""A recurrent network's forward pass on a CPU, fast and bit-stable: weights in, NumPy arrays out."""

from . import reference
from .functional import rnn_forward
from .layers import RNN, Dense, Sequential

__version__ = "0.1.0"
__all__ = ["RNN", "Dense", "Sequential", "reference", "rnn_forward"]
