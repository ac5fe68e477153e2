"""The one table of models with their references and sizes, the one table of tolerances, and random weights."""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

import fastrnn
from fastrnn import reference

DTYPES = (np.float32, np.float64)
FOLDED = fastrnn.layers.sequential.FOLDED

# Times max(1, max |reference|), against the reference in float64, for weights uniform in +-1/sqrt(H), with which steps shrink errors.
TOLERANCES = {
    np.dtype(np.float32): 1e-5,  # 84 eps: the errors of a sum of 500 roundings and of a step's own, carried over some steps
    np.dtype(np.float64): 1e-12,  # 4500 eps: the same, and the reference rounds as much as the kernel does
}


# What a kind of layer is called and made of: arrays of its state, and its forms with their options.
CELLS = {
    "RNN": (
        1,
        {
            "leaky": {"leak": 0.3},
            "leaky units": {"leak": True, "nonlinearity": "relu"},
            "leaky at the input": {"leak": 0.6, "leak_at": "input"},
            "leaky units at the input": {"leak": True, "leak_at": "input", "nonlinearity": ("elu", 0.6)},
        },
    ),
    "GRU": (
        1,
        {
            "after": {},
            "before": {"reset_after": False},
            "after, unusual": {"activation": ("elu", 0.6), "recurrent_activation": ("hard_sigmoid", 0.3, 0.4)},
            "before, unusual": {"activation": "relu", "recurrent_activation": "tanh", "reset_after": False},
        },
    ),
    "LSTM": (
        2,
        {
            "plain": {},
            "peephole": {"peephole": True},
            "projected": {"projection": True},
            "peephole, projected": {"peephole": True, "projection": True},
            "unusual": {"activation": "softsign", "recurrent_activation": ("hard_sigmoid", 0.3, 0.4)},
        },
    ),
}


@dataclass(frozen=True)
class Case:
    """A chain of layers, each a kind and its function or form, an Embedding of a table among them; sizes begins with the input's.

    A Bidirectional's form is how its outputs are merged, and the two layers; its size is that of one output.
    """

    name: str
    layers: tuple
    sizes: tuple
    sequential: bool = False
    bias: bool = True
    one_hot: bool = False  # an Embedding of one-hot vectors comes first
    looked_up: bool = False  # a table's rows are looked up although it is small enough to be multiplied with the next weights

    @property
    def causal(self):
        """Whether no output depends on later steps."""
        return not any(kind == "Bidirectional" for kind, _ in self.layers)

    @property
    def output_size(self):
        return self.sizes[-1] * width_of(*self.layers[-1])

    @property
    def chained(self):
        return self.sequential or self.one_hot or len(self.layers) > 1

    @property
    def tokens(self):
        return self.one_hot or self.layers[0][0] == "Embedding"

    def layer(self, dtype, *, sizes=None, seed=0):
        """The model in fastrnn."""
        model = self._build(fastrnn, dtype, sizes or self.sizes, seed)
        if self.looked_up:
            fastrnn.layers.sequential.FOLDED = 0
            try:
                pack(model)
            finally:
                fastrnn.layers.sequential.FOLDED = FOLDED  # not what it was before, which may be another thread's 0
        return model

    def reference(self, dtype, *, sizes=None, seed=0):
        """The same weights, rounded to dtype, in the float64 reference."""
        return self._build(reference, dtype, sizes or self.sizes, seed)

    def _build(self, library, dtype, sizes, seed):
        rng = np.random.default_rng(seed)
        computed = np.float64 if library is reference else dtype
        layers = [library.Embedding.one_hot(sizes[0])] if self.one_hot else []
        for (kind, form), (inputs, outputs) in zip(self.layers, self._widths(sizes), strict=True):
            scale = {"Dense": inputs, "Embedding": 1}.get(kind, outputs)

            def draw(*shape, scale=scale):
                return uniform(rng, shape, dtype, scale**-0.5).astype(computed)

            if kind == "Embedding":
                layers.append(library.Embedding(draw(inputs, outputs)))
            elif kind == "Dense":
                bias = draw(outputs) if self.bias else None
                layers.append(library.Dense(draw(outputs, inputs), bias, activation=form))
            elif kind == "Bidirectional":
                merge, *both = form
                directions = [self._recurrent(library, *one, draw, inputs, outputs) for one in both]
                layers.append(library.Bidirectional(*directions, merge=merge))
            else:
                layers.append(self._recurrent(library, kind, form, draw, inputs, outputs))
        return library.Sequential(*layers) if self.chained else layers[0]

    def _widths(self, sizes):
        """The inputs and the outputs of every layer, a Bidirectional's those of one direction."""
        doubled = [1, *(width_of(*layer) for layer in self.layers)]
        return [(below * width, above) for (below, above), width in zip(pairwise(sizes), doubled, strict=False)]

    def _recurrent(self, library, kind, form, draw, inputs, outputs):
        gates, (_, forms) = gates_of(kind), CELLS[kind]
        options, units = dict(forms.get(form, {"nonlinearity": form})), units_of(kind, form, outputs)
        bias = draw(gates * units) if self.bias else None
        weights = [draw(gates * units, inputs), draw(gates * units, outputs), bias]
        if kind == "GRU" and self.bias and form.startswith("after"):
            weights.append(draw(units))
        if options.get("peephole"):
            options["peephole"] = draw(3, units)
        if options.get("leak") is True:  # from below 1 to 1
            options["leak"] = np.minimum(1, np.abs(draw(units)) * units**0.5 + 0.25)
        if options.get("projection"):
            options["projection"] = draw(outputs, units)
        return getattr(library, kind)(*weights, **options)

    def data(self, dtype, leading, steps, *, sizes=None, seed=1):
        """Input (..., T, I), or tokens (..., T), and the arrays of every recurrent layer's state, one after the other, none zero."""
        rng = np.random.default_rng(seed)
        sizes = sizes or self.sizes
        shape = (*leading, steps)
        x = rng.integers(0, sizes[0], shape) if self.tokens else uniform(rng, (*shape, sizes[0]), dtype, 1.0)
        of_states = []
        for (kind, form), size in zip(self.layers, sizes[1:], strict=True):
            for cell, own in form[1:] if kind == "Bidirectional" else [(kind, form)]:
                of_states += [size, units_of(cell, own, size)][: CELLS[cell][0]] if cell in CELLS else []
        return x, tuple(uniform(rng, (*leading, size), dtype, 0.9) for size in of_states)


