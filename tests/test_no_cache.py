"""Where machine code can't be kept for later processes `compile` says so, as an error; where the user has no directory it does no harm."""

import pathlib
import subprocess
import sys

import pytest

import fastrnn
from fastrnn.native import compiling, machine_code
from fastrnn.native.compiling import Made

from .process import copy_package, finish, own_cache, start

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX only")

SAYS = "machine code can't be kept for later processes in any of these directories: {}. Set FASTRNN_CACHE_DIR to a directory that this "
SAYS += 'process can write to and other users can\'t, or install a wheel that brings its machine code: see "In a container" in the README'


@pytest.fixture
def one_place(monkeypatch, tmp_path):
    """The only directory for machine code, which has none."""
    path = tmp_path / "code"
    monkeypatch.setattr(machine_code, "caches", lambda: iter([path]))
    monkeypatch.setattr(machine_code, "places", lambda _: iter([(path, "cache")] if path.is_dir() else []))
    monkeypatch.setattr(machine_code, "everything", lambda: [("run_serial", ""), ("relu", "float32")])
    return path


@posix
def test_compile_where_nothing_is_writable(monkeypatch, one_place):
    """Before anything is compiled `compile` raises, and says which directories were tried and why each was refused."""
    monkeypatch.setattr(compiling, "compiled", None)
    one_place.touch()
    with pytest.raises(RuntimeError) as caught:
        fastrnn.compile()
    assert str(caught.value) == SAYS.format(f"{one_place}: it is not a directory")
    one_place.unlink()
    one_place.mkdir()
    one_place.chmod(0o777)
    monkeypatch.setattr(machine_code, "users_cache", lambda: None)
    with pytest.raises(RuntimeError) as caught:
        fastrnn.compile()
    assert str(caught.value) == SAYS.format(f"{one_place}: others can write to it; the user's cache: the user has no home directory")


@pytest.mark.parametrize(("error", "said"), [("No space left on device",) * 2, ("", "what was written there can't be read")])
def test_compile_where_files_are_not_written(monkeypatch, one_place, error, said):
    """If one file can't be written, as on a full disk, or isn't there when all were, `compile` raises."""
    monkeypatch.setattr(compiling, "compiled", lambda *_: [Made(b"", ""), Made(b"", error)])
    monkeypatch.setattr(machine_code, "load_content", lambda *_: True)
    with pytest.raises(RuntimeError) as caught:
        fastrnn.compile()
    assert str(caught.value) == SAYS.format(f"{one_place}: {said}")


def test_compile_writes_what_is_loaded(one_place):
    """What this process has loaded but keeps in no file is written, too: `compile` is for later processes. Afterwards nothing is made."""
    machine_code.addresses(["run_serial", "relu"], "float32")
    fastrnn.compile()
    files = {path.name: path.stat().st_mtime_ns for path in one_place.glob("*.bin")}
    assert set(files) == {machine_code.file_name(wanted, machine_code.target()) for wanted in machine_code.everything()}
    fastrnn.compile()
    assert {path.name: path.stat().st_mtime_ns for path in one_place.glob("*.bin")} == files


def test_a_full_disk_spoils_a_wheel(monkeypatch, tmp_path):
    """A wheel is not built without some of its machine code."""
    level = compiling.processor.LEVELS[-1].level
    monkeypatch.setattr(compiling, "compiled", lambda *_: [Made(b"", ""), Made(b"", "No space left on device")])
    with pytest.raises(OSError, match=rf"^machine code can't be written to {tmp_path / level}: No space left on device$"):
        compiling.compile_levels([level], tmp_path)


FULL = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
import fastrnn
from fastrnn.native import machine_code
machine_code.everything = lambda: [("run_serial", "")]
try:
    fastrnn.compile()
except RuntimeError as error:
    print(error)
"""


@posix
def test_compile_on_a_full_disk(tmp_path):
    """The compiler's process tells why it could not write a file."""
    path = copy_package(tmp_path / "copy")
    said = finish(start(FULL, **own_cache(tmp_path / "code", path), PYTHONDONTWRITEBYTECODE=1))
    assert said == SAYS.format(f"{tmp_path / 'code'}: File too large") + "\n"


@posix
def test_the_command_ends_with_1(tmp_path):
    """`python -m fastrnn compile` prints the reason and ends with 1 where nothing can be kept."""
    path = copy_package(tmp_path)
    (path / "fastrnn" / "compiled_code").touch()
    environment = {"PYTHONPATH": str(path), "FASTRNN_CACHE_DIR": "/dev/null/code", "XDG_CACHE_HOME": "/dev/null"}
    command = [sys.executable, "-P", "-m", "fastrnn", "compile"]
    done = subprocess.run(command, cwd=path, env=environment, capture_output=True, text=True, timeout=120, check=False)
    refused = f"/dev/null/code: Not a directory; {path / 'fastrnn' / 'compiled_code'}: it is not a directory; "
    refused += "/dev/null/fastrnn/machine_code: Not a directory"
    assert (done.returncode, done.stderr) == (1, SAYS.format(refused) + "\n")


NOBODY = """
import os, pwd
def unknown(uid):
    raise KeyError(uid)
pwd.getpwuid = unknown
import numpy as np, fastrnn
from fastrnn.native import machine_code
print(machine_code.users_cache(), *machine_code.caches())
machine_code.everything = lambda: [("run_serial", "")]
fastrnn.compile()
print(os.listdir(os.environ["FASTRNN_CACHE_DIR"])[0].startswith(("run_serial", "lock")), os.path.exists("~"))
"""


@posix
def test_a_user_without_a_home(tmp_path):
    """An unknown user without HOME has no directory of their own, and nothing fails; nor is a directory "~" made."""
    path = copy_package(tmp_path / "copy")
    environment = {**own_cache(tmp_path / "code", path), "HOME": None, "XDG_CACHE_HOME": None}
    printed = finish(start(NOBODY, **environment))
    assert printed == f"None {tmp_path / 'code'} {path / 'fastrnn' / 'compiled_code'}\nTrue False\n"


@pytest.mark.parametrize("raised", [RuntimeError, OSError, ValueError])
def test_what_platformdirs_raises(monkeypatch, raised):
    """Whatever keeps the user's directory from being found, there is none; so where an older version gives one that isn't absolute."""
    import platformdirs

    def fail(_):
        raise raised("no home")

    monkeypatch.setattr(platformdirs, "user_cache_path", fail)
    assert machine_code.users_cache.__wrapped__() is None
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda _: pathlib.Path("~/.cache/fastrnn"))
    assert machine_code.users_cache.__wrapped__() is None
