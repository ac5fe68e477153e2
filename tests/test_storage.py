"""Machine code is loaded only from files that no other user could have written, and is written so that no other user can change it."""

import contextlib
import errno
import os
import stat
import sys

import pytest

from fastrnn.native import codegen, compiling, machine_code, storage

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX only")

STRANGER = os.geteuid() + 54321 if hasattr(os, "geteuid") else 0


@contextlib.contextmanager
def umask(mask):
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def status(mode, owner=None):
    """What the system says of a file with a mode, of this user's where no owner is given."""
    return os.stat_result((mode, 0, 0, 1, os.geteuid() if owner is None else owner, 0, 0, 0, 0, 0))


def modes(directory):
    """The permissions of all that is in a directory, by name."""
    return {str(path.relative_to(directory)): stat.S_IMODE(path.stat().st_mode) for path in directory.rglob("*")}


# ---- what is read ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (status(stat.S_IFREG | 0o644), ""),
        (status(stat.S_IFREG | 0o444, owner=0), ""),
        (status(stat.S_IFREG | 0o644, owner=STRANGER), "it belongs to another user"),
        (status(stat.S_IFREG | 0o664), "others can write to it"),
        (status(stat.S_IFREG | 0o646), "others can write to it"),
        (status(stat.S_IFIFO | 0o600), "it is not a regular file"),
        (status(stat.S_IFDIR | 0o700), "it is not a regular file"),
    ],
)
def test_whose_files_are_read(said, reason):
    """A regular file of this user's or of root's is read, if nobody else can write to it."""
    assert storage.file_risk(said) == reason


@pytest.fixture
def relu(monkeypatch, tmp_path):
    """An operation in a file that can be loaded, in a cache of its own; what a test loads is forgotten."""
    wanted, goal = ("relu", "float32"), machine_code.target()
    machine_code.addresses(["relu"], "float32")
    (content,) = [content for content, _ in compiling.compiled(goal, [wanted], None)]
    monkeypatch.setattr(machine_code, "places", lambda _: iter([(tmp_path, "cache")]))
    monkeypatch.setattr(machine_code.loaded, "addresses", {})
    monkeypatch.setattr(machine_code.loaded, "origins", {})
    path = tmp_path / machine_code.file_name(wanted, goal)
    storage.write(path, content)
    return wanted, path


@pytest.mark.parametrize("mode", [0o666, 0o664, 0o646])
def test_a_file_of_others_is_not_run(relu, caplog, mode):
    """Machine code that others could have written is not loaded, a warning says so, and it is loaded once they can't."""
    wanted, path = relu
    path.chmod(mode)
    assert not machine_code.load(wanted)
    assert caplog.messages == [f"{path} is not used: others can write to it"]
    path.chmod(0o644)
    assert machine_code.load(wanted)


@pytest.mark.skipif(STRANGER != 54321, reason="only root can give files away")
def test_a_strangers_file_is_not_run(relu, caplog):
    """Nor is what belongs to another user than root and this one, though it lies in this one's directory."""
    wanted, path = relu
    os.chown(path, STRANGER, -1)
    assert not machine_code.load(wanted)
    assert caplog.messages == [f"{path} is not used: it belongs to another user"]


def test_a_wheels_file_may_be_anybodys(relu, monkeypatch):
    """A wheel's files are as private as the package's own source, of which nothing is asked either."""
    wanted, path = relu
    path.chmod(0o666)
    monkeypatch.setattr(machine_code, "places", lambda _: iter([(path.parent, "wheel")]))
    assert machine_code.load(wanted)


def test_what_is_checked_is_what_is_read(monkeypatch, tmp_path):
    """A file that takes another's place after that was opened is neither checked in its place nor read."""
    path, other = tmp_path / "code", tmp_path / "other"
    path.write_bytes(b"ours")
    path.chmod(0o644)

    def open_then_replace(name, flags, open_file=os.open):
        file = open_file(name, flags)
        other.write_bytes(b"theirs")
        other.replace(path)
        return file

    monkeypatch.setattr(storage.os, "open", open_then_replace)
    assert storage.read(path) == b"ours"


def next_descriptor():
    descriptor = os.dup(0)
    os.close(descriptor)
    return descriptor


def test_a_fifo_holds_nobody_up(tmp_path):
    """What is no regular file is refused at once, in a wheel, too; it is not waited for, and no descriptor stays open."""
    os.mkfifo(tmp_path / "code")
    before = next_descriptor()
    for by_anybody in (False, True):
        with pytest.raises(storage.Refused, match=r"^it is not a regular file$"):
            storage.read(tmp_path / "code", by_anybody=by_anybody)
    assert next_descriptor() == before


