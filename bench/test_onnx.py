"""Networks in ONNX files, loaded, against ONNX Runtime and PyTorch."""

import io
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import fastrnn
from tests.onnx_graphs import H, I, N, T, numbers, one_layer, weights


class Network(nn.Module):
    """An embedding, recurrent layers and a head, each if wanted; the output of every step or of the last."""

    def __init__(self, kind, layers=1, *, tokens=False, head=None, last=False, **options):
        super().__init__()
        options = {"batch_first": True, **options}
        self.embedding = nn.Embedding(20, I) if tokens else nn.Identity()
        self.recurrent = kind(I, H, layers, **options)
        width = H * (1 + options.get("bidirectional", False))
        self.head = nn.Sequential(nn.Linear(width, 4), head) if head else nn.Identity()
        self.last = last

    def forward(self, x):
        output, _ = self.recurrent(self.embedding(x))
        return self.head(output[:, -1] if self.last else output)


class Both(nn.Module):
    """Gives its state, too, and takes one."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x, *state):
        return self.module(x, *state)


NETWORKS = {
    "rnn": lambda: Network(nn.RNN),
    "relu": lambda: Network(nn.RNN, 2, nonlinearity="relu"),
    "gru": lambda: Network(nn.GRU, 2, head=nn.Softmax(-1)),
    "lstm": lambda: Network(nn.LSTM, 2, head=nn.Tanh()),
    "no bias": lambda: Network(nn.LSTM, bias=False),
    "time first": lambda: Network(nn.GRU, 2, batch_first=False),
    "both directions": lambda: Network(nn.LSTM, 2, bidirectional=True, head=nn.LogSoftmax(-1)),
    "both directions, time first": lambda: Network(nn.GRU, 2, bidirectional=True, batch_first=False),
    "tokens": lambda: Network(nn.GRU, tokens=True, head=nn.Sigmoid()),
    "the last step": lambda: Network(nn.LSTM, 2, last=True, head=nn.LeakyReLU(0.2)),
    "functions": lambda: Network(nn.GRU, head=nn.Sequential(nn.ELU(0.5), nn.Linear(4, 3), nn.Hardsigmoid(), nn.Softplus())),
}

# What the newer exporter takes apart into steps, or an activation into arithmetic, by how it is refused.
TAKEN_APART = {
    "rnn": r"\(Slice\) must take the last step of one direction, whose sequences have all steps, got index 0",
    "relu": r"\(Slice\) must take the last step of one direction, whose sequences have all steps, got index 0",
    "functions": r"\(Greater\) must be an operator that fastrnn has a layer for",
}


def exported(module, arguments, *, dynamo=False, dynamic=True):
    with warnings.catch_warnings(action="ignore"):
        if dynamo:
            return torch.onnx.export(module, arguments, dynamo=True, verbose=False, input_names=["x"]).model_proto
        buffer, axes = io.BytesIO(), {"x": [0, 1]} if dynamic else None
        torch.onnx.export(module, arguments, buffer, dynamo=False, input_names=["x"], dynamic_axes=axes)
    return onnx.load_from_string(buffer.getvalue())


def given(kind, dtype):
    rng = np.random.default_rng(0)
    return torch.tensor(rng.integers(0, 20, (N, T))) if kind == "tokens" else torch.tensor(rng.normal(size=(N, T, I)), dtype=dtype)


def reference(model, *inputs):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {one.name: value for one, value in zip(session.get_inputs(), inputs, strict=True)})


@pytest.mark.parametrize("exporter", ["trace", "trace, fixed sizes", "dynamo"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_exported_by_pytorch(kind, exporter, tmp_path):
    """What PyTorch's two exporters write gives ONNX Runtime's outputs, from a file too; what it takes apart is refused."""
    torch.manual_seed(0)
    module, x = NETWORKS[kind]().eval(), given(kind, torch.float32)
    model = exported(module, (x,), dynamo=exporter == "dynamo", dynamic=exporter == "trace")
    onnx.save(model, tmp_path / "model.onnx")
    if exporter == "dynamo" and kind in TAKEN_APART:
        with pytest.raises(ValueError, match=rf"^node '\w+' {TAKEN_APART[kind]}$"):
            fastrnn.from_onnx(model)
        return
    ours, (expected,) = fastrnn.from_onnx(tmp_path / "model.onnx"), reference(model, x.numpy())
    moved = "time first" in kind
    output = ours.predict(np.moveaxis(x.numpy(), 0, 1) if moved else x.numpy())
    np.testing.assert_allclose(np.moveaxis(output, 0, 1) if moved else output, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", NETWORKS)
def test_float64(kind):
    """In float64 the outputs are PyTorch's to 1e-12, unless an operator of the exporter's loses digits."""
    torch.manual_seed(0)
    module, x = NETWORKS[kind]().double().eval(), given(kind, torch.float64)
    ours = fastrnn.from_onnx(exported(module, (x,)))
    moved = "time first" in kind
    output = ours.predict(np.moveaxis(x.numpy(), 0, 1) if moved else x.numpy())
    assert ours.dtype == np.float64
    exact = kind != "functions"  # ONNX holds parameters of activations in float32
    expected = module(x).detach().numpy()
    np.testing.assert_allclose(
        np.moveaxis(output, 0, 1) if moved else output, expected, rtol=0, atol=1e-12 if exact and kind != "the last step" else 1e-7
    )


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_states(kind, bidirectional):
    """A graph that takes states and gives them is loaded; the model's call takes and gives them."""
    torch.manual_seed(0)
    module, x = Both(kind(I, H, 2, bidirectional=bidirectional, batch_first=True)).eval(), given("", torch.float32)
    h0 = torch.randn(2 * (1 + bidirectional), N, H)
    state = ((h0, 2 * h0),) if kind is nn.LSTM else (h0,)
    model = fastrnn.from_onnx(exported(module, (x, *state)))
    expected, last = module(x, *state)
    entries = [(h0[i].numpy(), 2 * h0[i].numpy()) if kind is nn.LSTM else h0[i].numpy() for i in range(len(h0))]
    ours = tuple(zip(entries[::2], entries[1::2], strict=True)) if bidirectional else tuple(entries)
    output, after = model(x.numpy(), ours)
    np.testing.assert_allclose(output, expected.detach().numpy(), rtol=0, atol=1e-5)
    final = [one for pair in after for one in pair] if bidirectional else list(after)
    final = np.stack([one[0] if isinstance(one, tuple) else one for one in final])
    np.testing.assert_allclose(final, (last[0] if isinstance(last, tuple) else last).detach().numpy(), rtol=0, atol=1e-5)


