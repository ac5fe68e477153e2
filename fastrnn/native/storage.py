"""Read and write files of machine code, and check that no other user could have changed them.

Loaded machine code can do all that this process can. So a file in a cache is loaded only if it belongs to this user or to root and nobody
else can write to it. Its directory must be as private, and in no directory on the path to it may others replace files, directories or
links. Files and directories that are made here pass these checks, whatever the umask is. Windows has other permissions: nothing is checked
there.
"""

import contextlib
import errno
import os
import pathlib
import stat
from collections.abc import Iterator

SYSTEM_HAS_MODES = os.name == "posix"
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
FILE_MODE, DIRECTORY_MODE = 0o644, 0o755  # the umask may remove more permissions
READ = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)  # a FIFO must not block
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
AT_ONCE = 1 << 20  # bytes read by one call
MOST_LINKS = 40  # symbolic links on the path to a directory, as on Linux
ROOT = 0

NO_FILE = "it is not a regular file"
NO_DIRECTORY = "it is not a directory"
OTHERS_OWN = "it belongs to another user"
OTHERS_CHANGE = "others can write to it"
NOT_WRITABLE = "this process can't write to it"


class Refused(Exception):
    """Raised for a file that another user could have written, or that isn't regular."""


def read(path: pathlib.Path, *, by_anybody: bool = False) -> bytes:
    """Return a file's content. Raise Refused if another user could have written it, unless by_anybody=True; OSError if it can't be read.

    The file is opened once, so the file that is checked is the one that is read.
    """
    file = os.open(path, READ)
    try:
        status = os.fstat(file)
        reason = file_risk(status)
        if reason and (reason == NO_FILE or not by_anybody):
            raise Refused(reason)
        pieces = []  # read by os.read, because `open` is gone while Python shuts down
        while piece := os.read(file, AT_ONCE):
            pieces.append(piece)
        return b"".join(pieces)
    finally:
        os.close(file)


def file_risk(status: os.stat_result) -> str:
    """Return why another user could have written a file, or that it isn't regular; "" if neither holds."""
    return risk(status) if stat.S_ISREG(status.st_mode) else NO_FILE


def risk(status: os.stat_result) -> str:
    """Return why another user could have written to a file or a directory, "" if none could."""
    if not SYSTEM_HAS_MODES:
        return ""
    if status.st_uid not in (ROOT, os.geteuid()):
        return OTHERS_OWN
    return OTHERS_CHANGE if status.st_mode & OTHERS_WRITE else ""


def directory_risk(directory: pathlib.Path) -> str:
    """Return why another user could have put files into a directory, "" if none could. Raise OSError if it doesn't exist."""
    status = directory.stat()
    if not stat.S_ISDIR(status.st_mode):
        return NO_DIRECTORY
    return risk(status) or way_risk(directory)


def way_risk(directory: pathlib.Path) -> str:
    """Return why another user could have replaced a directory by another one, "" if none could.

    In a sticky directory, such as /tmp, others can neither rename nor remove what isn't theirs. The owner of the root directory is trusted,
    too: in a user namespace that may not be root, but controls the whole system anyway.
    """
    if not SYSTEM_HAS_MODES:
        return ""
    trusted = (ROOT, os.geteuid(), os.lstat(os.sep).st_uid)
    for place, status in way(directory):
        if status.st_uid not in trusted:
            return f"{place} belongs to another user"
        if stat.S_ISDIR(status.st_mode) and status.st_mode & OTHERS_WRITE and not status.st_mode & stat.S_ISVTX:
            return f"others can write to {place}"
    return ""


def way(directory: pathlib.Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield each directory and link that the system passes on the path to a directory, and the directory itself, with their status."""
    place, links = os.sep, 0
    yield place, os.lstat(place)
    names = [*(directory if directory.is_absolute() else pathlib.Path.cwd() / directory).parts[:0:-1]]
    while names:
        name = names.pop()
        if name == os.pardir:
            place = os.path.dirname(place)  # noqa: PTH120  # `place` is no link
            continue
        inner = os.path.join(place, name)  # noqa: PTH118
        status = os.lstat(inner)
        yield inner, status
        if stat.S_ISDIR(status.st_mode):
            place = inner
            continue
        if not stat.S_ISLNK(status.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), inner)
        links += 1
        if links > MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), inner)
        target = pathlib.Path(inner).readlink()
        place = os.sep if target.is_absolute() else place
        names += [name for name in target.parts[::-1] if name != target.root]


def prepare(directory: pathlib.Path) -> str:
    """Create a directory if it doesn't exist. Return why it can't hold machine code, "" if it can."""
    try:
        absent = []
        place = directory.absolute()
        while not os.path.lexists(place):
            absent.append(place)
            place = place.parent
        reason = way_risk(place) if absent else ""
        if reason:
            return reason
        for one in reversed(absent):
            with contextlib.suppress(FileExistsError):  # another process was faster
                one.mkdir(DIRECTORY_MODE)
        return directory_risk(directory) or ("" if os.access(directory, os.W_OK | os.X_OK) else NOT_WRITABLE)
    except OSError as error:
        return error.strerror or str(error)


def write(path: pathlib.Path, content: bytes) -> None:
    """Write a file, which appears under its name only when it is complete. If that fails, raise OSError and leave no file."""
    unfinished = path.with_name(f"{path.name}.{os.urandom(8).hex()}")
    try:
        with os.fdopen(os.open(unfinished, CREATE, FILE_MODE), "wb") as stream:
            stream.write(content)
        unfinished.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise
