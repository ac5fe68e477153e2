"""What a new process pays before its first result, in seconds of the whole process."""

import os
import pathlib
import subprocess
import sys
import tempfile

import pytest

import fastrnn

FIRST_RESULT = """
import numpy as np
import fastrnn
model = fastrnn.Sequential(fastrnn.RNN(np.eye(64, 32, dtype="{0}"), np.eye(64, dtype="{0}")),
                           fastrnn.Dense(np.zeros((4, 64), "{0}"), activation="softmax"))
assert (model(np.ones((100, 32)))[0] == 0.25).all()
"""


def run(code, cache):
    tree = pathlib.Path(fastrnn.__file__).parents[1]
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "NUMBA_CACHE_DIR": cache}, cwd=tree, check=True)


def time_processes(benchmark, name, code, rounds, cache):
    """Time processes with the cache directory that cache() names."""
    benchmark.group, benchmark.name = "a new process", name
    benchmark.pedantic(run, setup=lambda: ((code, cache()), {}), rounds=rounds)


@pytest.mark.parametrize("module", ["numba", "fastrnn"])
def test_import(benchmark, module, tmp_path):
    """fastrnn compiles nothing at import."""
    run(f"import {module}", str(tmp_path))
    time_processes(benchmark, f"import {module}", f"import {module}", 5, lambda: str(tmp_path))
    assert not list(tmp_path.rglob("*.nb?"))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_first_result_compiled(benchmark, dtype, tmp_path):
    """An empty cache: the kernels are compiled."""
    code = FIRST_RESULT.format(dtype)
    time_processes(benchmark, f"first result, {dtype}, compiled", code, 3, lambda: tempfile.mkdtemp(dir=tmp_path))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_first_result_cached(benchmark, dtype, tmp_path):
    """A warm cache: the kernels are loaded."""
    code = FIRST_RESULT.format(dtype)
    run(code, str(tmp_path))
    time_processes(benchmark, f"first result, {dtype}, from the cache", code, 5, lambda: str(tmp_path))
