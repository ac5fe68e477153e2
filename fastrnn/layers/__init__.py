"""The layers, and models of layers."""

from .base import Model, Recurrent
from .bidirectional import Bidirectional, Merge
from .dense import Dense
from .embedding import Embedding
from .gated import GRU, LSTM
from .recurrent import RECURRENT
from .rnn import RNN
from .sequential import Sequential

__all__ = ["GRU", "LSTM", "RNN", "Bidirectional", "Dense", "Embedding", "Merge", "Model", "Recurrent", "Sequential"]

# The layers that users make, in the order in which errors list them
LAYERS: tuple[type[Model], ...] = (*RECURRENT, Dense, Embedding, Bidirectional, Sequential)
