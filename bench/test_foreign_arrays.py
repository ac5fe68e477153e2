"""Libraries that only the benchmarks install. Each one's arrays work, or are refused with what to do; Ray's workers compile once."""

import importlib.util

import numpy as np
import polars
import pytest
import torch
import zarr

import fastrnn
from tests.test_processes import check_workers

X = np.random.default_rng(0).integers(-8, 8, (9, 2)) / 4
MODEL = fastrnn.RNN(np.ones((3, 2)), np.eye(3))
TAKEN = {
    "torch": torch.tensor(X),
    "torch's float16": torch.tensor(X, dtype=torch.float16),
    "torch's bfloat16": torch.tensor(X, dtype=torch.bfloat16),
    "polars": polars.DataFrame(X),
}


@pytest.mark.parametrize("kind", TAKEN)
def test_taken(kind):
    """What holds the same numbers gives the same bits."""
    np.testing.assert_array_equal(MODEL.predict(TAKEN[kind]), MODEL.predict(X))


REFUSED = {
    "a gradient": (
        lambda: MODEL(torch.tensor(X, requires_grad=True)),
        r"x must be a tensor that NumPy can read, got one that it can't; pass x.detach\(\): .*",
    ),
    "a gradient of bfloat16": (
        lambda: MODEL(torch.tensor(X, dtype=torch.bfloat16, requires_grad=True)),
        r"x must be a tensor that NumPy can read, got one that it can't; pass x.detach\(\).float\(\): .*",
    ),
    "a sparse tensor": (
        lambda: MODEL(torch.tensor(X).to_sparse()),
        r"x must be a tensor that NumPy can read, got one that it can't; pass x.to_dense\(\): .*",
    ),
    "a weight of bfloat16": (
        lambda: fastrnn.Dense(torch.ones(3, 2, dtype=torch.bfloat16)),
        r"weight must be a tensor that NumPy can read, got one that it can't; pass weight.float\(\): .*",
    ),
    "no memory": (
        lambda: MODEL(torch.tensor(X, device="meta")),
        r"x must be a tensor that NumPy can read, got one that it can't: .*",
    ),
    "words": (lambda: MODEL(polars.DataFrame({"a": ["x"], "b": [1.0]})), r"x must hold real numbers, got dtype object"),
    "zarr": (
        lambda: MODEL(zarr.array(X)),
        r"x must be an array in memory, got a zarr Array; pass x\[:\], or call fastrnn.dask.forward on a Dask array of it",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused(kind):
    """What NumPy can't or shouldn't read is refused with what to do."""
    call, text = REFUSED[kind]
    with pytest.raises(TypeError, match=f"^{text}$"):
        call()


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
def test_ray(tmp_path):
    """On a machine that has no machine code yet, Ray's workers give the same bits, and one of them compiles for all."""
    check_workers("by_ray()", tmp_path, RAY_AUTH_MODE="disabled", RAY_USAGE_STATS_ENABLED=0)
