"""What the package may import, and that its version is said once."""

import ast
import re
import sys

import pytest

import fastrnn

from .process import PACKAGE, ROOT, python

KERNELS = sorted(set((PACKAGE / "kernels").glob("*.py")) - {PACKAGE / "kernels" / "__init__.py"})


def imports(path):
    """Every imported module, as (level, name)."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.level, f"{node.module or ''}.{alias.name}".strip(".")) for alias in node.names)


@pytest.mark.parametrize("path", KERNELS, ids=lambda path: path.stem)
def test_kernels_import_nothing_from_above(path):
    """A kernel's file imports from its own directory, from NumPy, Numba and the standard library."""
    for level, name in imports(path):
        assert level < 2
        assert level == 1 or not name.startswith("fastrnn")


def test_kernels_are_found():
    """There are kernels, and imports in them, for the test above to read."""
    assert {"network", "elman", "tile", "jit"} <= {path.stem for path in KERNELS}
    assert (1, "elman.recur") in imports(PACKAGE / "kernels" / "network.py")


LOADED = """
import sys
import numba, numba.extending
before = set(sys.modules)
import fastrnn
print(*{name.partition(".")[0] for name in set(sys.modules) - before})
"""


def test_import_is_light():
    """`import fastrnn` loads nothing outside the standard library but NumPy and Numba: the run-time dependencies."""
    loaded = set(python(LOADED).split())
    assert "fastrnn" in loaded
    assert loaded - set(sys.stdlib_module_names) <= {"fastrnn", "numba", "numpy", "llvmlite"}


def test_the_version_is_said_once():
    """The version stands in fastrnn/__init__.py, and in no other source nor in pyproject.toml."""
    files = [*PACKAGE.rglob("*.py"), *ROOT.glob("pyproject.toml")]
    said = [path.name for path in files if re.search(rf"version.*{re.escape(fastrnn.__version__)}", path.read_text())]
    assert said == ["__init__.py"]


def test_public_names():
    """__all__ lists the public names, and each is there."""
    names = ["Dense", "RNN", "Sequential", "Stream", "generate", "get_num_threads", "log_likelihood", "pad", "reference", "rnn_forward"]
    names += ["set_num_threads", "unpad"]
    assert sorted(fastrnn.__all__) == names
    for name in fastrnn.__all__:
        assert getattr(fastrnn, name).__doc__
