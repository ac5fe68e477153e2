"""A file of machine code is named by the sources that it follows from, by all of them and by no others."""

import json
import sys

import pytest

from fastrnn.kernels.layout import CELLS, KERNELS, OPERATIONS
from fastrnn.native import codegen, graph, sources
from fastrnn.native.imports import IMPORTS

from .process import copy_package, own_cache, python
from .test_structure import imports

ALL = set(OPERATIONS)
ACTIVATIONS = {"tanh", "relu", "sigmoid", "hard_sigmoid", "softplus", "softsign", "leaky_relu", "elu", "clipped_line"}
GATED = {"gru", "gru_reset_before", "lstm", "lstm_projected"}
LAYERS = {*CELLS, *(cell.enter for cell in CELLS.values() if cell.enter)}
CHOICES = {"score", "argmax", "sample", "repeat", "leave"}
TEAM = {"run_shared", "claim", "barrier", "divide", "share"}
MOVES = {"step_rows", "take_rows", "put_rows"}
ENTRY = {"call", "checked_call", "advance", "advance_rows", "hold"}
VECTORS = LAYERS | ACTIVATIONS | CHOICES | {"softmax", "log_softmax", "pack", "product", "project", "embed", "look_up"}
VECTORS |= {"merge_sum", "merge_mean", "merge_product"}

# By files: the operations whose code follows from them
DEPENDENTS = {
    "kernels/each.py": {"each"},
    "kernels/softmax.py": {"softmax", "log_softmax"},
    "kernels/choice.py": CHOICES,
    "kernels/network.py": ALL - LAYERS - ACTIVATIONS - ENTRY - {"softmax", "log_softmax", "pack", "product"},
    "kernels/cells/lstm.py": {"lstm", "lstm_projected"},
    "kernels/cells/elman.py": {"elman"},
    "kernels/cells/recurrent.py": LAYERS,
    "kernels/cells/__init__.py": LAYERS,
    "kernels/simd/elementary.py": ACTIVATIONS | GATED | CHOICES | {"softmax", "log_softmax"},
    "kernels/simd/tile.py": VECTORS,
    "kernels/threads/workers.py": {"work"},
    "kernels/threads/team.py": TEAM | MOVES | {"work"},
    "kernels/threads/atomic.py": TEAM | MOVES | ENTRY | {"work"},
    "kernels/__init__.py": ALL,
    "kernels/layout.py": ALL,
    "kernels/options.py": ALL,
    "kernels/records.py": ALL,
    "native/codegen.py": ALL,
    "native/compiling.py": set(),
    "native/machine_code.py": set(),
}
EDITS = """
import importlib, json
from fastrnn.native import machine_code, sources

def names():
    importlib.reload(sources)
    return {wanted: machine_code.file_name(wanted, machine_code.target()) for wanted in machine_code.everything()}

before, changed = names(), {}
for path in sorted([*sources.FOLDER.rglob("*.py"), *(sources.PACKAGE / "native").glob("*.py")]):
    text = path.read_text()
    path.write_text(text + "# edited\\n")
    after = names()
    path.write_text(text)
    changed[path.relative_to(sources.PACKAGE).as_posix()] = [wanted for wanted in before if after[wanted] != before[wanted]]
print(json.dumps(changed))
"""


@pytest.fixture(scope="module")
def changed(tmp_path_factory):
    """By files: the operations, with their dtypes, that have other names after an edit of the file."""
    path = copy_package(tmp_path_factory.mktemp("copy"))
    return json.loads(python(EDITS, **own_cache(path / "cache", path)))


@pytest.mark.parametrize("file", DEPENDENTS)
def test_an_edit_renames_what_depends_on_the_file(changed, file):
    """After an edit exactly the operations that depend on the file have other names, in each dtype; a comment is an edit."""
    expected = [[name, dtype] for name in DEPENDENTS[file] for dtype in (("float32", "float64") if OPERATIONS[name][1] else ("",))]
    assert sorted(changed[file]) == sorted(expected)


def test_an_edit_of_any_kernel_is_noticed(changed):
    """No file of the kernels is without operations that follow from it; of `native` only codegen.py has any."""
    assert len([file for file in changed if file.startswith("kernels/")]) == len(IMPORTS) > 20
    assert [file for file, renamed in changed.items() if not renamed] == [
        f"native/{path.name}" for path in sorted((sources.PACKAGE / "native").glob("*.py")) if path != sources.CODEGEN
    ]


