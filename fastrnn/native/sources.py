"""Digests of the files that machine code follows from: its files are named by them.

An operation's code follows from the file of its module, from all that this file imports inside `kernels`, directly or not, and from
`codegen.py`. An edit of one kernel leaves the code of others as it is.
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
EVERY = ("layout", "options")  # what codegen.py imports of the kernels
OUTDATED = "fastrnn/native/imports.py does not list what {} imports; write it anew: python -m fastrnn.native.graph"


def digest_of(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def name_of(path: pathlib.Path) -> str:
    """Name a kernel's file as `IMPORTS` does: its path inside the folder, without ".py"."""
    return path.relative_to(FOLDER).with_suffix("").as_posix()


def read() -> dict[str, str]:
    """Digest each file that machine code can follow from."""
    paths = {name: FOLDER / f"{name}.py" for name in IMPORTS}
    return {name: digest_of(path) for name, path in paths.items() if path.is_file()} | {CODEGEN.name: digest_of(CODEGEN)}


DIGESTS = read()  # now, beside the import of what it describes: the files may be other ones at the first call


def needed(*names: str) -> list[str]:
    """Return kernels' files and all that they import inside the folder, directly or not, sorted."""
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
    """Return the digest of all that machine code can follow from, the table of imports included."""
    return hashlib.sha256(repr((sorted(DIGESTS.items()), IMPORTS)).encode()).hexdigest()


@functools.cache
def of_module(module: str) -> str:
    """Return the digest of all that the machine code of a module's operations follows from."""
    if not module.startswith(f"{KERNELS}."):  # operations may live outside of the package
        spec = importlib.util.find_spec(module)
        return of_all() + digest_of(pathlib.Path(str(spec and spec.origin)))
    names = needed(*EVERY, module.removeprefix(f"{KERNELS}.").replace(".", "/"))
    digests = [(name, DIGESTS[name]) for name in (CODEGEN.name, *names)]
    return hashlib.sha256(repr(digests).encode()).hexdigest()
