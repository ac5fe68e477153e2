"""What the calls of these tables are given: small models, arrays, and banks with rows."""

import numpy as np

from fastrnn import GRU, LSTM, RNN, Bidirectional, Dense, Embedding, Sequential


def ones(*shape, dtype=np.float64):
    return np.ones(shape, dtype)


def frozen(array):
    array.flags.writeable = False
    return array


def banked(model, *, capacity=5, rows=2):
    bank = model.streams(capacity)
    for _ in range(rows):
        bank.add()
    return bank


SINGLE = np.float32
RNN_2_3 = RNN(ones(3, 2), ones(3, 3))
GRU_2_3, LSTM_2_3 = GRU(ones(9, 2), ones(9, 3)), LSTM(ones(12, 2), ones(12, 3))
RNN_3 = RNN(ones(3, 3), ones(3, 3))
MODEL = Sequential(RNN_2_3, Dense(ones(4, 3)))
TWO = Sequential(RNN_2_3, RNN(ones(5, 3), ones(5, 5)))
VECTORS = Sequential(RNN(ones(3, 4), ones(3, 3)), Dense(ones(4, 3), activation="softmax"))
TELLER = Sequential(Embedding.one_hot(4), *VECTORS.layers)
READER = Sequential(Embedding.one_hot(2), *MODEL.layers)
TABLE = Embedding(ones(5, 2))
BOTH = Bidirectional(RNN_2_3, LSTM_2_3)
X, H0 = ones(3, 7, 2), ones(3, 3)
SHARED = np.ones(100)
SECOND = np.timedelta64(1, "s")  # an integer to NumPy, not to us
MASKED = np.ma.masked_less(np.ones((3, 7, 3)), 0)
NEEDS_LATER = "model must hold no Bidirectional for {}: its outputs depend on later steps, too; got {!r}"
