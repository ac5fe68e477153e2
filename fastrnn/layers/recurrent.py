"""The list of layers that have a cell, for `Bidirectional`, files and error texts. Add a new layer here."""

from .base import Recurrent
from .gated import GRU, LSTM
from .rnn import RNN

RECURRENT: tuple[type[Recurrent], ...] = (RNN, GRU, LSTM)
