"""PyTorch's own networks, loaded, against PyTorch."""

import re

import numpy as np
import pytest
import torch
from torch import nn

import fastrnn

TOLERANCES = {torch.float32: 1e-5, torch.float64: 1e-12}
every_dtype = pytest.mark.parametrize("dtype", TOLERANCES, ids=["float32", "float64"])
I, H, N, T = 6, 11, 3, 9  # noqa: E741

KINDS = {
    "rnn": (nn.RNN, {}),
    "relu": (nn.RNN, {"nonlinearity": "relu"}),
    "gru": (nn.GRU, {}),
    "lstm": (nn.LSTM, {}),
    "projected": (nn.LSTM, {"proj_size": 4}),
}


def numbers(dtype, *shape, seed=0):
    return torch.tensor(np.random.default_rng(seed).normal(size=shape), dtype=dtype)


def assert_close(actual, expected, dtype):
    np.testing.assert_allclose(actual, expected.detach().numpy(), rtol=0, atol=TOLERANCES[dtype])


def states_of(module, dtype):
    """PyTorch's states, (layers * directions, N, H), and ours."""
    count, outputs = module.num_layers * (1 + module.bidirectional), module.proj_size or H
    arrays = [numbers(dtype, count, N, outputs, seed=1)] + [numbers(dtype, count, N, H, seed=2)] * isinstance(module, nn.LSTM)
    entries = [tuple(array[i].numpy() for array in arrays) if len(arrays) > 1 else arrays[0][i].numpy() for i in range(count)]
    return (tuple(arrays) if len(arrays) > 1 else arrays[0]), list(
        zip(entries[::2], entries[1::2], strict=True)
    ) if module.bidirectional else entries


def flat(state):
    return [array for entry in state for array in flat(entry)] if isinstance(state, tuple | list) else [state]


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning")
@every_dtype
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "both"])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_recurrent_modules(kind, layers, bidirectional, bias, dtype):
    """Outputs and last states of random networks are PyTorch's, from states that aren't zero; a state_dict says as much."""
    make, options = KINDS[kind]
    torch.manual_seed(0)
    module = make(I, H, layers, bias=bias, bidirectional=bidirectional, batch_first=True, dropout=0.5 * (layers > 1), **options).to(dtype)
    module.eval()
    x, (theirs, ours) = numbers(dtype, N, T, I), states_of(module, dtype)
    expected, last = module(x, theirs)
    nonlinearity = options.get("nonlinearity", "tanh")
    for model in (fastrnn.from_torch(module), fastrnn.from_state_dict(module.state_dict(), nonlinearity=nonlinearity)):
        output, state = model(x.numpy(), ours[0] if layers == 1 else ours)
        assert_close(output, expected, dtype)
        for one, other in zip(
            flat(state)[:: 1 + (kind in ("lstm", "projected"))], last[0] if isinstance(last, tuple) else last, strict=True
        ):
            assert_close(one, other, dtype)


@pytest.mark.parametrize("kind", KINDS)
def test_lengths(kind):
    """Sequences of different lengths are what PyTorch makes of a packed batch."""
    make, options = KINDS[kind]
    torch.manual_seed(0)
    module, x, lengths = make(I, H, 2, bidirectional=True, batch_first=True, **options).double(), numbers(torch.float64, N, T, I), [9, 2, 5]
    packed = nn.utils.rnn.pack_padded_sequence(x, torch.tensor(lengths), batch_first=True, enforce_sorted=False)
    expected, _ = nn.utils.rnn.pad_packed_sequence(module(packed)[0], batch_first=True)
    assert_close(fastrnn.from_torch(module).predict(x.numpy(), lengths=lengths), expected, torch.float64)


@every_dtype
@pytest.mark.parametrize("cell", [nn.RNNCell, nn.GRUCell, nn.LSTMCell], ids=lambda cell: cell.__name__)
def test_cells(cell, dtype):
    """A cell's model is its steps."""
    torch.manual_seed(0)
    module, x, state = cell(I, H).to(dtype), numbers(dtype, N, T, I), None
    expected = []
    for t in range(T):
        state = module(x[:, t], state)
        expected.append(state[0] if isinstance(state, tuple) else state)
    assert_close(fastrnn.from_torch(module).predict(x.numpy()), torch.stack(expected, dim=1), dtype)


ACTIVATIONS = [
    nn.Tanh(), nn.ReLU(), nn.Sigmoid(), nn.Hardsigmoid(), nn.Softplus(), nn.Softsign(), nn.LeakyReLU(0.2), nn.ELU(0.7), nn.Softmax(-1),
    nn.LogSoftmax(-1), nn.Identity(), nn.Dropout(0.3),
]  # fmt: skip


class Output(nn.Module):
    """Hands a recurrent module's output on."""

    def forward(self, both):
        return both[0]