def test_an_edit_of_the_compile_times_renames_nothing(tmp_path):
    """How long operations take to compile is no part of a name."""
    path = copy_package(tmp_path)
    script = "from fastrnn.native import machine_code, compiling; print(compiling.SECONDS['lstm'])\n"
    script += "for wanted in machine_code.everything(): print(machine_code.file_name(wanted, machine_code.target()))"
    before = python(script, **own_cache(path / "cache", path)).splitlines()
    file = path / "fastrnn" / "native" / "compiling.py"
    file.write_text(file.read_text().replace('"lstm": 1.1,', '"lstm": 9.5,'))
    after = python(script, **own_cache(path / "cache", path)).splitlines()
    assert (before[0], after[0]) == ("1.1", "9.5")
    assert after[1:] == before[1:]


OUTSIDE = """
from fastrnn.native import sources
print(sources.of_module("outside"))
"""


def test_a_module_outside_of_the_package(tmp_path):
    """An operation's module elsewhere is digested, too, with all of the kernels."""
    path, module = copy_package(tmp_path), tmp_path / "outside.py"
    seen = set()
    for edited in (module, module, path / "fastrnn" / "kernels" / "each.py", path / "fastrnn" / "kernels" / "cells" / "lstm.py"):
        with edited.open("a") as file:
            file.write("# edited\n")
        seen.add(python(OUTSIDE, path=path))
    assert len(seen) == 4


# ---- the table of imports -------------------------------------------------------------------------------------------------------------


def test_the_table_lists_all_imports():
    """The stored table is the one that the sources give."""
    assert graph.table() == graph.TABLE.read_text()
    assert graph.wrong() == ""


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from .network import run", ["__init__", "cells/__init__", "cells/network"]),
        ("from ..network import run", ["__init__", "cells/__init__", "network"]),
        ("from .. import network", ["__init__", "cells/__init__", "network"]),
        ("from . import network, other", ["__init__", "cells/__init__", "cells/network"]),
        ("from ..simd.tile import network", ["__init__", "cells/__init__", "simd/__init__", "simd/tile"]),
        ("from ..simd import tile as network", ["__init__", "cells/__init__", "simd/__init__", "simd/tile"]),
        (f"import {KERNELS}.simd.tile", ["__init__", "cells/__init__", "simd/__init__", "simd/tile"]),
        (f"from {KERNELS} import simd", ["__init__", "cells/__init__", "simd/__init__"]),
        ("def f():\n    if f:\n        from ..network import run", ["__init__", "cells/__init__", "network"]),
        ("import network, numpy as np\nfrom fastrnn import network", ["__init__", "cells/__init__"]),
    ],
)
def test_every_form_of_import_is_found(tmp_path, monkeypatch, source, expected):
    """Relative or not, of a module or of its names, at the top or in a function: the module counts, and the packages around it."""
    files = ["__init__", "cells/__init__", "cells/lstm", "cells/network", "network", "simd/__init__", "simd/tile"]
    modules = {".".join([KERNELS, *file.split("/")]).removesuffix(".__init__"): file for file in files}
    monkeypatch.setattr(graph, "MODULES", modules)
    for module in (graph, sources):
        monkeypatch.setattr(module, "FOLDER", tmp_path)
    path = tmp_path / "cells" / "lstm.py"
    path.parent.mkdir()
    path.write_text(source)
    assert graph.imported(path) == expected


def test_what_every_operation_needs():
    """What codegen.py imports of the kernels is among what each operation follows from."""
    path = sources.CODEGEN
    assert {name.split(".")[1] for level, name in imports(path) if level == 2 and name.startswith("kernels.")} == {*sources.EVERY}
    assert codegen.__file__ == str(path)


UNLISTED = """
import logging, pathlib, sys
import fastrnn
from fastrnn.native import machine_code
{how}
path = pathlib.Path(fastrnn.__file__).parent
try:
    machine_code.address("each")
except RuntimeError as error:
    print(str(error).splitlines()[-1])
print(len(list(pathlib.Path(sys.argv[1]).glob("*.bin"))))
"""


