"""What is compiled and when, and a disk cache that never gives stale or foreign code, nor an error."""

import json
import shutil

import numpy as np
import pytest

from .cases import DTYPES, MODEL
from .process import copy_package, finish, python, start

# Prints hits and misses of the kernels' caches, their signatures, and the results.
CALL = """
import json, sys
import numpy as np
from fastrnn.kernels.network import run
from fastrnn.kernels.product import pack
from tests.cases import MODEL

for name in sys.argv[1:]:
    x, states = MODEL.data(np.dtype(name), (3,), 6)
    output, last = MODEL.layer(np.dtype(name))(x, states)
    print(json.dumps({
        "hits": [sum(kernel.stats.cache_hits.values()) for kernel in (run, pack)],
        "misses": [sum(kernel.stats.cache_misses.values()) for kernel in (run, pack)],
        "cache": type(run._cache).__name__,
        "bits": [array.tobytes().hex() for array in (output, *last)],
    }))
"""


def expected(dtype):
    x, states = MODEL.data(dtype, (3,), 6)
    output, last = MODEL.layer(dtype)(x, states)
    return [array.tobytes().hex() for array in (output, *last)]


def check(printed, dtype=np.float32):
    """What CALL printed holds the right bits; give the rest."""
    report = json.loads(printed.splitlines()[-1])
    assert report.pop("bits") == expected(dtype)
    return report


def call(directory, dtype=np.float32, **options):
    """Call a layer in a fresh process that imports the package from the directory and caches beside its source."""
    return check(python(CALL, np.dtype(dtype), path=directory, NUMBA_CACHE_DIR=None, **options), dtype)


def cached(directory, kernel="network.run", ending="nbc"):
    files = sorted((directory / "fastrnn" / "kernels" / "__pycache__").glob(f"{kernel}-*.{ending}"))
    assert files
    return files


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    """A copy of the package with both dtypes' kernels in its cache."""
    directory = copy_package(tmp_path_factory.mktemp("warm"))
    python(CALL, "float32", "float64", path=directory, NUMBA_CACHE_DIR=None)
    return directory


@pytest.fixture
def copy(warm, tmp_path):
    """The same, to damage."""
    shutil.copytree(warm, tmp_path / "copy")
    return tmp_path / "copy"


IMPORT = """
import numba
from numba.core import event
with event.install_recorder("numba:compile") as recorder:
    import fastrnn
    fastrnn.Sequential(fastrnn.RNN([[1.0]], [[1.0]]), fastrnn.Dense([[1.0]]))
    before = len(recorder.buffer)
    numba.njit(lambda: 1)()
    print(before, len(recorder.buffer) > before, fastrnn.forward.kernels.run.signatures)
"""


def test_nothing_is_compiled_at_import():
    """Neither importing fastrnn nor making layers compiles or loads a kernel."""
    assert python(IMPORT).split() == ["0", "True", "[]"]


SIGNATURES = """
import numpy as np
import fastrnn
from fastrnn.kernels.network import run
from fastrnn.kernels.product import pack
from tests.cases import CASES, run as call
from tests.test_bits import LAYOUTS

for count, dtype in enumerate((np.float32, np.float64), 1):
    for case in CASES:
        model = case.layer(dtype)
        for change in LAYOUTS.values():
            for leading in ((3,), (2, 3)):
                x, states = case.data(dtype, leading, 4)
                output, _ = call(model, change(x), tuple(change(state) for state in states))
                call(model, change(x), out=output)
        x, _ = case.data(dtype, (), 4)
        call(model, x, out=np.empty((4, case.sizes[-1]), dtype).view(np.matrix))
        call(model, case.data(dtype, (), 4)[0])
    weights = [np.full(shape, 0.1, dtype) for shape in ((5, 3), (5, 5), (4, 5), (5,))]
    for change in (np.asarray, np.asfortranarray, lambda w: w.astype(w.dtype.newbyteorder("S")), lambda w: w[::-1], np.ndarray.tolist):
        changed = [change(weight) for weight in weights]
        if type(changed[0]) is np.ndarray:
            for weight in changed:
                weight.flags.writeable = False
        fastrnn.rnn_forward(np.ones((4, 3), int), *changed, c=np.ones(4, dtype), h0=np.ones(5))
    print(len(run.signatures), len(pack.signatures))
"""


def test_one_signature_per_kernel_and_dtype():
    """Whatever the caller passes, each kernel is compiled once for each dtype."""
    assert python(SIGNATURES).split("\n")[:2] == ["1 1", "2 2"]


