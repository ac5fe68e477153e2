"""Golden results: `python -m tests.golden tests/golden.npz` computes and saves them; without a file's name, nothing is done.

The inputs are quotients of integers, so they are the same on every machine. Made anew only where the expression trees change on purpose.
"""

import pathlib
import sys

import numpy as np

import fastrnn

FILE = pathlib.Path(__file__).with_name("golden.npz")
BATCH = 9
BATCHES = (1, 3, 4, BATCH)
STEPS = 3

MODELS = {
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
}


def numbers(shape, factor, bound, dtype):
    """Numbers in +-bound: k^2 factor modulo a prime, for k = 1, 2, ..."""
    k = np.arange(1, 1 + int(np.prod(shape)), dtype=np.int64)
    return ((k * k % 65521 * factor % 65521 / 65521 * 2 - 1) * bound).astype(dtype).reshape(shape)


def build(sizes, kinds, dtype):
    layers = []
    for inputs, outputs, (kind, function) in zip(sizes[:-1], sizes[1:], kinds, strict=True):
        bound = 1 / np.sqrt(outputs)
        weight, bias = numbers((outputs, inputs), 40503, 4 * bound, dtype), numbers((outputs,), 30011, 1.0, dtype)
        if kind == "RNN":
            layers.append(fastrnn.RNN(weight, numbers((outputs, outputs), 12345, bound, dtype), bias, nonlinearity=function))
        else:
            layers.append(fastrnn.Dense(weight, bias, activation=function))
    return fastrnn.Sequential(*layers)


def compute(batch):
    """Outputs of every model in both dtypes, of the first `batch` sequences."""
    results = {}
    for name, (sizes, kinds) in MODELS.items():
        hidden = [size for size, (kind, _) in zip(sizes[1:], kinds, strict=True) if kind == "RNN"]
        for dtype in (np.float32, np.float64):
            steps = 1 if max(sizes) == 500 else STEPS
            x = numbers((BATCH, steps, sizes[0]), 27644, 2.0, dtype)[:batch]
            states = [numbers((BATCH, size), 54321, 0.9, dtype)[:batch] for size in hidden]
            results[f"{name}-{np.dtype(dtype)}"] = build(sizes, kinds, dtype)(x, states)[0]
    return results


if __name__ == "__main__" and len(sys.argv) > 1:
    np.savez_compressed(sys.argv[1], **compute(BATCH))