@pytest.mark.parametrize("how", ["", "sys.executable = ''"], ids=["in children", "in this process"])
@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("kernels/each.py", "from .options", "from .pack_and_run import pack_and_run\nfrom .options"),
        ("kernels/threads/workers.py", "from .atomic", "from ..simd.tile import at\nfrom .atomic"),
        ("kernels/cells/elman.py", "import activate_here", "import nothing, activate_here"),
        ("native/imports.py", '"cells/elman": "__init__ ', '"cells/elman": "'),
    ],
    ids=["another import", "of another operation", "no other module", "the table"],
)
def test_an_import_that_is_not_listed(tmp_path, how, file, old, new):
    """Where the table is wrong nothing is compiled, and an error says what to do; more names of a listed module are no matter."""
    path = copy_package(tmp_path / "copy")
    edited = path / "fastrnn" / file
    text = edited.read_text()
    assert text.count(old) == 1
    edited.write_text(text.replace(old, new))
    printed = python(UNLISTED.format(how=how), tmp_path / "cache", **own_cache(tmp_path / "cache", path))
    row = file if file.startswith("kernels") else "kernels/cells/elman.py"
    listed = "nothing" in new
    assert printed == ("1\n" if listed else f"{sources.OUTDATED.format(row)}\n0\n")
    if not listed:
        python("import runpy; runpy.run_module('fastrnn.native.graph', run_name='__main__')", path=path)
        assert python(UNLISTED.format(how=""), tmp_path / "cache", **own_cache(tmp_path / "cache", path)) == "1\n"


@pytest.mark.parametrize("name", ["new", "simd/tile"])
def test_a_module_that_is_not_listed(name, monkeypatch):
    """An operation of a file that the table lacks, or that imports one that is gone, has no name; the error says what to do."""
    monkeypatch.delitem(sources.DIGESTS, "simd/tile")
    sources.of_module.cache_clear()
    module = f"{KERNELS}.new" if name == "new" else f"{KERNELS}.cells.lstm"
    with pytest.raises(RuntimeError) as raised:
        sources.of_module(module)
    assert str(raised.value) == sources.OUTDATED.format(f"kernels/{name}.py")


# ---- what is compiled -----------------------------------------------------------------------------------------------------------------

TRACED = """
import importlib, json, os, pathlib, sys
from fastrnn.kernels.layout import KERNELS, OPERATIONS
from fastrnn.native import codegen, machine_code, sources

module, goal = sys.argv[1], machine_code.compilers_target()
codegen.prepare(goal)
from numba.core.bytecode import FunctionIdentity

def say(operation, dtype, files):
    inside = [pathlib.Path(file) for file in files if pathlib.Path(file).is_relative_to(sources.FOLDER)]
    print(json.dumps([operation, dtype, sorted({sources.name_of(path) for path in inside})]), flush=True)

def compile_traced(operation, dtype):
    files, read = set(), FunctionIdentity.from_function.__func__
    def from_function(cls, function):
        files.add(function.__code__.co_filename)
        return read(cls, function)
    FunctionIdentity.from_function = classmethod(from_function)
    sys.settrace(lambda frame, event, _: files.add(frame.f_code.co_filename))  # gives None: only calls are traced
    codegen.numba_text({"operation": operation, "dtype": dtype, "module": module, "symbol": "traced"}, goal)
    sys.settrace(None)
    say(operation, dtype, files)

importlib.import_module(module)
say("", "", [loaded.__file__ for name, loaded in sys.modules.items() if f"{name}.".startswith(f"{KERNELS}.")])
for other, _ in OPERATIONS.values():  # as in a child that compiles several: what they register with Numba is there for all
    importlib.import_module(other)
for operation, (its, typed) in OPERATIONS.items():  # in one dtype: the other has the same sources
    dtype = "float32" if typed else ""
    if its == module:
        pid = os.fork()  # what Numba has compiled for one operation it doesn't read again for the next
        if not pid:
            try:
                compile_traced(operation, dtype)
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(pid, 0)[1] == 0, operation
"""
MODULES = sorted({module for module, _ in OPERATIONS.values()})


@pytest.mark.exhaustive
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX only")
@pytest.mark.parametrize("module", MODULES)
def test_what_numba_reads_is_listed(module):
    """All files whose modules are loaded, whose functions Numba reads, or whose functions run while it compiles are listed."""
    name = module.removeprefix(f"{KERNELS}.").replace(".", "/")
    ((_, _, loaded), *traced) = map(json.loads, python(TRACED, module, NUMBA_CPU_NAME=None, NUMBA_CPU_FEATURES=None).splitlines())
    needed = {*sources.needed(name, *sources.EVERY)}
    assert needed >= {*loaded} >= {name, "layout", "options"}
    assert {operation for operation, _, _ in traced} == {operation for operation, (its, _) in OPERATIONS.items() if its == module}
    for operation, dtype, files in traced:
        assert {name} <= {*files} <= needed, (operation, dtype)
    if name == "cells/lstm":  # the trace finds the files of functions that are called, inlined, or generate code
        assert {*traced[0][2]} >= {"cells/lstm", "cells/recurrent", "records", "simd/elementary", "simd/tile"}
