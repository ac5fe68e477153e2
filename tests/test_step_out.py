"""Steps of streams and banks write to any array that `out` may be."""

import pickle

import numpy as np
import pytest

from .cases import MODEL, assert_same_bits


class Subclass(np.ndarray):
    pass


def mapped(array, path):
    return np.memmap(path / "out", array.dtype, "w+", shape=array.shape)


KINDS = {
    "plain": lambda array, path: array,
    "of a subclass": lambda array, path: array.view(Subclass),
    "unpickled": lambda array, path: pickle.loads(pickle.dumps(array)),
    "with metadata": lambda array, path: array.view(np.dtype(array.dtype, metadata={"unit": "V"})),
    "in a file": mapped,
}


@pytest.mark.parametrize("reset", [None, [True, False, True]])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_any_array_receives_a_step(kind, reset, tmp_path):
    """It is returned and holds the output, also where some sequences are reset."""
    model, (x, _) = MODEL.layer(np.float64), MODEL.data(np.float64, (3,), 2)
    stream, bank = model.stream(), model.streams(3)
    rows = [bank.add() for _ in range(3)]
    expected = [model.stream() for _ in range(3)]
    for one, row in zip(expected, x, strict=True):
        one.step(row[0])
    stream.step(x[:, 0])
    bank.step(x[:, 0], at=rows)
    right = np.array(
        [one.step(row[1], reset=None if reset is None else reset[i]) for i, (one, row) in enumerate(zip(expected, x, strict=True))]
    )
    for step in (stream.step, lambda x, **options: bank.step(x, at=rows, **options)):
        out = kind(np.full_like(right, 5), tmp_path)
        assert step(x[:, 1], reset=reset, out=out) is out
        assert_same_bits(np.array(out, np.float64), right)


def test_booleans_inside_of_out():
    """A reset whose booleans lie in out is refused, by a stream and by a bank: the output would be written over them."""
    model, (x, _) = MODEL.layer(np.float64), MODEL.data(np.float64, (3,), 1)
    out, bank = np.zeros((3, model.output_size)), model.streams(3)
    stream, rows = model.stream(), [bank.add() for _ in range(3)]
    reset = out.view(bool)[0, :3]
    stream.step(x[:, 0])
    for step in (stream.step, lambda x, **options: bank.step(x, at=rows, **options)):
        with pytest.raises(ValueError, match=r"^out must share no memory with reset"):
            step(x[:, 0], reset=reset, out=out)