@every_dtype
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda one: type(one).__name__)
def test_chains(activation, dtype):
    """Modules in a row, also within each other, are one model; so are an activation after a recurrent layer, and two in a row."""
    torch.manual_seed(0)
    table, gru, head = nn.Embedding(20, I, padding_idx=0), nn.GRU(I, H, batch_first=True), nn.Linear(H, 5)
    tokens = torch.tensor(np.random.default_rng(0).integers(0, 20, (N, T)))
    theirs = nn.Sequential(table, gru, Output(), activation, nn.Sequential(head, activation, nn.Tanh())).to(dtype).eval()
    model = fastrnn.from_torch(nn.Sequential(table, gru, activation, nn.Sequential(head, activation, nn.Tanh())).eval())
    assert_close(model.predict(tokens.numpy()), theirs(tokens), dtype)


@pytest.mark.parametrize(
    "make",
    [
        lambda one, act: nn.Sequential(one, act, nn.Linear(H, H), act),
        lambda one, act: nn.Sequential(one, act, one, act),
        lambda one, act: nn.Sequential(*[nn.Sequential(one, act)] * 3),
    ],
    ids=["an activation", "a layer", "a block"],
)
def test_modules_that_come_again(make):
    """A module that is used in several places is computed in each."""
    torch.manual_seed(0)
    module, x = make(nn.Linear(H, H), nn.Tanh()).double(), numbers(torch.float64, N, T, H)
    assert_close(fastrnn.from_torch(module).predict(x.numpy()), module(x), torch.float64)


def test_short_floats_and_other_devices():
    """bfloat16 and float16 become float32; a weight that requires gradients, or lies elsewhere, is taken."""
    for short in (torch.bfloat16, torch.float16):
        gru = nn.GRU(I, H).to(short)
        model = fastrnn.from_torch(gru)
        np.testing.assert_array_equal(model.layers[0].weight_hh, gru.weight_hh_l0.detach().float().numpy())
        assert fastrnn.from_torch(gru, dtype=np.float64).dtype == np.float64
    named = dict(nn.GRU(I, H).named_parameters())
    assert all(weight.requires_grad for weight in named.values())
    assert fastrnn.from_state_dict(named).dtype == np.float32


class Own(nn.LSTM):
    pass


class Sequential(nn.Sequential):
    """Not PyTorch's."""

    def forward(self, x):
        return x + super().forward(x)


def changed():
    module = nn.Linear(2, 2)
    module.forward = lambda x: x
    return nn.Sequential(module)


def hooked():
    module = nn.Linear(I, H)
    module.register_forward_pre_hook(lambda *_: None)
    return module


REFUSED = {
    "what is no module": (lambda: 7, TypeError, "module must be a torch.nn.Module, got int"),
    "a class of one's own": (
        lambda: nn.Sequential(nn.Linear(2, 2), Own(2, 2)),
        ValueError,
        r"module.1 must be a module that fastrnn has a layer for, got .*test_torch.Own",
    ),
    "a Sequential of one's own": (
        lambda: nn.Sequential(Sequential(nn.Linear(2, 2))),
        ValueError,
        r"module.0 must be a module that fastrnn has a layer for, got .*test_torch.Sequential",
    ),
    "a forward of its own": (changed, ValueError, r"module.0 must have its class's forward, got a Linear with one of its own"),
    "another class": (
        lambda: nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.Conv1d(2, 2, 1))),
        ValueError,
        r"module.0.1 must be a module that fastrnn has a layer for, got torch.nn.modules.conv.Conv1d",
    ),
    "hooks": (hooked, ValueError, "module must have no hooks, which may change what it computes, got a Linear with some"),
    "parametrized": (
        lambda: nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)),
        ValueError,
        r"module must be a module that fastrnn has a layer for, got .*ParametrizedLinear",
    ),
    "softmax over time": (lambda: nn.Sequential(nn.Linear(2, 2), nn.Softmax(dim=1)), ValueError, r"module.1 must have dim=-1, got 1"),
    "softplus": (lambda: nn.Sequential(nn.Linear(2, 2), nn.Softplus(beta=2)), ValueError, r"module.1 must have beta=1, got 2.*"),
    "norms": (
        lambda: nn.Embedding(5, 2, max_norm=1.0),
        ValueError,
        r"module must have no max_norm, which changes rows when they are read, got 1.0",
    ),
    "an activation first": (
        lambda: nn.Sequential(nn.Tanh(), nn.Linear(2, 2)),
        ValueError,
        r"module.0 must come after a layer with weights, got a Tanh first",
    ),
    "nothing": (lambda: nn.Dropout(), ValueError, "module must hold a layer with weights, got none"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused(kind):
    """What can't be understood is refused by its path."""
    make, error, text = REFUSED[kind]
    with pytest.raises(error) as raised:
        fastrnn.from_torch(make())
    assert re.fullmatch(text, str(raised.value))