def test_a_second_process_hits(warm):
    """A second process compiles nothing."""
    for dtype in DTYPES:
        assert call(warm, dtype) == {"hits": [1, 1], "misses": [0, 0], "cache": "KernelCache"}


def test_an_edit_is_noticed(copy):
    """After an edit of a file that the kernel's own file imports, its machine code is made anew, then cached again."""
    with (copy / "fastrnn" / "kernels" / "tile.py").open("a") as file:
        file.write("# edited\n")
    assert call(copy)["hits"] == [0, 0]
    assert call(copy)["misses"] == [0, 0]


EDITS = """
import pathlib
from fastrnn.kernels import jit

stamps, files = {jit.SOURCE}, sorted(pathlib.Path(jit.__file__).parent.glob("*.py"))
for path in files:
    path.write_text(path.read_text() + "# edited\\\\n")
    stamps.add(jit.source_digest())
print(len(files), len(stamps))
"""


def test_an_edit_of_any_file_is_noticed(copy):
    """Every file in kernels/ counts in the cache's stamp."""
    files, stamps = map(int, python(EDITS, path=copy).split())
    assert files > 5
    assert stamps == files + 1


EDITED_MEANWHILE = """
import pathlib
import numpy as np
import fastrnn
from fastrnn.kernels import jit

path = pathlib.Path(jit.__file__).with_name("elementary.py")
path.write_text(path.read_text() + "# edited")
fastrnn.Dense(np.eye(2))(np.eye(2))
"""


def test_an_edit_between_import_and_call_is_noticed(copy):
    """What was imported before an edit and compiled after it is not taken for what the files say now."""
    python(EDITED_MEANWHILE, path=copy)
    assert call(copy)["hits"] == [0, 0]


def test_no_writable_directory(tmp_path):
    """Where neither the package's directory nor the user's can be written, kernels are compiled each time."""
    copy_package(tmp_path)
    (tmp_path / "fastrnn" / "kernels" / "__pycache__").touch()
    options = {"HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null/cache", "PYTHONDONTWRITEBYTECODE": 1}
    assert call(tmp_path, **options)["cache"] == "NullCache"


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
"""


@pytest.mark.parametrize("limit", [0, 20_000])
def test_full_disk(tmp_path, limit):
    """Where files can be made but not written whole, results are right, and so they are once there is room again."""
    pytest.importorskip("resource")
    copy_package(tmp_path)
    options = {"path": tmp_path, "NUMBA_CACHE_DIR": None, "PYTHONDONTWRITEBYTECODE": 1}
    assert check(python(LIMITED + CALL, limit, "float32", **options))["hits"][0] == 0
    call(tmp_path)
    assert call(tmp_path)["hits"] == [1, 1]


DAMAGES = {
    "halved": lambda data: data[: len(data) // 2],
    "garbage": lambda data: bytes(byte * 7 + 13 & 255 for byte in range(256)) * 9,
}


@pytest.mark.parametrize("ending", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files(copy, damage, ending):
    """A truncated or overwritten index or data file is compiled anew, and replaced."""
    for kernel in ("network.run", "product.pack"):
        for file in cached(copy, kernel, ending):
            file.write_bytes(DAMAGES[damage](file.read_bytes()))
    assert call(copy)["hits"] == [0, 0]
    assert call(copy)["hits"] == [1, 1]


def test_two_processes_at_once(tmp_path):
    """float32 and float64 compiled by two processes at once are both right in a third, and both from the cache."""
    copy_package(tmp_path)
    processes = [start(CALL, np.dtype(dtype), path=tmp_path, NUMBA_CACHE_DIR=None) for dtype in DTYPES]
    for running, dtype in zip(processes, DTYPES, strict=True):
        check(finish(running), dtype)
    for dtype in DTYPES:
        assert call(tmp_path, dtype)["hits"] == [1, 1]


def test_a_swapped_file_is_refused(copy):
    """The machine code of another signature in a cache file is not run."""
    one, other = cached(copy)
    data = one.read_bytes(), other.read_bytes()
    one.write_bytes(data[1])
    other.write_bytes(data[0])
    assert call(copy)["hits"] == [0, 1]
    assert call(copy)["hits"] == [1, 1]


def test_another_cpu_has_its_own_file(copy):
    """Code for another CPU is stored beside this one's, neither read in its place nor overwriting it."""
    before = {file: file.read_bytes() for file in cached(copy)}
    assert call(copy, NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="")["hits"] == [0, 0]
    assert {file: file.read_bytes() for file in before} == before
    assert call(copy)["hits"] == [1, 1]
