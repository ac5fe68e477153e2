"""python -m fastrnn."""

import json
import os
import subprocess
import sys

import pytest

from fastrnn.native import machine_code

from .exhaustive import exhaustive
from .process import PACKAGE, copy_package, own_cache, python


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
    path = copy_package(tmp_path) / "fastrnn" / "engine" / "packing.py"
    source, rows = path.read_text(), "0 if matrix is None else outputs"
    assert rows in source
    path.write_text(source.replace(rows, "0 if matrix is None or matrix.ndim == 1 else outputs"))  # no bias
    made = next(filter(machine_code.is_own, machine_code.caches()))  # for it follows from none of what is replaced
    finished = run_main(tmp_path, tmp_path, FASTRNN_CACHE_DIR=str(made))
    assert finished.returncode == 1, finished.stderr
    assert finished.stdout.endswith("The results DIFFER.\n")


EXAMPLES = """
import json, pathlib, sys
from fastrnn import __main__ as examples
from fastrnn.native import machine_code

asked, addresses = set(), machine_code.addresses

def ask(operations, dtype):
    operations = [*operations]
    asked.update((name, dtype if machine_code.OPERATIONS[name][1] else "") for name in operations)
    return addresses(operations, dtype)

machine_code.addresses = ask
examples.measure = lambda fast, loop, rounds: (1.0, 1.0)
directory, *sys.argv = sys.argv[1:]
assert examples.main() == 0
print(json.dumps([sorted(asked), sorted(path.name for path in pathlib.Path(directory).glob("*.bin"))]))
"""


@pytest.mark.parametrize(("threads", "options"), [pytest.param(2, [], marks=exhaustive), (1, ["--seed", "7"])])
def test_only_what_runs_is_compiled(tmp_path, threads, options):
    """On a machine without machine code the example compiles the operations that it runs, together, and no other."""
    path, directory = copy_package(tmp_path / "copy"), tmp_path / "code"
    printed = python(EXAMPLES, directory, "fastrnn", *options, **own_cache(directory, path), FASTRNN_NUM_THREADS=threads)
    asked, files = json.loads(printed.splitlines()[-1])
    assert files == sorted(machine_code.file_name(tuple(wanted), machine_code.target()) for wanted in asked)
    assert f"\nMachine code: {len(asked)} operations compiled now\n" in printed
    assert printed.count("  compiling ") == 1
