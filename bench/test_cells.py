"""GRU, LSTM and leaky layers give what other libraries give with the same weights: PyTorch, ONNX Runtime, Keras and reservoirpy."""

import os
from unittest import mock

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import helper
from reservoirpy.nodes import Reservoir
from torch import nn

import fastrnn
from bench.cases import DTYPES
from bench.rivals.onnx_model import make_model
from tests.cases import assert_close

with mock.patch.dict(os.environ, {"KERAS_BACKEND": "torch"}):
    import keras

STEPS, BATCH, INPUTS, HIDDEN, OUTPUTS = 23, 5, 7, 19, 11
LENGTHS = np.array([23, 1, 9, 22, 14])
SIZES = ((INPUTS,), (HIDDEN,), (), ())  # of weight_ih, weight_hh and two biases, after the gates' rows

every_dtype = pytest.mark.parametrize("dtype", DTYPES)
with_lengths = pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "lengths"])


def draw(seed, *shape):
    """Draw numbers in +-1/sqrt(HIDDEN)."""
    return np.random.default_rng(seed).uniform(-1, 1, shape) * HIDDEN**-0.5


def data(dtype):
    """Input, and the two arrays of a state, of which a GRU needs the first."""
    x, h, c = draw(1, BATCH, STEPS, INPUTS) * 4, draw(2, BATCH, HIDDEN) * 3, draw(3, BATCH, HIDDEN) * 6
    return x.astype(dtype), h.astype(dtype), c.astype(dtype)


def reordered(weight, from_order, to_order):
    """Put the gates' rows, named by letters, in another order."""
    gates = dict(zip(from_order, np.split(weight, len(from_order)), strict=True))
    return np.concatenate([gates[letter] for letter in to_order])


def biases(bias_ih, bias_hh, reset_after):
    """Give bias, and bias_hn where there is one, of two biases in our order of gates."""
    if not reset_after:
        return [bias_ih + bias_hh]
    added = bias_hh.copy()
    added[2 * HIDDEN :] = 0
    return [bias_ih + added, bias_hh[2 * HIDDEN :]]


