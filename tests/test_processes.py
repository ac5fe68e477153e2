"""Workers of every kind: they load machine code that one process made, or that one of them makes for all; none makes it again."""

import sys

import pytest

from .exhaustive import few
from .process import copy_package, finish, own_cache, start

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX only")

# A file, for workers that are started anew import what they run. Each says which process compiled, if it did.
SCRIPT = """
import concurrent.futures, hashlib, multiprocessing, os, sys, warnings
import numpy as np
import fastrnn
from fastrnn.native import machine_code

warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)  # by Python 3.12 and later: so it is
rng = np.random.default_rng(0)
weights = [rng.uniform(-0.3, 0.3, shape) for shape in ((24, 4), (24, 6), (24,))]
model, x = fastrnn.Sequential(fastrnn.LSTM(*weights)), rng.random((8, 30, 4))


def work(model, x):
    output = model.predict(x)
    compiled = "compiled now" in machine_code.loaded.origins.values()
    return hashlib.sha256(output.tobytes()).hexdigest(), os.getpid() if compiled else None, "numba" in sys.modules


def by_pool(method):
    with multiprocessing.get_context(method).Pool(2) as pool:
        return pool.starmap(work, [(model, x)] * 4, chunksize=1)


def by_executor(method):
    with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context(method)) as executor:
        return list(executor.map(work, [model] * 4, [x] * 4))


def by_joblib():
    import joblib
    with joblib.Parallel(n_jobs=2) as parallel:
        results = parallel(joblib.delayed(work)(model, x) for _ in range(4))
    joblib.externals.loky.get_reusable_executor().shutdown()
    return results


def by_ray():
    import ray, tempfile
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR", _temp_dir=directory)
        shared, remote = [ray.put(model), ray.put(x)], ray.remote(work)
        try:
            return ray.get([remote.remote(*shared) for _ in range(4)])
        finally:
            ray.shutdown()


if __name__ == "__main__":
    results = eval(sys.argv[1])
    here = work(model, x)
    print(len(results), {digest for digest, _, _ in results} == {here[0]})
    print(len({process for _, process, _ in [*results, here]} - {None}), any(numba for _, _, numba in results))
"""
METHODS = ("spawn", *([] if sys.platform == "win32" else ["fork", "forkserver"]))
WAYS = [
    *(f"by_pool({method!r})" for method in METHODS),
    *(f"by_executor({method!r})" for method in METHODS),
    "by_joblib()",
]


def check_workers(way, tmp_path, **environment):
    """Check that workers that start together give the same bits, and that one of them compiles for all."""
    package = copy_package(tmp_path / "package")
    (tmp_path / "workers.py").write_text(SCRIPT)
    launch = "import runpy, sys; runpy.run_path(sys.argv.pop(1), run_name='__main__')"
    process = start(launch, tmp_path / "workers.py", way, **own_cache(tmp_path / "cache", package), **environment)
    first, second = finish(process).splitlines()
    assert first == "4 True"
    assert second == "1 False"


@pytest.mark.parametrize("way", few(WAYS, "by_pool('spawn')"))
def test_workers_compile_once(way, tmp_path):
    """On a machine that has no machine code yet, workers that start together give the same bits, and one of them compiles for all."""
    check_workers(way, tmp_path)