def pack(model):
    """Pack a model's weights, as its first call does, and give what it keeps of them."""
    return (model.packed if model.causal else model.staged)()


def width_of(kind, form):
    """How many times its size a layer's output has."""
    return 2 if kind == "Bidirectional" and form[0] == "concat" else 1


def gates_of(kind):
    """How many matrices are stacked in the weights of a kind of layer."""
    return getattr(fastrnn, kind)._gates


def units_of(kind, form, outputs):
    """How many units a layer of so many outputs has: a projection makes fewer outputs of them."""
    return 2 * outputs + 1 if kind == "LSTM" and form.endswith("projected") else outputs


LINE = ("hard_sigmoid", 0.7, 0.4)
MIXED = ("concat", ("GRU", "after"), ("LSTM", "peephole, projected"))
ELMANS = ("concat", ("RNN", "tanh"), ("RNN", "relu"))
CASES = [
    Case("rnn-tanh", (("RNN", "tanh"),), (7, 45)),
    Case("rnn-relu", (("RNN", "relu"),), (3, 130)),
    Case("rnn-sigmoid", (("RNN", "sigmoid"),), (33, 5)),
    Case("rnn-identity", (("RNN", "identity"),), (1, 64)),
    Case("rnn-no-bias", (("RNN", "tanh"),), (17, 128), bias=False),
    Case("rnn-one", (("RNN", "tanh"),), (2, 1)),
    Case("dense", (("Dense", "identity"),), (20, 31)),
    Case("dense-softmax", (("Dense", "softmax"),), (4, 77)),
    Case("dense-log-softmax", (("Dense", "log_softmax"),), (65, 33)),
    Case("dense-sigmoid", (("Dense", "sigmoid"),), (129, 18)),
    Case("dense-tanh", (("Dense", "tanh"),), (10, 3)),
    Case("dense-relu", (("Dense", "relu"),), (1, 9)),
    Case("dense-no-bias", (("Dense", "softmax"),), (6, 40), bias=False),
    Case("sequential-of-one", (("RNN", "tanh"),), (5, 36), sequential=True),
    Case("leaky", (("RNN", "leaky"),), (7, 45)),
    Case("leaky-units", (("RNN", "leaky units"),), (3, 70)),
    Case("leaky-input", (("RNN", "leaky at the input"),), (5, 33)),
    Case("leaky-input-units", (("RNN", "leaky units at the input"), ("Dense", "softmax")), (4, 130, 9)),
    Case("gru", (("GRU", "after"),), (7, 45)),
    Case("gru-before", (("GRU", "before"),), (9, 70)),
    Case("gru-unusual", (("GRU", "after, unusual"),), (5, 33)),
    Case("gru-before-unusual", (("GRU", "before, unusual"),), (3, 21)),
    Case("gru-no-bias", (("GRU", "after"),), (4, 128), bias=False),
    Case("lstm", (("LSTM", "plain"),), (7, 45)),
    Case("lstm-no-bias", (("LSTM", "plain"),), (3, 130), bias=False),
    Case("lstm-peephole", (("LSTM", "peephole"),), (6, 37)),
    Case("lstm-projected", (("LSTM", "projected"),), (5, 31)),
    Case("lstm-peephole-projected", (("LSTM", "peephole, projected"),), (2, 17)),
    Case("lstm-unusual", (("LSTM", "unusual"),), (8, 66)),
    Case("gru-softmax", (("GRU", "after"), ("Dense", "softmax")), (9, 70, 23), sequential=True),
    Case("lstm-lstm", (("LSTM", "plain"), ("LSTM", "plain"), ("Dense", "identity")), (6, 20, 35, 8)),
    Case("gru-projected-rnn", (("GRU", "before"), ("LSTM", "projected"), ("RNN", "tanh")), (6, 20, 12, 40)),
    Case("hard-sigmoid-softplus-softsign", (("RNN", "hard_sigmoid"), ("Dense", "softplus"), ("RNN", "softsign")), (12, 19, 35, 51)),
    Case("softplus-softsign-hard-sigmoid", (("RNN", "softplus"), ("Dense", "softsign"), ("Dense", "hard_sigmoid")), (4, 41, 16, 22)),
    Case("leaky-elu-line", (("RNN", ("leaky_relu", 0.3)), ("Dense", ("elu", 0.6)), ("RNN", LINE)), (13, 24, 67, 70)),
    Case("elu-line-leaky", (("RNN", ("elu", 1.3)), ("Dense", LINE), ("Dense", ("leaky_relu", -0.2))), (2, 34, 29, 6)),
    Case("bidirectional", (("Bidirectional", ELMANS),), (7, 45)),
    Case("bidirectional-sum", (("Bidirectional", ("sum", ("LSTM", "plain"), ("GRU", "before"))),), (9, 37)),
    Case("bidirectional-mean", (("Bidirectional", ("mean", ("RNN", "leaky at the input"), ("LSTM", "projected"))),), (5, 33)),
    Case("bidirectional-product", (("Bidirectional", ("product", ("GRU", "after"), ("RNN", "tanh"))),), (3, 130), bias=False),
    Case("bidirectional-softmax", (("Bidirectional", MIXED), ("Dense", "softmax")), (4, 20, 33)),
    Case("dense-bidirectional", (("Dense", "tanh"), ("Bidirectional", MIXED)), (4, 20, 13)),
    Case(
        "bidirectional-dense-bidirectional-rnn",
        (("Bidirectional", ELMANS), ("Dense", "tanh"), ("Bidirectional", MIXED), ("RNN", "tanh")),
        (6, 20, 9, 33, 12),
    ),
    Case("rnn-bidirectional-bidirectional", (("RNN", "tanh"), ("Bidirectional", MIXED), ("Bidirectional", ELMANS)), (6, 20, 13, 7)),
    Case("rnn-softmax", (("RNN", "tanh"), ("Dense", "softmax")), (9, 150, 23)),
    Case("rnn-rnn-log-softmax", (("RNN", "relu"), ("RNN", "tanh"), ("Dense", "log_softmax")), (11, 66, 37, 101)),
    Case("dense-rnn-dense", (("Dense", "sigmoid"), ("RNN", "sigmoid"), ("Dense", "identity")), (6, 14, 90, 2)),
]
TABLES = [
    Case("table-bidirectional", (("Embedding", None), ("Bidirectional", MIXED), ("Dense", "softmax")), (12, 9, 35, 7)),
    Case("table-dense-bidirectional", (("Embedding", None), ("Dense", "tanh"), ("Bidirectional", ELMANS)), (11, 9, 35, 7)),
    Case("table-rnn", (("Embedding", None), ("RNN", "tanh")), (19, 7, 45)),
    Case("table-dense", (("Embedding", None), ("Dense", "softmax")), (5, 70, 33)),
    Case("table-of-one", (("Embedding", None), ("RNN", "sigmoid")), (1, 1, 5), bias=False),
    Case("table-rnn-rnn-softmax", (("Embedding", None), ("RNN", "tanh"), ("RNN", "relu"), ("Dense", "softmax")), (131, 130, 66, 9, 21)),
    Case("table-gru", (("Embedding", None), ("GRU", "after"), ("Dense", "softmax")), (12, 9, 70, 5)),
    Case("table-lstm", (("Embedding", None), ("LSTM", "peephole, projected")), (7, 33, 21)),
    Case("table-leaky", (("Embedding", None), ("RNN", "leaky at the input")), (7, 5, 40)),
    Case("table-dense-rnn", (("Embedding", None), ("Dense", "tanh"), ("RNN", "tanh")), (50, 200, 3, 17)),
]
BEHIND_ONE_HOT = (
    "rnn-tanh", "rnn-no-bias", "dense", "dense-softmax", "leaky-units", "leaky-input-units", "gru-no-bias", "gru-before", "lstm",
    "lstm-peephole-projected", "lstm-unusual", "rnn-rnn-log-softmax", "dense-rnn-dense", "bidirectional", "dense-bidirectional",
)  # fmt: skip
# Models of tokens: of one-hot vectors before other layers, and of a table's rows.
READERS = [
    *(replace(case, name=f"one-hot-{case.name}", one_hot=True) for case in CASES if case.name in BEHIND_ONE_HOT),
    *TABLES,
    *(replace(case, name=f"looked-up-{case.name}", looked_up=True) for case in TABLES),
    Case("table-alone", (("Embedding", None),), (23, 90), sequential=True),
]
# The models of the golden results (golden.py): their sizes, and the layers, each a kind and its function, or options with sizes in place
# of arrays.
GOLDEN = {
    "tanh-5": ((6, 5), (("RNN", "tanh"),)),
    "tanh-64": ((17, 64), (("RNN", "tanh"),)),
    "tanh-130": ((33, 130), (("RNN", "tanh"),)),
    "relu-37": ((5, 37), (("RNN", "relu"),)),
    "sigmoid-66": ((3, 66), (("RNN", "sigmoid"),)),
    "identity-17": ((1, 17), (("RNN", "identity"),)),
    "dense-none-33": ((64, 33), (("Dense", "identity"),)),
    "dense-log-softmax-130": ((31, 130), (("Dense", "log_softmax"),)),
    "dense-sigmoid-21": ((130, 21), (("Dense", "sigmoid"),)),
    "dense-tanh-40": ((9, 40), (("Dense", "tanh"),)),
    "dense-relu-7": ((16, 7), (("Dense", "relu"),)),
    "hard-sigmoid-12": ((11, 12), (("RNN", "hard_sigmoid"),)),
    "softplus-43": ((7, 43), (("RNN", "softplus"),)),
    "softsign-19": ((2, 19), (("RNN", "softsign"),)),
    "leaky-relu-34": ((13, 34), (("RNN", ("leaky_relu", 0.1)),)),
    "elu-53": ((10, 53), (("RNN", ("elu", 1.3)),)),
    "line-29": ((3, 29), (("RNN", ("hard_sigmoid", 0.3, 0.45)),)),
    "dense-softplus-39": ((24, 39), (("Dense", "softplus"),)),
    "dense-elu-22": ((18, 22), (("Dense", ("elu", 0.6)),)),
    "model-500": ((4, 65, 500), (("RNN", "tanh"), ("Dense", "softmax"))),
    "gru-37": ((5, 37), (("GRU", {}),)),
    "gru-64": ((17, 64), (("GRU", {}),)),
    "gru-before-45": ((9, 45), (("GRU", {"reset_after": False}),)),
    "gru-before-64": ((6, 64), (("GRU", {"reset_after": False}),)),
    "gru-unusual-21": ((3, 21), (("GRU", {"activation": ("elu", 0.6), "recurrent_activation": ("hard_sigmoid", 0.3, 0.4)}),)),
    "gru-before-unusual-19": (
        (8, 19),
        (("GRU", {"reset_after": False, "activation": "softsign", "recurrent_activation": "hard_sigmoid"}),),
    ),
    "lstm-41": ((7, 41), (("LSTM", {}),)),
    "lstm-64": ((12, 64), (("LSTM", {}),)),
    "lstm-peephole-35": ((4, 35), (("LSTM", {"peephole": 35}),)),
    "lstm-peephole-64": ((5, 64), (("LSTM", {"peephole": 64}),)),
    "lstm-projected-22": ((10, 22), (("LSTM", {"projection": 45}),)),
    "lstm-projected-64": ((3, 64), (("LSTM", {"projection": 128}),)),
    "lstm-both-13": ((2, 13), (("LSTM", {"peephole": 30, "projection": 30}),)),
    "lstm-unusual-26": ((6, 26), (("LSTM", {"activation": "softplus", "recurrent_activation": ("hard_sigmoid", 0.3, 0.4)}),)),
    "leaky-43": ((11, 43), (("RNN", {"leak": 0.3}),)),
    "leaky-64": ((2, 64), (("RNN", {"leak": 0.3}),)),
    "leaky-input-38": ((5, 38), (("RNN", {"leak": 0.6, "leak_at": "input"}),)),
    "leaky-input-64": ((3, 64), (("RNN", {"leak": 0.6, "leak_at": "input"}),)),
    "leaky-units-27": ((4, 27), (("RNN", {"leak": (27,), "nonlinearity": "relu"}),)),
    "leaky-input-units-18": ((6, 18), (("RNN", {"leak": (18,), "leak_at": "input", "nonlinearity": ("elu", 0.6)}),)),
    "gru-lstm-softmax-20": ((6, 30, 24, 20), (("GRU", {}), ("LSTM", {}), ("Dense", "softmax"))),
}


