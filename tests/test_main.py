"""python -m fastrnn."""

import subprocess
import sys

from .process import copy_package


def run_main(path):
    return subprocess.run([sys.executable, "-m", "fastrnn"], cwd=path, capture_output=True, text=True, timeout=120, check=False)


def test_main_agrees(tmp_path):
    """The example runs, and says that the results agree."""
    finished = run_main(copy_package(tmp_path))
    assert finished.returncode == 0, finished.stderr
    assert "2.1359486" in finished.stdout
    assert finished.stdout.endswith("The results agree.\n")


def test_main_sees_a_difference(tmp_path):
    """With a kernel that computes something else it says so, and exits with 1."""
    path = copy_package(tmp_path) / "fastrnn" / "kernels" / "elman.py"
    path.write_text(path.read_text().replace("tile = tile + second", "tile = tile - second"))
    finished = run_main(tmp_path)
    assert finished.returncode == 1, finished.stderr
    assert finished.stdout.endswith("The results DIFFER.\n")