class LastOfAll(nn.Module):
    """Works on what the last layer ends with, as PyTorch's states have it."""

    def __init__(self, kind, index):
        super().__init__()
        self.recurrent, self.head, self.index = kind(I, H, 2, batch_first=True), nn.Linear(H, 4), index

    def forward(self, x):
        _, last = self.recurrent(x)
        return self.head((last[0] if isinstance(last, tuple) else last)[self.index])


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_the_last_state(kind):
    """h_n[-1] is the last step's output; what an inner layer ends with is that of the layers so far."""
    torch.manual_seed(0)
    for index in (-1, 0, 1):
        module, x = LastOfAll(kind, index).eval(), given("", torch.float32)
        model = fastrnn.from_onnx(exported(module, (x,)))
        np.testing.assert_allclose(model.predict(x.numpy()), module(x).detach().numpy(), rtol=0, atol=1e-5)
        assert len(model.layers) == 2 + (index != 0)


BY_HAND = {
    "reset before": lambda: one_layer("GRU"),
    "reset after": lambda: one_layer("GRU", linear_before_reset=1),
    "peepholes": lambda: one_layer("LSTM", weights("LSTM", P=numbers(4, 1, 3 * H)), names=("x", "W", "R", "B", "", "", "", "P")),
    "no bias": lambda: one_layer("LSTM", {name: value for name, value in weights("LSTM").items() if name != "B"}, names=("x", "W", "R")),
    "both": lambda: one_layer("GRU", weights("GRU", 2), direction="bidirectional", linear_before_reset=1),
    "the last of both": lambda: one_layer("LSTM", weights("LSTM", 2), direction="bidirectional", last=True),
    "the last": lambda: one_layer("RNN", last=True),
    "zeros": lambda: one_layer("RNN", weights("RNN", h=np.zeros((1, N, H), np.float32)), names=("x", "W", "R", "B", "", "h")),
    "other functions": lambda: one_layer(
        "GRU",
        weights("GRU", 2),
        direction="bidirectional",
        activations=["HardSigmoid", "LeakyRelu", "Sigmoid", "Elu"],
        activation_alpha=[0.3, 0.1, 0.7],
        activation_beta=[0.4],
    ),
    "default parameters": lambda: one_layer("LSTM", activations=["HardSigmoid", "Softsign", "Softsign"]),
    "one function": lambda: one_layer("RNN", activations=["Relu"]),
}


@pytest.mark.parametrize("kind", BY_HAND)
def test_made_by_hand(kind):
    """Forms that PyTorch doesn't export give ONNX Runtime's outputs."""
    model, x = BY_HAND[kind](), numbers(0, T, N, I)
    onnx.checker.check_model(model)
    (expected,) = reference(model, x)
    ours = fastrnn.from_onnx(model)
    output = ours.predict(np.moveaxis(x, 0, 1))
    np.testing.assert_allclose(np.moveaxis(output, 0, 1) if ours.return_sequences else output, expected, rtol=0, atol=1e-5)