def case_named(name, cases=CASES):
    """Return the one case of that name."""
    (case,) = (case for case in cases if case.name == name)
    return case


MODEL = case_named("rnn-rnn-log-softmax")  # two states and a softmax: where one model is enough


def uniform(rng, shape, dtype, bound):
    return rng.uniform(-bound, bound, shape).astype(dtype)


def run(model, x, states=(), **options):
    """Output and last states of any model in either library; states are the arrays of all layers' states, one after the other."""
    if type(model).__name__ in ("Dense", "Embedding"):
        return model(x, **options), ()
    output, last = model(x, nested(model, states) if states else None, **options)
    return output, flat(last)


def nested(model, states):
    """Put the arrays of states together as a model takes them."""
    rest = iter(states)
    entries = tuple(entry_of(layer, rest) for layer in getattr(model, "layers", [model]) if arrays_of(layer))
    assert not list(rest)
    return entries[0] if entries and not hasattr(model, "layers") else entries


def entry_of(layer, arrays):
    """Put the next arrays together as a layer takes them."""
    if type(layer).__name__ == "Bidirectional":
        return entry_of(layer.forward, arrays), entry_of(layer.backward, arrays)
    return next(arrays) if arrays_of(layer) == 1 else tuple(next(arrays) for _ in range(arrays_of(layer)))


