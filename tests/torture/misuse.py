"""Malformed calls: a value of any kind in place of an argument, which is either fine or refused in so many words."""

import inspect
import pathlib
import traceback

import numpy as np

import fastrnn

from ..cases import nested
from ..situations import CAUSAL, TELLERS
from .work import pick, situation, steps_of

PACKAGE = pathlib.Path(fastrnn.__file__).parent


def values(rng, right):
    """List what an argument may be in place of the right one: of its kind but another shape, dtype or layout, or of any other kind."""
    array = right if isinstance(right, np.ndarray) else rng.random((2, 3))
    shape = tuple(rng.integers(0, 4, size=rng.integers(0, 5)))
    frozen = array.copy()
    frozen.flags.writeable = False
    changed = [array[..., :-1] if array.ndim else array, array[None], np.stack([array, array], axis=-1), array.T, np.zeros(shape), frozen]
    dtypes = ["complex128", "float16", "longdouble", "bool", "uint8", "int64", "S3", "U2", "O", "M8[s]", ">f8"]
    changed += [np.zeros(array.shape, pick(rng, dtypes)), np.full(array.shape, int(rng.integers(-(2**62), 2**62)))]
    changed += [np.full(array.shape, value) for value in (np.nan, np.inf, 1e300)]
    others = [None, "text", b"bytes", object(), 1j, float("nan"), -1, 0, 2**70, True, {}, {1}, (), [], [[1.0], [1.0, 2.0]], ..., range(3)]
    others += [np.int8(-3), np.float32(0.5), np.ma.masked, (None, None), ((), ()), [None], [[[]]], inspect, type, memoryview(b"1234")]
    return changed if rng.random() < 0.5 else others


def calls(rng):
    """Give a right call's function, its arguments, and which of them may be replaced."""
    s = situation(rng, CAUSAL)
    model, states, out = s.model, s.states, np.zeros((*s.leading, s.steps, s.sizes[-1]), s.dtype)
    state = nested(model, states) if states else None
    timed = {"lengths": s.lengths, "return_sequences": True, "out": None}
    _, state_name, *_ = inspect.signature(model).parameters
    yield model, {"x": s.x, state_name: state, **timed}
    stream = model.stream(state)
    yield stream, {"x": s.x, "out": out}
    yield stream.step, {"x_t": steps_of(s, s.x, 0) if s.steps else None, "out": None}
    yield (lambda state: setattr(stream, "state", state)), {"state": state}
    bank, row = model.streams(3), {"x": s.x[(*[0] * len(s.leading), slice(1))] if s.steps else None, "at": np.array([0])}
    bank.add()
    yield bank.step, {**row, "reset": None, "out": None}
    t = situation(rng, TELLERS, closed=True)
    start = {"start": t.start, "steps": t.steps, "state": nested(t.model, t.states) if t.states else None}
    options = {"feedback": "sample", "temperature": 1.0, "top_k": None, "rng": 0, "stop": None}
    yield fastrnn.generate, {"model": t.model, **start, **options}
    yield fastrnn.log_likelihood, {"model": t.model, "tokens": t.x, "state": start["state"], "lengths": None, "per_step": False}
    yield fastrnn.pad, {"sequences": [np.zeros((2, 3)), np.ones((4, 3))]}
    yield fastrnn.unpad, {"output": out, "lengths": s.lengths}
    inputs, hidden, outputs = rng.integers(1, 30, size=3)
    shapes = {"U": (hidden, inputs), "W": (hidden, hidden), "V": (outputs, hidden), "b": (hidden,)}
    weights, options = {name: rng.random(shape) for name, shape in shapes.items()}, {"c": None, "nonlinearity": "tanh", "out": None}
    yield fastrnn.rnn_forward, {"x": rng.random((3, inputs)), **weights, "h0": rng.random(hidden), **options}
    yield fastrnn.RNN, {"weight_ih": weights["U"], "weight_hh": weights["W"], "bias": weights["b"], "nonlinearity": "relu"}
    yield fastrnn.Dense, {"weight": weights["V"], "bias": None, "activation": "softmax"}
    yield fastrnn.Sequential, {"*": fastrnn.Dense(weights["V"])}
    yield fastrnn.set_num_threads, {"n": 2}


def apply(function, arguments):
    if "*" in arguments:
        return function(arguments["*"])
    return function(**arguments)


def misuse(rng, counts):
    """Replace one or two arguments of right calls."""
    threads = fastrnn.get_num_threads()
    for function, right in calls(rng):
        for _ in range(15):
            arguments = dict(right)
            for name in rng.choice(list(right), size=min(len(right), rng.integers(1, 3)), replace=False):
                if name == "steps":  # as many as memory has room for would be right
                    arguments[name] = pick(rng, [-1, 1.5, None, "3", [2], -(2**70)])
                else:
                    arguments[name] = pick(rng, values(rng, right[name]))
            refused(function, arguments, counts)
    fastrnn.set_num_threads(threads)


def refused(function, arguments, counts):
    """Make a call. An error is a ValueError or TypeError that fastrnn raises itself, and it changes none of the arguments."""
    before = {name: value.tobytes() for name, value in arguments.items() if type(value) is np.ndarray}
    counts["calls"] += 1
    try:
        apply(function, arguments)
    except Exception as error:
        last = pathlib.Path(traceback.extract_tb(error.__traceback__)[-1].filename)
        own = type(error) in (ValueError, TypeError) and last.is_relative_to(PACKAGE)
        changed = [name for name in before if arguments[name].tobytes() != before[name]]
        if changed or not own:
            given = {name: brief(value) for name, value in arguments.items()}
            raise AssertionError(f"changed {changed}, an error of fastrnn's own: {own}, by {brief(function)} {given}") from error
        counts["malformed"] += 1


def brief(value):
    """Show a value, an array by its dtype and shape."""
    return f"{value.dtype}{value.shape}" if type(value) is np.ndarray else repr(value)[:200]
