"""All layers and functions again, in plain NumPy and as short as possible: the reference for tests and the baseline for benchmarks.

Arguments are not checked. Everything is computed in the weights' dtype, except probabilities of tokens, which are float64.
"""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from .arguments import Activation, DenseActivation

Array = NDArray[Any]


def sigmoid(z: Array) -> Array:
    small = np.exp(-np.abs(z))
    return np.where(z < 0, small, 1) / (1 + small)


def softmax(z: Array) -> Array:
    powers = np.exp(z - z.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def log_softmax(z: Array) -> Array:
    highest = z.max(axis=-1, keepdims=True)
    shifted = z - np.where(np.isfinite(highest), highest, 0)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def softplus(z: Array) -> Array:
    return np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))


def hard_sigmoid(z: Array, *line: float) -> Array:
    if not line:
        return np.clip(z + 3, 0, 6) / 6
    alpha, beta = line
    return np.clip(alpha * z + beta, 0, 1)


FUNCTIONS: dict[str, Callable[..., Array]] = {
    "identity": lambda z: z,
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
    "sigmoid": sigmoid,
    "hard_sigmoid": hard_sigmoid,
    "softplus": softplus,
    "softsign": lambda z: z / (1 + np.abs(z)),
    "leaky_relu": lambda z, alpha: np.where(z < 0, alpha * z, z),
    "elu": lambda z, alpha: np.where(z < 0, alpha * np.expm1(np.minimum(z, 0)), z),
    "softmax": softmax,
    "log_softmax": log_softmax,
}


def apply(activation: "DenseActivation", z: Array) -> Array:
    """Apply an activation: a function's name, or a tuple of the name and the function's parameters."""
    name, *parameters = (activation,) if isinstance(activation, str) else activation
    return FUNCTIONS[name](z, *parameters)


def one_hot(tokens: Array, size: int) -> Array:
    """Return the one-hot vectors (..., T, size) of tokens (..., T)."""
    vectors: Array = tokens[..., None] == np.arange(size)
    return vectors


def cut(output: Array, lengths: Array | None, return_sequences: bool) -> Array:
    """Return the output with zeros past each sequence's end; or only each last step's, (..., O), zeros where a sequence has none."""
    if lengths is None and return_sequences:
        return output
    steps = np.arange(output.shape[-2])[:, None]
    ends = len(steps) if lengths is None else np.asarray(lengths)[..., None, None]
    return np.where(steps < ends, output, 0) if return_sequences else np.where(steps + 1 == ends, output, 0).sum(axis=-2)


class Recurrent:
    """A recurrent layer, computed step by step: step() returns the state after a step, and output() the output at that state."""

    weight_ih: Array
    weight_hh: Array
    state_sizes: tuple[int, ...]

    def step(self, x: Array, *state: Array) -> tuple[Array, ...]:
        raise NotImplementedError

    def output(self, *state: Array) -> Array:
        return state[0]

    def run(
        self, x: Array, state: tuple[Array | None, ...], lengths: Array | None, reset: Array | None, return_sequences: bool
    ) -> tuple[Array, tuple[Array, ...]]:
        """Run all steps. A state that is None or reset starts at zero; the state of a sequence that has ended no longer changes."""
        dtype = self.weight_hh.dtype
        after = tuple(
            np.zeros((*x.shape[:-2], size), dtype) if array is None else array.astype(dtype)
            for array, size in zip(state, self.state_sizes, strict=True)
        )
        if reset is not None:
            after = tuple(np.where(np.asarray(reset)[..., None], 0, array) for array in after)
        outputs = np.empty((*x.shape[:-1], self.state_sizes[0]), dtype)
        for t in range(x.shape[-2]):
            goes_on = np.ones(()) if lengths is None else t < np.asarray(lengths)[..., None]
            new = self.step(x[..., t, :].astype(dtype), *after)
            after = tuple(np.where(goes_on, s, old) for s, old in zip(new, after, strict=True))
            outputs[..., t, :] = self.output(*after)
        return cut(outputs, lengths, return_sequences), after

    def __call__(
        self,
        x: Array,
        h0: Array | None = None,
        *,
        lengths: Array | None = None,
        reset: Array | None = None,
        return_sequences: bool = True,
    ) -> tuple[Array, Any]:
        output, (h_n,) = self.run(x, (h0,), lengths, reset, return_sequences)
        return output, h_n


