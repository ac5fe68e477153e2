"""Golden results: `python -m tests.golden tests/golden.npz` computes and saves them; without a file's name, nothing is done.

The inputs are quotients of integers, so they are the same on every machine. Made anew only where the expression trees change on purpose.
"""

import pathlib
import sys

import numpy as np

import fastrnn

from .cases import GOLDEN, gates_of

FILE = pathlib.Path(__file__).with_name("golden.npz")
BATCH = 9
BATCHES = (1, 3, 4, BATCH)
STEPS = 3


def numbers(shape, factor, bound, dtype):
    """Numbers in +-bound: k^2 factor modulo a prime, for k = 1, 2, ..."""
    k = np.arange(1, 1 + int(np.prod(shape)), dtype=np.int64)
    return ((k * k % 65521 * factor % 65521 / 65521 * 2 - 1) * bound).astype(dtype).reshape(shape)


def build(sizes, kinds, dtype):
    layers = []
    for inputs, outputs, (kind, form) in zip(sizes[:-1], sizes[1:], kinds, strict=True):
        bound = 1 / np.sqrt(outputs)
        if kind == "Dense":
            weight, bias = numbers((outputs, inputs), 40503, 4 * bound, dtype), numbers((outputs,), 30011, 1.0, dtype)
            layers.append(fastrnn.Dense(weight, bias, activation=form))
        else:
            layers.append(build_recurrent(kind, form, inputs, outputs, bound, dtype))
    return fastrnn.Sequential(*layers)


def build_recurrent(kind, form, inputs, outputs, bound, dtype):
    """Make a layer of its form: an RNN's function, or options, with sizes in place of arrays."""
    options = dict(form) if isinstance(form, dict) else {"nonlinearity": form}
    units = options.get("projection", outputs)
    rows = gates_of(kind) * units
    weights = [numbers((rows, inputs), 40503, 4 * bound, dtype), numbers((rows, outputs), 12345, bound, dtype)]
    weights.append(numbers((rows,), 30011, 1.0, dtype))
    if kind == "GRU" and options.get("reset_after", True):
        weights.append(numbers((units,), 20011, 1.0, dtype))
    if "peephole" in options:
        options["peephole"] = numbers((3, units), 35353, 0.7, dtype)
    if "projection" in options:
        options["projection"] = numbers((outputs, units), 51511, 1 / np.sqrt(units), dtype)
    if isinstance(options.get("leak"), tuple):
        options["leak"] = 0.55 + numbers(options["leak"], 17477, 0.4, dtype)
    return getattr(fastrnn, kind)(*weights, **options)


def first_state(layer, dtype):
    h = numbers((BATCH, layer.output_size), 54321, 0.9, dtype)
    return (h, numbers((BATCH, layer.hidden_size), 43211, 1.5, dtype)) if isinstance(layer, fastrnn.LSTM) else (h,)


def models(dtype):
    """Make every model."""
    return [build(sizes, kinds, dtype) for sizes, kinds in GOLDEN.values()]


def compute(batch):
    """Outputs of every model in both dtypes, of the first `batch` sequences, and the cells that an LSTM ends with."""
    results = {}
    for name, (sizes, kinds) in GOLDEN.items():
        for dtype in (np.float32, np.float64):
            model, steps = build(sizes, kinds, dtype), 1 if max(sizes) == 500 else STEPS
            x = numbers((BATCH, steps, sizes[0]), 27644, 2.0, dtype)[:batch]
            arrays = [[a[:batch] for a in first_state(layer, dtype)] for layer in model.layers if not isinstance(layer, fastrnn.Dense)]
            output, last = model(x, [entry if len(entry) > 1 else entry[0] for entry in arrays])
            results[f"{name}-{np.dtype(dtype)}"] = output
            cells = [entry[1] for entry in last if isinstance(entry, tuple)]
            if cells:
                results[f"{name}-c-{np.dtype(dtype)}"] = np.concatenate(cells, axis=-1)
    return results


if __name__ == "__main__" and len(sys.argv) > 1:
    np.savez_compressed(sys.argv[1], **compute(BATCH))
