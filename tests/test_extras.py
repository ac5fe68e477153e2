"""Modules for other libraries: they are imported when used, and say which extra is missing."""

import pytest

from .process import python

USED = """
import sys, fastrnn
print(sorted({"numba", "dask", "sklearn"} & set(sys.modules)))
print({"dask", "jit", "sklearn"} <= set(dir(fastrnn)))
print(fastrnn.jit.step.__module__, fastrnn.dask.forward.__module__, fastrnn.sklearn.Reservoir.__module__)
print(fastrnn.jit is sys.modules["fastrnn.jit"])
"""


def test_modules_are_imported_when_used():
    """`import fastrnn` alone gives fastrnn.jit, fastrnn.dask and fastrnn.sklearn, and imports none of their libraries before."""
    assert python(USED) == "[]\nTrue\nfastrnn.jit fastrnn.dask fastrnn.sklearn\nTrue\n"


MISSING = """
import sys
sys.modules[sys.argv[1]] = None
import fastrnn
print(sys.argv[1] in dir(fastrnn))
for statement in ("fastrnn." + sys.argv[1], "import fastrnn." + sys.argv[1]):
    try:
        exec(statement)
    except ImportError as error:
        print(error)
"""
TEXTS = {
    "dask": "fastrnn.dask needs dask; pip install 'fastrnn[dask]'",
    "sklearn": "fastrnn.sklearn needs scikit-learn; pip install 'fastrnn[sklearn]'",
}


@pytest.mark.parametrize("module", TEXTS)
def test_a_missing_extra(module):
    """Where a library isn't installed, using its module says which extra brings it; dir leaves the module out, so that tools may look."""
    assert python(MISSING, module) == f"False\n{TEXTS[module]}\n{TEXTS[module]}\n"


def test_an_unknown_name():
    """A name that isn't there is an AttributeError, as of any module."""
    script = "import fastrnn\ntry: fastrnn.task\nexcept AttributeError as error: print(error)"
    assert python(script) == "module 'fastrnn' has no attribute 'task'\n"