class RNN(Recurrent):
    """s_t = f(weight_ih x_t + weight_hh s_{t-1} + bias), step by step; with a leak a at the output or the input:

    h_t = (1 - a) h_{t-1} + a f(weight_ih x_t + weight_hh h_{t-1} + bias)
    v_t = (1 - a) v_{t-1} + a (weight_ih x_t + weight_hh f(v_{t-1}) + bias), and the output is f(v_t)
    """

    def __init__(
        self,
        weight_ih: Array,
        weight_hh: Array,
        bias: Array | None = None,
        *,
        nonlinearity: "Activation" = "tanh",
        leak: float | Array = 1.0,
        leak_at: str = "output",
    ) -> None:
        self.weight_ih, self.weight_hh, self.nonlinearity, self.leak, self.leak_at = weight_ih, weight_hh, nonlinearity, leak, leak_at
        self.bias = np.zeros(len(weight_hh), weight_hh.dtype) if bias is None else bias
        self.state_sizes = (len(weight_hh),)

    def step(self, x: Array, *state: Array) -> tuple[Array, ...]:
        (before,) = state
        z = x @ self.weight_ih.T + self.output(before) @ self.weight_hh.T + self.bias
        new = apply(self.nonlinearity, z) if self.leak_at == "output" else z
        with np.errstate(invalid="ignore"):
            return (np.where(np.equal(self.leak, 1), new, (1 - self.leak) * before + self.leak * new),)

    def output(self, *state: Array) -> Array:
        return apply(self.nonlinearity, state[0]) if self.leak_at == "input" else state[0]


class GRU(Recurrent):
    """r, z = sigmoid(...), n = tanh(...), h_t = (1 - z) n + z h_{t-1}, step by step."""

    def __init__(
        self,
        weight_ih: Array,
        weight_hh: Array,
        bias: Array | None = None,
        bias_hn: Array | None = None,
        *,
        reset_after: bool = True,
        activation: "Activation" = "tanh",
        recurrent_activation: "Activation" = "sigmoid",
    ) -> None:
        self.weight_ih, self.weight_hh, self.reset_after = weight_ih, weight_hh, reset_after
        self.activation, self.recurrent_activation = activation, recurrent_activation
        self.bias = np.zeros(len(weight_hh), weight_hh.dtype) if bias is None else bias
        self.bias_hn = np.zeros(weight_hh.shape[1], weight_hh.dtype) if bias_hn is None else bias_hn
        self.state_sizes = (weight_hh.shape[1],)

    def step(self, x: Array, *state: Array) -> tuple[Array, ...]:
        (h,) = state
        gate, f = (functools.partial(apply, function) for function in (self.recurrent_activation, self.activation))
        x_r, x_z, x_n = np.split(x @ self.weight_ih.T + self.bias, 3, axis=-1)
        u_r, u_z, u_n = np.split(self.weight_hh, 3)
        r, z = gate(x_r + h @ u_r.T), gate(x_z + h @ u_z.T)
        n = f(x_n + (r * (h @ u_n.T + self.bias_hn) if self.reset_after else (r * h) @ u_n.T))
        return ((1 - z) * n + z * h,)


class LSTM(Recurrent):
    """i, f, o = sigmoid(...), g = tanh(...), c_t = f c_{t-1} + i g, h_t = o tanh(c_t), step by step."""

    def __init__(
        self,
        weight_ih: Array,
        weight_hh: Array,
        bias: Array | None = None,
        *,
        peephole: Array | None = None,
        projection: Array | None = None,
        activation: "Activation" = "tanh",
        recurrent_activation: "Activation" = "sigmoid",
    ) -> None:
        self.weight_ih, self.weight_hh, self.projection = weight_ih, weight_hh, projection
        self.activation, self.recurrent_activation = activation, recurrent_activation
        self.bias = np.zeros(len(weight_hh), weight_hh.dtype) if bias is None else bias
        self.state_sizes = weight_hh.shape[1], len(weight_hh) // 4
        self.peephole = peephole

    def step(self, x: Array, *state: Array) -> tuple[Array, ...]:
        h, c = state
        gate, activation = (functools.partial(apply, function) for function in (self.recurrent_activation, self.activation))
        p = self.peephole
        i, f, g, o = np.split(x @ self.weight_ih.T + h @ self.weight_hh.T + self.bias, 4, axis=-1)
        if p is not None:
            i, f = i + p[0] * c, f + p[1] * c
        c = gate(f) * c + gate(i) * activation(g)
        h = gate(o if p is None else o + p[2] * c) * activation(c)
        return h if self.projection is None else h @ self.projection.T, c

    def __call__(  # type: ignore[override]
        self,
        x: Array,
        state: tuple[Array | None, ...] | None = None,
        *,
        lengths: Array | None = None,
        reset: Array | None = None,
        return_sequences: bool = True,
    ) -> tuple[Array, tuple[Array, ...]]:
        return self.run(x, state or (None, None), lengths, reset, return_sequences)


class Bidirectional:
    """One layer reads each sequence from its beginning, another from its end; their outputs are merged."""

    def __init__(self, forward: Recurrent, backward: Recurrent, *, merge: str = "concat") -> None:
        self.forward, self.backward, self.merge = forward, backward, merge

    def __call__(
        self, x: Array, state: Any = None, *, lengths: Array | None = None, reset: Array | None = None, return_sequences: bool = True
    ) -> tuple[Array, tuple[Any, Any]]:
        before, options = state or (None, None), {"lengths": lengths, "reset": reset, "return_sequences": return_sequences}
        forward, after_forward = self.forward(x, before[0], **options)  # type: ignore[arg-type]
        backward, after_backward = self.backward(backwards(x, lengths), before[1], **options)  # type: ignore[arg-type]
        if return_sequences:
            backward = backwards(backward, lengths)
        return MERGES[self.merge](forward, backward), (after_forward, after_backward)


def backwards(x: Array, lengths: Array | None) -> Array:
    """Reverse each sequence within its length; steps beyond stay in place."""
    steps = np.arange(x.shape[-2])
    ends = np.full(x.shape[:-2], len(steps)) if lengths is None else np.asarray(lengths)
    turned = np.where(steps < ends[..., None], ends[..., None] - 1 - steps, steps)
    return np.take_along_axis(x, turned[..., None], axis=-2)


MERGES: dict[str, Callable[[Array, Array], Array]] = {
    "concat": lambda one, other: np.concatenate([one, other], axis=-1),
    "sum": lambda one, other: one + other,
    "mean": lambda one, other: (one + other) / 2,
    "product": lambda one, other: one * other,
}


class Dense:
    """y_t = f(weight x_t + bias)."""

    def __init__(self, weight: Array, bias: Array | None = None, *, activation: "DenseActivation" = "identity") -> None:
        self.weight, self.activation = weight, activation
        self.bias = np.zeros(len(weight), weight.dtype) if bias is None else bias

    def __call__(self, x: Array) -> Array:
        return apply(self.activation, x.astype(self.weight.dtype) @ self.weight.T + self.bias)


class Embedding:
    """y_t = weight[token], the first layer of a model of tokens."""

    def __init__(self, weight: Array) -> None:
        self.weight = weight

    @classmethod
    def one_hot(cls, V: int) -> "Embedding":
        return cls(np.eye(V))

    def __call__(self, x: Array) -> Array:
        vectors: Array = self.weight[x]
        return vectors


class Sequential:
    """Layers one after the other. Without return_sequences, a last Bidirectional passes only its last output to the layers after it."""

    def __init__(self, *layers: Embedding | Recurrent | Bidirectional | Dense, return_sequences: bool = True) -> None:
        self.layers, self.return_sequences = layers, return_sequences

    def __call__(
        self,
        x: Array,
        state: Any = None,
        *,
        lengths: Array | None = None,
        reset: Array | None = None,
        return_sequences: bool | None = None,
    ) -> tuple[Array, tuple[Any, ...]]:
        return_sequences = self.return_sequences if return_sequences is None else return_sequences
        recurrent = [layer for layer in self.layers if isinstance(layer, Recurrent | Bidirectional)]
        if len(recurrent) == 1 and not (isinstance(state, (tuple, list)) and len(state) == 1):
            state = [state]
        before, after = iter(state or [None] * len(recurrent)), []
        for layer in self.layers:
            if isinstance(layer, Recurrent | Bidirectional):
                ends = not return_sequences and layer is recurrent[-1] and isinstance(layer, Bidirectional)
                steps = x.shape[-2]
                x, last = layer(x, next(before), lengths=lengths, reset=reset, return_sequences=not ends)
                if ends:
                    x, lengths = x[..., None, :], np.minimum(steps if lengths is None else lengths, 1)
                after.append(last)
            else:
                x = layer(x)
        return cut(x, lengths, return_sequences), tuple(after)


def rnn_forward(
    x: Array,
    U: Array,
    W: Array,
    V: Array,
    b: Array,
    *,
    c: Array | None = None,
    h0: Array | None = None,
    nonlinearity: "Activation" = "tanh",
) -> Array:
    """Return softmax(V s_t + c) for every step of s_t = f(U x_t + W s_{t-1} + b)."""
    output, _ = RNN(U, W, b, nonlinearity=nonlinearity)(x, h0)
    return Dense(V, c, activation="softmax")(output)


Model = Recurrent | Dense | Sequential


def run(model: Model, x: Array, state: Any, **options: Any) -> tuple[Array, Any]:
    """Return any model's output and state; a Dense layer's state is ()."""
    return (Sequential(model) if isinstance(model, Dense) else model)(x, state, **options)


class RowByRow(Dense):
    """A Dense that adds up each output in the same order: equal rows of the weight give equal outputs, which BLAS does not promise."""

    def __call__(self, x: Array) -> Array:
        x = x.astype(self.weight.dtype)
        output: Array = apply(self.activation, (x[..., None, :] * self.weight).sum(axis=-1) + self.bias)
        return output


def row_by_row(model: Model) -> Model:
    """Return the model with its last layer, if it is a Dense, replaced by a `RowByRow`, which makes ties exact."""
    *below, head = model.layers if isinstance(model, Sequential) else (model,)
    return Sequential(*below, RowByRow(head.weight, head.bias, activation=head.activation)) if isinstance(head, Dense) else model


def before_softmax(model: Model) -> Sequential:
    """Return the model without its last softmax: its outputs are the logits."""
    *below, head = model.layers if isinstance(model, Sequential) else (model,)
    assert isinstance(head, Dense)
    return Sequential(*below, type(head)(head.weight, head.bias))


def log_likelihood(model: Model, tokens: Array, state: Any = None, *, lengths: Array | None = None, per_step: bool = False) -> Array:
    """Return log P(x_2..x_T | x_1) = log P(x_2 | x_1) + log P(x_3 | x_1, x_2) + ...; steps past a sequence's end add zero."""
    logits, _ = before_softmax(model)(tokens[..., :-1], state)
    log_probs = log_softmax(logits.astype(np.float64))
    steps = np.where(one_hot(tokens[..., 1:], logits.shape[-1]), log_probs, 0).sum(axis=-1)
    if lengths is not None:
        steps = np.where(np.arange(1, 1 + steps.shape[-1]) < np.asarray(lengths)[..., None], steps, 0)
    return steps if per_step else steps.sum(axis=-1)


def choose(z: Array, u: Array, temperature: float, top_k: int | None) -> Array:
    """Return the first token whose cumulative probability under softmax(z / temperature) exceeds u.

    Only the top_k tokens count, and their probabilities are scaled to sum to one. They are ranked by their logits in the weights'
    dtype; of equal logits the lowest token comes first.
    """
    rank = np.argsort(np.argsort(-z, axis=-1, kind="stable"), axis=-1)
    z = z.astype(np.float64)
    powers = np.where(rank < (top_k or z.shape[-1]), np.exp((z - z.max(axis=-1, keepdims=True)) / temperature), 0)
    ends = powers.cumsum(axis=-1)
    return (ends > u[..., None] * ends[..., -1:]).argmax(axis=-1)


def generate(
    model: Model,
    start: Array,
    steps: int,
    state: Any = None,
    *,
    feedback: str = "sample",
    temperature: float = 1.0,
    top_k: int | None = None,
    rng: "np.random.Generator | int | None" = None,
    stop: int | None = None,
) -> tuple[Array, Any]:
    """Generate steps: each next input is the model's output, its argmax, or a token drawn from its softmax.

    The i-th sequence draws its uniform numbers before the first step, `rng.spawn(N)[i].random(steps)`, and uses one in each step. Of
    equal outputs, and of equal logits for top_k, the lowest token wins; equal rows of the last layer's weight and bias give equal
    outputs. Outputs that differ by less than rounding have no reliable order: another dtype or order of sums may choose another token.
    """
    x, steps, temperature = np.asarray(start), int(steps), float(temperature)
    model = row_by_row(model) if feedback != "output" else model
    leading = x.shape[:-1] if feedback == "output" else x.shape
    axis = len(leading)
    if feedback == "sample":
        model = before_softmax(model)
        uniform = np.array([child.random(steps) for child in np.random.default_rng(rng).spawn(x.size)]).reshape(*leading, steps)
    nothing, state = run(model, np.expand_dims(x, axis).repeat(0, axis), state)
    generated = np.empty((steps, *x.shape), nothing.dtype if feedback == "output" else np.int64)
    ended = np.zeros(leading, bool)
    for t in range(steps):
        x, state = run(model, np.expand_dims(x, axis), state, lengths=None if stop is None else 1 - ended, return_sequences=False)
        if feedback == "argmax":
            x = x.argmax(axis=-1)
        elif feedback == "sample":
            x = choose(x, uniform[..., t], temperature, top_k)
        if stop is not None:
            x = np.where(ended, stop, x)
            ended = x == stop
        generated[t] = x
    return np.moveaxis(generated, 0, axis), state


def unrolled(x: Array, U: Array, W: Array, b: Array, h0: Array | None = None, *, nonlinearity: "Activation" = "tanh") -> str:
    """Return the equations of a sequence (T, I) as text, a line for each step, with their numbers. All steps have the same U, W and b.

    >>> U, W, b = np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([[0.0, 1.0], [0.5, 0.0]]), np.array([0.0, -3.0])
    >>> print(unrolled(np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), U, W, b, nonlinearity="relu"))
    s_0 = relu(U x_0 + b) = relu([1. 4.] + [ 0. -3.]) = [1. 1.]
    s_1 = relu(U x_1 + W s_0 + b) = relu([3. 8.] + [1.  0.5] + [ 0. -3.]) = [4.  5.5]
    s_2 = relu(U x_2 + W s_1 + b) = relu([ 5. 12.] + [5.5 2. ] + [ 0. -3.]) = [10.5 11. ]
    """
    lines, h, name = [], h0, "h0"
    f, *parameters = (nonlinearity,) if isinstance(nonlinearity, str) else nonlinearity
    end = "".join(f", {parameter}" for parameter in parameters) + ")"
    for t, x_t in enumerate(x):
        terms = {f"U x_{t}": U @ x_t} | ({} if h is None else {f"W {name}": W @ h}) | {"b": b}
        h, name = apply(nonlinearity, np.sum(list(terms.values()), axis=0)), f"s_{t}"
        numbers = [np.array2string(value, precision=4, max_line_width=10**9) for value in (*terms.values(), h)]
        lines.append(f"{name} = {f}({' + '.join(terms)}{end} = {f}({' + '.join(numbers[:-1])}{end} = {numbers[-1]}")
    return "\n".join(lines)