def arrays_of(layer):
    """How many arrays a layer's state has."""
    if type(layer).__name__ == "Bidirectional":
        return arrays_of(layer.forward) + arrays_of(layer.backward)
    return CELLS[type(layer).__name__][0] if type(layer).__name__ in CELLS else 0


def flat(state):
    """Take a state apart into its arrays."""
    return tuple(array for entry in state for array in flat(entry)) if isinstance(state, tuple) else (state,)


def assert_close(actual, expected, dtype):
    """Agree with the reference within the dtype's tolerance; inf and NaN in the same places."""
    finite = np.abs(expected[np.isfinite(expected)])
    bound = TOLERANCES[np.dtype(dtype)] * max(1.0, finite.max(initial=0.0))
    assert actual.dtype == dtype
    np.testing.assert_allclose(actual, expected, rtol=0, atol=bound)


def assert_same_bits(actual, expected):
    """The same bits, but for those of a NaN, and the same shape and dtype."""
    assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype)
    if actual.tobytes() != expected.tobytes():
        np.testing.assert_array_equal(actual, expected)
        numbers = ~np.isnan(expected)
        np.testing.assert_array_equal(np.signbit(actual[numbers]), np.signbit(expected[numbers]), "the sign of a zero")


def assert_same_results(actual, expected):
    """Bit for bit the same output and last states."""
    assert_same_bits(actual[0], expected[0])
    for one, other in zip(actual[1], expected[1], strict=True):
        assert_same_bits(one, other)
