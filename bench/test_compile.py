"""Seconds of a whole new process, up to its import or to its first result."""

import subprocess
import sys
import tempfile

import pytest

from bench.startup import TREE, environment

FIRST_RESULT = """
import numpy as np
import fastrnn
model = fastrnn.Sequential(fastrnn.RNN(np.eye(64, 32, dtype="{0}"), np.eye(64, dtype="{0}")),
                           fastrnn.Dense(np.zeros((4, 64), "{0}"), activation="softmax"))
assert (model(np.ones((100, 32)))[0] == 0.25).all()
"""


def run(code, cache):
    subprocess.run([sys.executable, "-c", code], env=environment(cache), cwd=TREE, check=True)


def time_processes(benchmark, name, code, rounds, cache):
    """Time processes with the cache directory that cache() returns."""
    benchmark.group, benchmark.name = "a new process", name
    benchmark.pedantic(run, setup=lambda: ((code, cache()), {}), rounds=rounds)


@pytest.mark.parametrize("module", ["numpy", "fastrnn"])
def test_import(benchmark, module, tmp_path):
    """Importing fastrnn compiles nothing: the cache holds no file."""
    run(f"import {module}", tmp_path)
    time_processes(benchmark, f"import {module}", f"import {module}", 5, lambda: tmp_path)
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_first_result_compiled(benchmark, dtype, tmp_path):
    """With an empty cache the kernels are compiled."""
    code = FIRST_RESULT.format(dtype)
    time_processes(benchmark, f"first result, {dtype}, compiled", code, 3, lambda: tempfile.mkdtemp(dir=tmp_path))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_first_result_cached(benchmark, dtype, tmp_path):
    """With a filled cache the machine code is loaded."""
    code = FIRST_RESULT.format(dtype)
    run(code, tmp_path)
    time_processes(benchmark, f"first result, {dtype}, from the cache", code, 5, lambda: tmp_path)
