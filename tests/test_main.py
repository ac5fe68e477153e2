"""python -m fastrnn."""

import os
import subprocess
import sys

from fastrnn import native

from .process import PACKAGE, copy_package


def run_main(path, directory, **environment):
    environment = {**os.environ, "PYTHONPATH": str(path), **environment}
    command = [sys.executable, "-P", "-m", "fastrnn"]
    return subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_main_agrees(tmp_path):
    """The example runs, and says that the results agree."""
    finished = run_main(PACKAGE.parent, tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert "2.1359486" in finished.stdout
    assert finished.stdout.endswith("The results agree.\n")


def test_main_sees_a_difference(tmp_path):
    """Where fastrnn computes something else it says so, and exits with 1."""
    path = copy_package(tmp_path) / "fastrnn" / "packing.py"
    source, rows = path.read_text(), "0 if matrix is None else outputs"
    assert rows in source
    path.write_text(source.replace(rows, "0 if matrix is None or matrix.ndim == 1 else outputs"))  # no bias
    made = next(filter(native.is_own, native.caches()))  # for it follows from none of what is replaced
    finished = run_main(tmp_path, tmp_path, FASTRNN_CACHE_DIR=str(made))
    assert finished.returncode == 1, finished.stderr
    assert finished.stdout.endswith("The results DIFFER.\n")
