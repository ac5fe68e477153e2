"""Compute digests of the source files that machine code depends on. They are part of the names of the files of machine code.

An operation's code depends on the file of its module, on all files that this file imports inside `kernels`, directly or indirectly, and on
`codegen.py` with its imports there. So an edit of one kernel compiles only the operations that depend on it.
"""

import functools
import hashlib
import importlib.util
import pathlib

from ..kernels.layout import KERNELS
from .imports import IMPORTS

PACKAGE = pathlib.Path(__file__).parents[1]
FOLDER = PACKAGE / "kernels"
CODEGEN = PACKAGE / "native" / "codegen.py"
EVERY = ("layout", "options")  # the files that codegen.py imports from `kernels`
OUTDATED = "fastrnn/native/imports.py does not list what {} imports; write it anew: python -m fastrnn.native.graph"


def digest_of(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def name_of(path: pathlib.Path) -> str:
    """Return the name of a kernel's file in `IMPORTS`: its path inside the folder, without ".py"."""
    return path.relative_to(FOLDER).with_suffix("").as_posix()


def read() -> dict[str, str]:
    """Return the digest of each file that machine code can depend on."""
    paths = {name: FOLDER / f"{name}.py" for name in IMPORTS}
    return {name: digest_of(path) for name, path in paths.items() if path.is_file()} | {CODEGEN.name: digest_of(CODEGEN)}


DIGESTS = read()  # read when the package is imported: the files may have changed by the first call


def needed(*names: str) -> list[str]:
    """Return the given files of kernels and all files that they import inside the folder, directly or indirectly, sorted."""
    found: set[str] = set()
    rest = [*names]
    while rest:
        name = rest.pop()
        if name not in IMPORTS or name not in DIGESTS:
            raise RuntimeError(OUTDATED.format(f"kernels/{name}.py"))
        if name not in found:
            found.add(name)
            rest += IMPORTS[name].split()
    return sorted(found)


def of_all() -> str:
    """Return one digest of all files that machine code can depend on, and of the table of imports."""
    return hashlib.sha256(repr((sorted(DIGESTS.items()), IMPORTS)).encode()).hexdigest()


@functools.cache
def of_module(module: str) -> str:
    """Return one digest of all files that the machine code of a module's operations depends on."""
    if not module.startswith(f"{KERNELS}."):  # operations may live outside of the package
        spec = importlib.util.find_spec(module)
        return of_all() + digest_of(pathlib.Path(str(spec and spec.origin)))
    names = needed(*EVERY, module.removeprefix(f"{KERNELS}.").replace(".", "/"))
    digests = [(name, DIGESTS[name]) for name in (CODEGEN.name, *names)]
    return hashlib.sha256(repr(digests).encode()).hexdigest()
