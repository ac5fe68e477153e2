"""Run a script in a fresh interpreter: what depends on import, environment or cache is tested there."""

import os
import pathlib
import shutil
import subprocess
import sys

import fastrnn

PACKAGE = pathlib.Path(fastrnn.__file__).parent
ROOT = pathlib.Path(__file__).parents[1]


def start(script, *arguments, path=PACKAGE.parent, **environment):
    """Start `python -c script arguments` with `path` first on the module path; an environment variable given as None is unset."""
    env = {**os.environ, "PYTHONPATH": f"{path}{os.pathsep}{ROOT}", **environment}
    command = [sys.executable, "-W", "error", "-c", script, *map(str, arguments)]
    return subprocess.Popen(
        command,
        env={name: str(value) for name, value in env.items() if value is not None},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=path,
    )


def finish(process):
    """Wait, and give what was printed; a script that fails fails the test with its traceback."""
    return finish_with_errors(process)[0]


def finish_with_errors(process):
    """The same, with what was written to the standard error."""
    printed, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return printed, errors


def python(script, *arguments, **options):
    return finish(start(script, *arguments, **options))


def copy_package(target):
    """Copy the package without any compiled file; `target` is the directory to put on the module path."""
    shutil.copytree(PACKAGE, target / "fastrnn", ignore=shutil.ignore_patterns("__pycache__", "machine_code", "compiled_code"))
    return target


def own_cache(directory, path):
    """Options of `start` for a process that finds no machine code but in a directory; `path` holds a copy of the package."""
    return {"path": path, "FASTRNN_CACHE_DIR": directory, "XDG_CACHE_HOME": path / "home", "HOME": path / "home"}
