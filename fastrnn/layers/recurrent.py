"""The layers that have a cell: a new one is named here, for `Bidirectional`, files and error texts."""

from .base import Recurrent
from .gated import GRU, LSTM
from .rnn import RNN

RECURRENT: tuple[type[Recurrent], ...] = (RNN, GRU, LSTM)