# ---- directories ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "reason"), [(0o777, "others can write to {}"), (0o775, "others can write to {}"), (0o1777, "")])
def test_directories_above(tmp_path, mode, reason):
    """Where others can write to a directory above, unless it is sticky, nothing is made in it, and nothing read from it."""
    above, own = tmp_path / "above", tmp_path / "above" / "between" / "own"
    above.mkdir()
    above.chmod(mode)
    assert storage.prepare(own) == reason.format(above)
    assert own.exists() == (not reason)
    own.mkdir(mode=0o755, parents=True, exist_ok=True)
    assert machine_code.is_own(own) == (not reason)


def test_whose_the_directories_above_are(monkeypatch):
    """Every directory and link above must be root's or this user's; a link's own mode means nothing."""
    way = [("/", status(stat.S_IFDIR | 0o755, owner=0)), ("/link", status(stat.S_IFLNK | 0o777)), ("/a", status(stat.S_IFDIR | 0o700))]
    monkeypatch.setattr(storage, "way", lambda _: iter(way))
    assert storage.way_risk(machine_code.PACKAGE) == ""
    for kind in (stat.S_IFDIR | 0o755, stat.S_IFLNK | 0o777):
        monkeypatch.setattr(storage, "way", lambda _, kind=kind: iter([*way, ("/a/b", status(kind, owner=STRANGER))]))
        assert storage.way_risk(machine_code.PACKAGE) == "/a/b belongs to another user"


def test_links(tmp_path):
    """A link is followed. Neither where it lies nor where it leads to may others be able to write."""
    closed, open_one = tmp_path / "closed", tmp_path / "open"
    for directory in (closed / "code", open_one / "code"):
        directory.mkdir(mode=0o755, parents=True)
    open_one.chmod(0o777)
    (closed / "in").symlink_to("../closed/./code")
    (closed / "out").symlink_to(open_one / "code")
    (open_one / "in").symlink_to(closed / "code")
    assert [machine_code.is_own(path) for path in (closed / "in", closed / "out", open_one / "in")] == [True, False, False]
    assert storage.prepare(closed / "in" / ".." / "code") == ""
    (closed / "round").symlink_to("round")
    assert storage.prepare(closed / "round" / "code") == os.strerror(errno.ELOOP)


def test_a_relative_directory(monkeypatch, tmp_path):
    """A directory that is named from the working directory is checked from the root on."""
    (tmp_path / "code").mkdir(mode=0o755)
    monkeypatch.chdir(tmp_path)
    assert machine_code.is_own(machine_code.pathlib.Path("code"))
    tmp_path.chmod(0o777)
    assert not machine_code.is_own(machine_code.pathlib.Path("code"))


# ---- what is written ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mask", "file", "directory"), [(0, 0o644, 0o755), (0o002, 0o644, 0o755), (0o077, 0o600, 0o700)])
def test_modes(monkeypatch, tmp_path, mask, file, directory):
    """Only the owner can write to what is made, whatever the umask is, which may take more away; the lock nobody else can even read."""
    monkeypatch.setattr(codegen, "object_code", lambda *_: (b"code", []))
    path = tmp_path / "a" / "b"
    with umask(mask):
        assert storage.prepare(path) == ""
        made = compiling.compile_task({"file": str(path / "code")}, machine_code.target())
        with compiling.only_one(path):
            pass
    assert made == (machine_code.file_content(b"code", []), "")
    assert modes(tmp_path) == {"a": directory, "a/b": directory, "a/b/code": file, "a/b/lock": 0o600}


def test_the_lock_is_given_back(tmp_path):
    """Who has compiled holds the lock no more and has its file closed, so that no other process waits."""
    before = next_descriptor()
    with compiling.only_one(tmp_path):
        assert machine_code.loaded.lock is not None
        assert next_descriptor() != before
    assert machine_code.loaded.lock is None
    assert next_descriptor() == before


def test_a_file_that_cannot_be_written(tmp_path):
    """Where a file can't be put in place nothing is left of it."""
    (tmp_path / "code").mkdir()
    with pytest.raises(IsADirectoryError):
        storage.write(tmp_path / "code", b"code")
    assert [path.name for path in tmp_path.iterdir()] == ["code"]
