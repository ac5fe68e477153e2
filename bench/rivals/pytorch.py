"""PyTorch: nn.RNN, Linear and softmax in inference mode; nn.RNN's second bias is zero."""

import contextlib
import itertools
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from bench.cases import DTYPES
from bench.rivals import Library, Way, time_major
from bench.rows import Task


def load_weights(layer: nn.Module, *weights: np.ndarray) -> nn.Module:
    """Set a layer's weights, in the order of its parameters. A second bias is zero."""
    for parameter, weight in itertools.zip_longest(layer.parameters(), weights):
        parameter.data = torch.tensor(np.zeros_like(weights[-1]) if weight is None else weight)
    return layer.eval()


class PyTorch(Library):
    dtypes = DTYPES
    cells = ("RNN", "GRU", "LSTM", "BiLSTM")

    @contextlib.contextmanager
    def running(self, threads: int, dtype: str) -> Iterator[None]:
        torch.set_num_threads(threads)
        with torch.inference_mode():
            yield

    def ways(self, task: Task, threads: int) -> Iterator[Way]:
        if task.cell == "BiLSTM":
            yield from bidirectional_ways(task)
        elif task.cell != "RNN":
            yield from cell_ways(task)
        elif task.single:
            yield from step_ways(task)
        elif task.lengths is not None:
            yield from packed_ways(task)
        else:
            yield from sequence_ways(task)


def read(result: torch.Tensor) -> np.ndarray:
    return time_major(result.numpy())


def sequence_ways(task: Task) -> Iterator[Way]:
    hidden, inputs = task.U.shape
    head = nn.Identity()
    if task.V is not None:
        head = nn.Sequential(load_weights(nn.Linear(hidden, len(task.V), bias=False), task.V), nn.Softmax(-1))
    h0 = torch.tensor(task.h0.reshape(1, -1, hidden))
    if task.tokens:
        # nn.RNN takes only vectors: one-hot vectors, or the columns of U with the unit matrix as weight
        tokens, columns = torch.tensor(task.x), torch.tensor(task.U.T.copy())
        one_hot = nn.functional.one_hot(tokens, inputs).to(columns.dtype)[:, None]
        unit = np.eye(hidden, dtype=task.U.dtype)
        rnn = load_weights(nn.RNN(inputs, hidden), task.U, task.W, task.b)
        embedded = load_weights(nn.RNN(hidden, hidden), unit, task.W, task.b)
        yield Way("nn.RNN, one-hot", lambda: head(rnn(one_hot, h0)[0]), read)
        yield Way("nn.Embedding, nn.RNN", lambda: head(embedded(nn.functional.embedding(tokens, columns)[:, None], h0)[0]), read)
        return
    x = torch.tensor(task.x.reshape(-1, *task.x.shape[-2:]))
    steps_first = x.transpose(0, 1).contiguous()
    rnn = load_weights(nn.RNN(inputs, hidden), task.U, task.W, task.b)
    batch_first = load_weights(nn.RNN(inputs, hidden, batch_first=True), task.U, task.W, task.b)
    yield Way("nn.RNN", lambda: head(rnn(steps_first, h0)[0]), read)
    yield Way("nn.RNN, batch_first", lambda: head(batch_first(x, h0)[0]), torch.Tensor.numpy)


def packed_ways(task: Task) -> Iterator[Way]:
    hidden, inputs = task.U.shape
    rnn, h0 = load_weights(nn.RNN(inputs, hidden), task.U, task.W, task.b), torch.tensor(task.h0[None])
    packed = pack_padded_sequence(torch.tensor(task.x), torch.tensor(task.lengths), batch_first=True, enforce_sorted=False)

    def read(result: PackedSequence) -> np.ndarray:
        return pad_packed_sequence(result, batch_first=True, total_length=task.x.shape[1])[0].numpy()

    yield Way("nn.RNN, packed sequence", lambda: rnn(packed, h0)[0], read)


def step_ways(task: Task) -> Iterator[Way]:
    hidden, inputs = task.U.shape
    cell = load_weights(nn.RNNCell(inputs, hidden), task.U, task.W, task.b)
    x_t, h = torch.tensor(task.x[None]), torch.tensor(task.h0[None])
    UT, WT, b = torch.tensor(task.U.T.copy()), torch.tensor(task.W.T.copy()), torch.tensor(task.b)

    def with_cell():
        nonlocal h
        h = cell(x_t, h)
        return h

    def with_functions():
        nonlocal h
        h = torch.addmm(torch.addmm(b, x_t, UT), h, WT).tanh_()
        return h

    yield Way("nn.RNNCell", with_cell, lambda h: h[0].numpy().copy())
    h = torch.tensor(task.h0[None])
    yield Way("addmm, addmm, tanh", with_functions, lambda h: h[0].numpy().copy())


def cell_ways(task: Task) -> Iterator[Way]:
    hidden, inputs = task.W.shape[1], task.U.shape[1]
    bias_hh = np.zeros_like(task.b)
    if task.bias_hn is not None:
        bias_hh[2 * hidden :] = task.bias_hn
    weights = task.U, task.W, task.b, bias_hh
    x = torch.tensor(task.x.reshape(-1, task.x.shape[-2] if not task.single else 1, inputs))
    cell = load_weights(getattr(nn, f"{task.cell}Cell")(inputs, hidden), *weights)
    first = tuple(torch.tensor(array.reshape(-1, hidden)) for array in task.states)
    state = first if task.c0 is not None else first[0]
    x_t = x[:, 0].contiguous()

    def step():
        nonlocal state
        state = cell(x_t, state)
        return state if task.c0 is None else state[0]

    def one_step(given=state):
        result = cell(x_t, given)
        return result if task.c0 is None else result[0]

    if task.single:
        yield Way(f"nn.{task.cell}Cell", step, lambda h: h.numpy().copy())
        return
    if x.shape[1] == 1:
        yield Way(f"nn.{task.cell}Cell", one_step, lambda h: h.numpy())
    h0 = tuple(array[None] for array in first) if task.c0 is not None else first[0][None]
    for name, batch_first in {f"nn.{task.cell}": False, f"nn.{task.cell}, batch_first": True}.items():
        module = load_weights(getattr(nn, task.cell)(inputs, hidden, batch_first=batch_first), *weights)
        given = x if batch_first else x.transpose(0, 1).contiguous()
        yield Way(name, lambda module=module, given=given: module(given, h0)[0], torch.Tensor.numpy if batch_first else read)


def bidirectional_ways(task: Task) -> Iterator[Way]:
    hidden, inputs = task.W.shape[-1], task.U.shape[-1]
    weights = [weight for U, W, b in zip(task.U, task.W, task.b, strict=True) for weight in (U, W, b, np.zeros_like(b))]
    x = torch.tensor(task.x.reshape(-1, task.x.shape[-2], inputs))
    for name, batch_first in {"nn.LSTM": False, "nn.LSTM, batch_first": True}.items():
        module = load_weights(nn.LSTM(inputs, hidden, bidirectional=True, batch_first=batch_first), *weights)
        given = x if batch_first else x.transpose(0, 1).contiguous()
        yield Way(name, lambda module=module, given=given: module(given)[0], torch.Tensor.numpy if batch_first else read)


library = PyTorch()