def from_torch(module):
    """Make our layers of the weights of nn.GRU or nn.LSTM."""
    layers = []
    for number in range(module.num_layers):
        names = [name for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr") if hasattr(module, f"{name}_l0")]
        weights = {name: getattr(module, f"{name}_l{number}").detach().numpy() for name in names}
        weight_ih, weight_hh, bias_ih, bias_hh = (weights.get(name) for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        if isinstance(module, nn.LSTM):
            bias = None if bias_ih is None else bias_ih + bias_hh
            layers.append(fastrnn.LSTM(weight_ih, weight_hh, bias, projection=weights.get("weight_hr")))
        else:
            layers.append(fastrnn.GRU(weight_ih, weight_hh, *([] if bias_ih is None else biases(bias_ih, bias_hh, True))))
    return fastrnn.Sequential(*layers)


def run_torch(module, x, states, lengths):
    """Run a module over a batch, packed where sequences have lengths. Give the output and the arrays of the last state, as NumPy's."""
    given = torch.tensor(x)
    if lengths is not None:
        given = nn.utils.rnn.pack_padded_sequence(given, torch.tensor(lengths), batch_first=True, enforce_sorted=False)
    tensors = tuple(torch.tensor(state) for state in states)
    with torch.inference_mode():
        output, last = module(given, tensors if len(tensors) > 1 else tensors[0])
    if lengths is not None:
        output, _ = nn.utils.rnn.pad_packed_sequence(output, batch_first=True, total_length=STEPS)
    return output.numpy(), [array.numpy() for array in (last if len(tensors) > 1 else (last,))]


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning")
@with_lengths
@every_dtype
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("kind", ["GRU", "GRU without bias", "LSTM", "LSTM without bias", "LSTM with a projection"])
def test_pytorch(kind, layers, dtype, lengths):
    """nn.GRU and nn.LSTM, stacked, with states in and out; packed sequences are our lengths."""
    torch.manual_seed(0)
    options = {"num_layers": layers, "bias": not kind.endswith("bias"), "batch_first": True, "dtype": getattr(torch, dtype)}
    if kind.endswith("projection"):
        options["proj_size"] = OUTPUTS
    module = getattr(nn, kind[:4].strip())(INPUTS, HIDDEN, **options)
    x, h, c = data(dtype)
    hs, cs = (np.stack([array * 0.9**layer for layer in range(layers)]).astype(dtype) for array in (h[:, : options.get("proj_size")], c))
    states = [hs, cs] if kind.startswith("LSTM") else [hs]
    expected, expected_last = run_torch(module, x, states, lengths)
    entries = list(zip(*states, strict=True)) if len(states) > 1 else list(hs)
    output, last = from_torch(module)(x, entries, lengths=lengths)
    assert_close(output, expected, dtype)
    for number, array in enumerate(expected_last):
        assert_close(np.stack([entry[number] if len(states) > 1 else entry for entry in last]), array, dtype)


ACTIVATIONS = {  # the attributes of ONNX's node but for the functions' names, and our options
    "usual": ({}, {}),
    "unusual": (
        {"activation_alpha": [0.3], "activation_beta": [0.4]},
        {"recurrent_activation": ("hard_sigmoid", 0.3, 0.4), "activation": "softsign"},
    ),
}


def run_onnx(kind, weights, x, states, lengths, attributes):
    """Run a node of ONNX's over time-major input, without directions. Give the output and the arrays of the last state."""
    given = {"x": np.ascontiguousarray(x.swapaxes(0, 1))}
    names = ["h", "c"][: len(states)]
    given |= {name: state[None] for name, state in zip(names, states, strict=True)}
    if lengths is not None:
        given["lengths"] = lengths.astype(np.int32)
    constants = {name: weight[None] for name, weight in weights.items()}
    optional = ["P"] if "P" in weights else []
    between = ["lengths" if lengths is not None else ""]
    outputs = {"y": [STEPS, 1, BATCH, HIDDEN], **{f"{name}_n": [1, BATCH, HIDDEN] for name in names}}
    node = helper.make_node(kind, ["x", "W", "R", "B", *between, *names, *optional], list(outputs), hidden_size=HIDDEN, **attributes)
    model = make_model(given, outputs, constants, [node])
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    output, *last = session.run(list(outputs), given)
    return output[:, 0].swapaxes(0, 1), [array[0] for array in last]


@with_lengths
@pytest.mark.parametrize("form", ACTIVATIONS)
@pytest.mark.parametrize("reset_after", [False, True])
def test_onnx_gru(reset_after, form, lengths):
    """ONNX's GRU has the gates z, r, h; linear_before_reset is our reset_after, and without it the two biases are added."""
    x, h, _ = data("float32")
    weight_ih, weight_hh, bias, bias_hh = (draw(4 + i, 3 * HIDDEN, *size).astype("float32") for i, size in enumerate(SIZES))
    weights = {"W": weight_ih, "R": weight_hh, "B": np.concatenate([bias, bias_hh])}
    attributes, options = ACTIVATIONS[form]
    if attributes:
        attributes = {**attributes, "activations": ["HardSigmoid", "Softsign"]}
    expected, (expected_last,) = run_onnx("GRU", weights, x, [h], lengths, {**attributes, "linear_before_reset": int(reset_after)})
    ours = [reordered(weight, "zrh", "rzh") for weight in (weight_ih, weight_hh, bias, bias_hh)]
    layer = fastrnn.GRU(*ours[:2], *biases(ours[2], ours[3], reset_after), reset_after=reset_after, **options)
    output, h_n = layer(x, h, lengths=lengths)
    assert_close(output, expected, "float32")
    assert_close(h_n, expected_last, "float32")


@with_lengths
@pytest.mark.parametrize("form", ACTIVATIONS)
@pytest.mark.parametrize("peephole", [False, True])
def test_onnx_lstm(peephole, form, lengths):
    """ONNX's LSTM has the gates i, o, f, c, and peepholes i, o, f; its three functions are ours with activation twice."""
    x, h, c = data("float32")
    weight_ih, weight_hh, bias, bias_hh = (draw(4 + i, 4 * HIDDEN, *size).astype("float32") for i, size in enumerate(SIZES))
    weights = {"W": weight_ih, "R": weight_hh, "B": np.concatenate([bias, bias_hh])}
    attributes, options = ACTIVATIONS[form]
    if attributes:
        attributes = {**attributes, "activations": ["HardSigmoid", "Softsign", "Softsign"]}
    options = dict(options)
    if peephole:
        weights["P"] = draw(8, 3 * HIDDEN).astype("float32") * 3
        options["peephole"] = reordered(weights["P"], "iof", "ifo").reshape(3, HIDDEN)
    expected, expected_last = run_onnx("LSTM", weights, x, [h, c], lengths, attributes)
    ours = [reordered(weight, "iofc", "ifco") for weight in (weight_ih, weight_hh, bias + bias_hh)]
    output, last = fastrnn.LSTM(*ours, **options)(x, (h, c), lengths=lengths)
    assert_close(output, expected, "float32")
    for array, expected_array in zip(last, expected_last, strict=True):
        assert_close(array, expected_array, "float32")


def run_keras(layer, weights, x, states, lengths):
    layer.build(x.shape)
    layer.set_weights(weights)
    mask = None if lengths is None else torch.tensor(np.arange(STEPS) < lengths[:, None])
    with torch.inference_mode():
        results = layer(torch.tensor(x), initial_state=[torch.tensor(state) for state in states], mask=mask)
    output, *last = (result.numpy() for result in results)
    return output, last


def assert_close_to_keras(actual, expected):
    """Agree within float32's tolerance in float64 too: with PyTorch below, Keras' matmul rounds to float32."""
    assert actual.dtype == expected.dtype
    assert_close(actual.astype("float32"), expected, "float32")


def keras_options(dtype, lengths):
    return {"return_sequences": True, "return_state": True, "zero_output_for_mask": lengths is not None, "dtype": dtype}


@with_lengths
@every_dtype
@pytest.mark.parametrize("reset_after", [False, True])
def test_keras_gru(reset_after, dtype, lengths):
    """Keras' GRU has the gates z, r, h, weights (inputs, 3 units), and two biases with reset_after; a mask is our lengths."""
    x, h, _ = data(dtype)
    weight_ih, weight_hh, bias, bias_hh = (draw(4 + i, 3 * HIDDEN, *size).astype(dtype) for i, size in enumerate(SIZES))
    bias_hh = bias_hh if reset_after else np.zeros_like(bias_hh)
    layer = keras.layers.GRU(HIDDEN, reset_after=reset_after, **keras_options(dtype, lengths))
    weights = [weight_ih.T, weight_hh.T, np.stack([bias, bias_hh]) if reset_after else bias]
    expected, (expected_last,) = run_keras(layer, weights, x, [h], lengths)
    ours = [reordered(weight, "zrh", "rzh") for weight in (weight_ih, weight_hh, bias, bias_hh)]
    output, h_n = fastrnn.GRU(*ours[:2], *biases(ours[2], ours[3], reset_after), reset_after=reset_after)(x, h, lengths=lengths)
    assert_close_to_keras(output, expected)
    assert_close_to_keras(h_n, expected_last)


@with_lengths
@every_dtype
def test_keras_lstm(dtype, lengths):
    """Keras' LSTM has our order of gates, i, f, c, o, and weights (inputs, 4 units)."""
    x, h, c = data(dtype)
    weight_ih, weight_hh, bias = (draw(4 + i, 4 * HIDDEN, *size).astype(dtype) for i, size in enumerate(SIZES[:3]))
    layer = keras.layers.LSTM(HIDDEN, **keras_options(dtype, lengths))
    expected, expected_last = run_keras(layer, [weight_ih.T, weight_hh.T, bias], x, [h, c], lengths)
    output, last = fastrnn.LSTM(weight_ih, weight_hh, bias)(x, (h, c), lengths=lengths)
    assert_close_to_keras(output, expected)
    for array, expected_array in zip(last, expected_last, strict=True):
        assert_close_to_keras(array, expected_array)


@every_dtype
@pytest.mark.parametrize("leak", [0.3, 1.0, np.linspace(0.1, 1, HIDDEN)], ids=["0.3", "1", "units"])
@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_reservoirpy(nonlinearity, leak, dtype):
    """reservoirpy's reservoir, which computes in float64, is a leaky RNN with the leak at the output. Its state goes on in a second run."""
    x, h, _ = (array[0].astype("float64") for array in data(dtype))
    weight_ih, weight_hh, bias = (draw(4 + i, HIDDEN, *size).astype(dtype) for i, size in enumerate(SIZES[:3]))
    reservoir = Reservoir(
        lr=np.asarray(leak, dtype).astype("float64"),
        Win=weight_ih.astype("float64"),
        W=weight_hh.astype("float64"),
        bias=bias.astype("float64"),
        activation=nonlinearity,
    )
    reservoir.initialize(x)
    reservoir.state = {"out": h}
    expected = np.concatenate([reservoir.run(x), reservoir.run(x[::-1])])
    layer = fastrnn.RNN(weight_ih, weight_hh, bias, nonlinearity=nonlinearity, leak=leak)
    output, h_n = layer(np.concatenate([x, x[::-1]]), h)
    assert_close(output, expected, dtype)
    assert_close(h_n, expected[-1], dtype)
