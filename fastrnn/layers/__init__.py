"""The layers, and models of layers."""

from .base import RNN, Dense, Embedding, Model, Recurrent, Sequential
from .bidirectional import Bidirectional, Merge
from .gated import GRU, LSTM

__all__ = ["GRU", "LSTM", "RNN", "Bidirectional", "Dense", "Embedding", "Merge", "Model", "Recurrent", "Sequential"]
