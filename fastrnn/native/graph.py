"""Find out which files in `kernels` import which others. `python -m fastrnn.native.graph` writes the result, a table, to `imports.py`.

The table is stored because a process that finds its machine code on disk should not parse all kernels. Whenever something is compiled, the
table is compared with the files: if it lacked an import, a process could load code that an edit has made wrong.
"""

import ast
import importlib.util
import itertools
import pathlib
from collections.abc import Iterator

from ..kernels.layout import KERNELS
from .imports import IMPORTS
from .sources import FOLDER, OUTDATED, PACKAGE, name_of

TABLE = PACKAGE / "native" / "imports.py"
HEAD = '''"""What each file of the kernels imports from their folder, its packages included: written by `python -m fastrnn.native.graph`."""

'''
# From the full name of a module to the name of its file in the table
MODULES = {".".join([KERNELS, *name_of(path).split("/")]).removesuffix(".__init__"): name_of(path) for path in FOLDER.rglob("*.py")}


def module_names(path: pathlib.Path) -> Iterator[str]:
    """Yield the full names of a file's package and of all that the file imports, anywhere in it; not every name is a module's."""
    package = ".".join([KERNELS, *path.relative_to(FOLDER).parent.parts])
    yield package
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            yield from (f"{module}.{alias.name}" for alias in node.names)


def imported(path: pathlib.Path) -> list[str]:
    """Return the files in `kernels` that one of them imports, sorted. Importing a module also imports the packages around it."""
    runs = {module for name in module_names(path) for module in itertools.accumulate(name.split("."), "{}.{}".format)}
    return sorted({MODULES[module] for module in runs & MODULES.keys()} - {name_of(path)})


def wrong() -> str:
    """Return an error's text if the table differs from the imports of a file that it lists, else ""."""
    for name, names in IMPORTS.items():
        path = FOLDER / f"{name}.py"
        if not path.is_file() or imported(path) != names.split():
            return OUTDATED.format(f"kernels/{name}.py")
    return ""


def table() -> str:
    """Return the text of `imports.py`."""
    rows = sorted(f'    "{name_of(path)}": "{" ".join(imported(path))}",\n' for path in FOLDER.rglob("*.py"))
    return f"{HEAD}IMPORTS = {{\n{''.join(rows)}}}\n"


if __name__ == "__main__":
    TABLE.write_text(table())
