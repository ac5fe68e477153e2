"""What a new cell takes: a row in the table of cells, its kernel, a class of layers, and a loop in the reference. Nothing else."""

from typing import Any

import numpy as np
import pytest

import fastrnn
from fastrnn import plan, reference
from fastrnn.kernels import layout
from fastrnn.layers import Recurrent, rebuild
from fastrnn.packing import Part

from .cases import DTYPES, assert_close, assert_same_bits, uniform

ROWS = {
    "gru_after": layout.Cell("tests.gru", gates=3, parts=4, kept=1, phases=1),
    "gru_before": layout.Cell("tests.gru", gates=3, parts=4, kept=1, phases=2),
}
every_cell = pytest.mark.parametrize("cell", ROWS)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


class GRU(Recurrent):
    """The class of layers."""

    def __init__(self, cell, weight_ih, weight_hh, bias, bias_hn):
        hidden = len(bias_hn)
        self._set(cell=cell, weights=(weight_ih, weight_hh, bias, bias_hn), hidden_size=hidden, output_size=hidden)
        self._set(input_size=weight_ih.shape[1], dtype=weight_ih.dtype, _network=None)

    def _parts(self):
        weight_ih, weight_hh, bias, bias_hn = self.weights
        bias_hh = np.concatenate([np.zeros(2 * len(bias_hn), self.dtype), bias_hn])
        return [Part(self.cell, weight_ih, weight_hh, bias, "tanh", "sigmoid", bias_hh)]

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild, (GRU, (self.cell, *self.weights), {})


def gru(layer, x, h, lengths=None):
    """The loop in the reference."""
    weight_ih, weight_hh, bias, bias_hn = (array.astype(np.float64) for array in layer.weights)
    outputs, h = [], h.astype(np.float64)
    for t in range(x.shape[-2]):
        x_r, x_z, x_n = np.split(x[..., t, :] @ weight_ih.T + bias, 3, axis=-1)
        u_r, u_z, u_n = np.split(weight_hh, 3)
        r, z = reference.sigmoid(x_r + h @ u_r.T), reference.sigmoid(x_z + h @ u_z.T)
        n = np.tanh(x_n + (r * (h @ u_n.T + bias_hn) if layer.cell == "gru_after" else (r * h) @ u_n.T))
        new = n + z * (h - n)
        h = new if lengths is None else np.where(t < np.asarray(lengths)[..., None], new, h)
        outputs.append(h)
    return np.stack(outputs, axis=-2), h


@pytest.fixture(autouse=True)
def rows(monkeypatch):
    """The rows in the tables."""
    for name, cell in ROWS.items():
        monkeypatch.setitem(layout.CELLS, name, cell)
        monkeypatch.setitem(layout.OPERATIONS, name, (cell.module, True))


def layer_of(cell, dtype, inputs, hidden):
    rng = np.random.default_rng(hidden)
    shapes = (3 * hidden, inputs), (3 * hidden, hidden), (3 * hidden,), (hidden,)
    return GRU(cell, *(uniform(rng, shape, dtype, hidden**-0.5) for shape in shapes))


def data(dtype, leading, steps, layer):
    rng = np.random.default_rng(steps)
    return uniform(rng, (*leading, steps, layer.input_size), dtype, 1.0), uniform(rng, (*leading, layer.hidden_size), dtype, 0.9)


@every_cell
@every_dtype
@pytest.mark.parametrize(("leading", "hidden"), [((), 45), ((), 300), ((3,), 7), ((2, 5), 70), ((67,), 33)])
def test_values(cell, dtype, leading, hidden):
    """Either GRU is its loop, alone and in batches of any size."""
    layer = layer_of(cell, dtype, 6, hidden)
    x, h0 = data(dtype, leading, 9, layer)
    for actual, expected in zip(layer(x, h0), gru(layer, x, h0), strict=True):
        assert_close(actual, expected, dtype)


@every_cell
def test_what_comes_with_the_engine(cell):
    """Lengths, tokens, a head, chunks, streams and members of a batch: nothing of it knows the cell."""
    layer = layer_of(cell, np.float32, 11, 50)
    model = fastrnn.Sequential(layer, fastrnn.Dense(np.eye(11, 50, dtype=np.float32), activation="softmax"))
    x, h0 = data(np.float32, (5,), 12, layer)
    output, (h_n,) = model(x, h0)
    lengths = [12, 0, 7, 3, 12]
    assert_close(layer(x, h0, lengths=lengths)[1], gru(layer, x, h0, lengths)[1], np.float32)
    tokens = np.arange(60).reshape(5, 12) % 11
    vectors, table = np.eye(11, dtype=np.float32)[tokens], uniform(np.random.default_rng(0), (11, 11), np.float32, 1.0)
    reader = fastrnn.Sequential(fastrnn.Embedding.one_hot(11), *model.layers)
    assert_same_bits(reader(tokens, h0)[0], model(vectors, h0)[0])
    assert_same_bits(fastrnn.Sequential(fastrnn.Embedding(table), *model.layers)(tokens, h0)[0], model(table[tokens], h0)[0])
    first, between = model(x[:, :5], h0)
    stream = model.stream(between)
    assert_same_bits(np.concatenate([first, stream(x[:, 5:11]), stream.step(x[:, 11])[:, None]], axis=1), output)
    assert_same_bits(stream.state[0], h_n)
    assert_same_bits(model(x[3], h0[3])[0], output[3])
    assert_same_bits(fastrnn.generate(reader, tokens[:, 0], 6, h0, feedback="argmax")[0][:, 0], model(vectors, h0)[0][:, 0].argmax(axis=-1))


@every_cell
@every_dtype
@pytest.mark.parametrize("leading", [(), (3,), (9,)])
def test_threads_share_its_columns(cell, dtype, leading, monkeypatch):
    """Threads that share every step, and wait for one another between its phases, give the bits of one."""
    layer = layer_of(cell, dtype, 8, 290)
    x, h0 = data(dtype, leading, 150, layer)
    monkeypatch.setattr(fastrnn.threads, "chosen", 1)
    alone = layer(x, h0)
    for name, value in {"WORTH_HELP": 1, "WARM_UP": 1_000_000, "FEW_SEQUENCES": 1 << 60, "LARGE": -1}.items():
        monkeypatch.setattr(plan, name, value)
    for count in (2, 3):
        monkeypatch.setattr(fastrnn.threads, "chosen", count)
        for _ in range(5):
            for actual, expected in zip(layer(x, h0), alone, strict=True):
                assert_same_bits(actual, expected)
