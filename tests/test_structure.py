"""What the package may import, how long functions and files are, and that README's table names every module and its tests."""

import ast
import importlib
import itertools
import pathlib
import re
import sys

import numpy as np
import pytest

import fastrnn
from fastrnn.kernels import layout
from fastrnn.layers.recurrent import RECURRENT

from . import cases, golden, situations
from .cases import CASES, CELLS
from .process import PACKAGE, ROOT, python

KERNELS = sorted(path for path in (PACKAGE / "kernels").rglob("*.py") if path.stem != "__init__")


def imports(path):
    """Every imported module, as (level, name)."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.level, f"{node.module or ''}.{alias.name}".strip(".")) for alias in node.names)


@pytest.mark.parametrize("path", KERNELS, ids=lambda path: path.stem)
def test_kernels_import_nothing_from_above(path):
    """A kernel's file imports from the kernels, from NumPy, Numba and the standard library."""
    for level, name in imports(path):
        assert level <= len(path.relative_to(PACKAGE / "kernels").parts)
        assert level or not name.startswith("fastrnn")


def test_imports_are_found():
    """There are kernels, and imports in them, for the tests around to read."""
    assert {"network", "elman", "tile", "options"} <= {path.stem for path in KERNELS}
    assert (1, "options.operation") in imports(PACKAGE / "kernels" / "network.py")


def test_the_layout_needs_no_compiler():
    """What Python and kernels agree on imports NumPy and the standard library alone."""
    names = {name.partition(".")[0] for _, name in imports(PACKAGE / "kernels" / "layout.py")}
    assert {"numpy"} < names <= {"numpy", *sys.stdlib_module_names}


@pytest.mark.parametrize(
    "path", [path for place in (".", "engine", "native") for path in sorted((PACKAGE / place).glob("*.py"))], ids=lambda path: path.stem
)
def test_only_compiling_needs_the_compiler(path):
    """Every kernel's file is imported by codegen.py alone, Numba also by what users compile, llvmlite by what loads code or asks LLVM."""
    names = {name for _, name in imports(path)}
    kernels = {name.split(".")[1] for level, name in imports(path) if level and name.startswith("kernels.")}
    assert path.stem in ("codegen", "compiled_forward", "jit", "overloads") or not any(name.startswith("numba") for name in names)
    compilers = {"codegen", "compiled_forward", "jit", "linking", "machine_code", "overloads", "processor"}
    assert path.stem in compilers or not any(name.startswith("llvmlite") for name in names)
    assert kernels <= ({"layout", "options"} if path.stem == "codegen" else {"layout"})


LOADED = """
import sys
import numpy, numpy.random, numpy.typing
before = set(sys.modules)
import fastrnn
print(*{name.partition(".")[0] for name in set(sys.modules) - before})
"""


def test_import_is_light():
    """`import fastrnn` loads nothing outside the standard library but NumPy, and llvmlite for its version."""
    loaded = set(python(LOADED).split())
    assert "fastrnn" in loaded
    assert loaded - set(sys.stdlib_module_names) <= {"fastrnn", "numpy", "llvmlite"}


def test_loaders_are_imported_when_used():
    """Who runs a network doesn't wait for what reads the formats of others."""
    script = """
import sys, fastrnn
print([name for name in sys.modules if name.startswith("fastrnn.loading")], set(fastrnn.__all__) <= set(dir(fastrnn)))
print(all(callable(getattr(fastrnn, name)) for name in fastrnn.LOADERS), hasattr(fastrnn, "from_nothing"))
"""
    assert python(script) == "[] True\nTrue False\n"


FILES = sorted(PACKAGE.rglob("*.py"))
# Floors of the package, the lowest first: a file imports from its own floor and from those below.
FLOORS = ("kernels", "arguments", "frozen", "reference", "native", "engine", "layers", "")
# What methods of a model make, from above: two as types alone, one imported when it is called.
UP = {("layers.base", "streaming"), ("layers.base", "banks"), ("layers.base", "jit")}


def name_of(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def arrows():
    """Every import inside the package, wherever it stands: the importing module and the imported one."""
    modules = {name_of(path) for path in FILES}
    for path in FILES:
        package = path.relative_to(PACKAGE).parent.parts
        for level, name in imports(path):
            if level:
                full = ".".join([*package[: len(package) - level + 1], name])
                while full and full not in modules:
                    full = full.rpartition(".")[0]
                if full and full != name_of(path):
                    yield name_of(path), full


def floor_of(module):
    first = module.partition(".")[0]
    return FLOORS.index(first if first in FLOORS else "")


def test_nothing_imports_from_above():
    """No file imports from a floor above its own, but that a model's stream(), streams() and jit() do when they are called."""
    found = {*arrows()}
    assert found >= UP | {("engine.plan", "native.machine_code"), ("banks", "streaming")}
    assert {(one, other) for one, other in found if floor_of(other) > floor_of(one)} == UP


def test_no_circle():
    """Files don't import one another in a circle."""
    below = {name_of(path): set() for path in FILES}
    for one, other in {*arrows()} - UP:
        below[one].add(other)
    while below:
        free = {name for name, needs in below.items() if not needs & below.keys()}
        assert free, sorted(below)
        below = {name: needs for name, needs in below.items() if name not in free}


def functions(source):
    """Every function in a source: its name, its lines without the docstring, and its parameters."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            said = node.body[0] if ast.get_docstring(node) else None
            lines = node.end_lineno - node.lineno + 1 - (said.end_lineno - said.lineno + 1 if said else 0)
            kinds = node.args
            parameters = [*kinds.posonlyargs, *kinds.args, *kinds.kwonlyargs, *filter(None, (kinds.vararg, kinds.kwarg))]
            yield node.name, lines, len(parameters)


# Public signatures, and their compiled equals
MANY_PARAMETERS = {
    "compiled_forward": ["compiled", "run"],
    "functional": ["rnn_forward"],
    "overloads": ["overloaded"],
    "reference": ["generate"],
    "sequences": ["generate"],
    "sklearn": ["__init__"],
}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_functions_are_short(path):
    """No function is longer than 50 lines, its docstring aside; only public ones have more than eight parameters."""
    measured = list(functions(path.read_text()))
    assert [name for name, lines, _ in measured if lines > 50] == []
    assert [name for name, _, parameters in measured if parameters > 8] == MANY_PARAMETERS.get(name_of(path), [])


MEASURED = '''
def f(a, /, b, *c, d, e=(), **g):
    """Do this.

    And that.
    """
    a = b
    return c
'''


def test_functions_are_measured():
    """A docstring counts for nothing, and every kind of parameter as one."""
    assert list(functions(MEASURED)) == [("f", 3, 6)]


def test_the_version_is_said_once():
    """The version stands in fastrnn/__init__.py, and in no other source nor in pyproject.toml."""
    files = [*PACKAGE.rglob("*.py"), *ROOT.glob("pyproject.toml")]
    said = [path.name for path in files if re.search(rf"version.*{re.escape(fastrnn.__version__)}", path.read_text())]
    assert said == ["__init__.py"]


def test_public_names():
    """__all__ lists the public names, and each is there."""
    layers = [kind.__name__ for kind in fastrnn.layers.LAYERS]
    assert {"Bidirectional", "Dense", "Embedding", "GRU", "LSTM", "RNN", "Sequential"} <= {*layers}
    classes = ["Bank", "Model", "Stream", *layers]
    loaders = ["from_keras", "from_onnx", "from_state_dict", "from_torch", "load", "save"]
    functions = ["compile", "generate", "get_num_threads", "log_likelihood", "pad", "rnn_forward", "set_num_threads", "unpad"]
    names = sorted([*classes, *loaders, *functions, "reference"])
    assert sorted(fastrnn.__all__) == names
    for name in fastrnn.__all__:
        assert getattr(fastrnn, name).__doc__


TABLES_OF_CASES = {name for module in (cases, situations) for name, value in vars(module).items() if isinstance(value, list)}


def taken_by_position(source):
    """Return each table of cases of which a source takes some by a position or a slice."""
    nodes = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Subscript)]
    return [node.id for node in nodes if isinstance(node, ast.Name) and node.id in TABLES_OF_CASES]


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("*.py")), ids=lambda path: path.stem)
def test_cases_are_taken_by_name(path):
    """A case that is added to a table, or moved in it, changes no test of another one."""
    assert taken_by_position(path.read_text()) == []


def test_positions_are_found():
    """An index and a slice are seen; the index of what is no table of cases is not."""
    assert taken_by_position("TELLERS[2]; CASES[:-1]; sizes[0]") == ["TELLERS", "CASES"]


@pytest.mark.parametrize(
    "path", sorted([*(ROOT / "tests").rglob("*.py"), *(ROOT / "bench").rglob("test_*.py")]), ids=lambda path: path.stem
)
def test_test_files_are_short(path):
    """No file of tests is longer than 800 lines."""
    assert len(path.read_text().splitlines()) <= 800


def test_no_layer_is_forgotten():
    """Every layer that has a cell is in RECURRENT of layers/recurrent.py, and every layer of LAYERS is public in fastrnn.layers."""
    modules = [importlib.import_module(f"fastrnn.layers.{path.stem}") for path in (PACKAGE / "layers").glob("*.py")]
    made = {kind for module in modules for kind in vars(module).values() if isinstance(kind, type) and "_gates" in vars(kind)}
    assert made == {*RECURRENT}
    assert {kind.__name__ for kind in fastrnn.layers.LAYERS} <= {*fastrnn.layers.__all__}


def test_every_cell_is_run():
    """Each layer that has a cell is in tests/cases.py, and each row of the engine's cells is run by a case and a golden result."""
    assert {*CELLS} == {kind.__name__ for kind in RECURRENT}
    for models in ([case.layer(np.float32) for case in CASES if case.causal], golden.models(np.float32)):
        cells = {part.kind for model in models for part in model._parts()}
        assert cells >= {*layout.CELLS}


def table_of_files():
    """Return README's table of files: of each row the paths that it is about, and the names of its tests."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith("| files |"))
    rows = []
    for line in itertools.takewhile(lambda line: line.startswith("|"), lines[begin + 2 :]):
        first, _, tests = (re.findall("`([^`]+)`", cell) for cell in line.strip("|").split("|"))
        folder = pathlib.PurePosixPath(first[0]).parent
        rows.append(([name if name.startswith(("fastrnn/", "tests/", "bench/")) else f"{folder}/{name}" for name in first], tests))
    return rows


def test_every_module_is_in_the_table():
    """README's table names each module of the package, or the folder that it is in, and nothing that isn't there."""
    named = {path for paths, _ in table_of_files() for path in paths}
    assert all((ROOT / path).exists() for path in named)
    for module in (path.relative_to(ROOT) for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"):
        assert module.as_posix() in named or any(f"{folder.as_posix()}/" in named for folder in module.parents), module


def test_every_module_has_tests():
    """Each row of that table names tests, and each is there."""
    for paths, tests in table_of_files():
        assert tests, paths
        for name in tests:
            assert (ROOT / (name if "/" in name else f"tests/test_{name}.py")).exists(), name
