"""Directories and files that hold machine code: which of them no other user could have changed, and how they are written.

What is loaded as machine code may do all that this process may. So a file is loaded only if it belongs to this user or to root and nobody
else can write to it, and only from a directory that nobody else can put another file, directory or link into: this is asked of every
directory on the way to it, too. Files and directories made here are as private, whatever the umask is. Windows has other permissions,
of which nothing is asked.
"""

import contextlib
import errno
import os
import pathlib
import stat
from collections.abc import Iterator

SYSTEM_HAS_MODES = os.name == "posix"
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
FILE_MODE, DIRECTORY_MODE = 0o644, 0o755  # at most: the umask may take more away
READ = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)  # a FIFO holds nobody up
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
AT_ONCE = 1 << 20  # bytes read by one call
MOST_LINKS = 40  # on the way to a directory, as Linux has it
ROOT = 0

NO_FILE = "it is not a regular file"
NO_DIRECTORY = "it is not a directory"
OTHERS_OWN = "it belongs to another user"
OTHERS_CHANGE = "others can write to it"
NOT_WRITABLE = "this process can't write to it"


class Refused(Exception):
    """A file that another user could have written."""


def read(path: pathlib.Path, *, by_anybody: bool = False) -> bytes:
    """Return a file's content; with by_anybody=True whoever could have written it.

    The file is opened once, so what is checked is what is read. Raises Refused, and OSError where there is no file to read.
    """
    file = os.open(path, READ)
    try:
        status = os.fstat(file)
        reason = file_risk(status)
        if reason and (reason == NO_FILE or not by_anybody):
            raise Refused(reason)
        pieces = []  # read by the system's call alone: while Python shuts down there is no `open`
        while piece := os.read(file, AT_ONCE):
            pieces.append(piece)
        return b"".join(pieces)
    finally:
        os.close(file)


def file_risk(status: os.stat_result) -> str:
    """Return why another user could have written a file, "" where none could."""
    return risk(status) if stat.S_ISREG(status.st_mode) else NO_FILE


def risk(status: os.stat_result) -> str:
    """Return why another user could have written to a file or a directory, "" where none could."""
    if not SYSTEM_HAS_MODES:
        return ""
    if status.st_uid not in (ROOT, os.geteuid()):
        return OTHERS_OWN
    return OTHERS_CHANGE if status.st_mode & OTHERS_WRITE else ""


def directory_risk(directory: pathlib.Path) -> str:
    """Return why another user could have put files into a directory, "" where none could. Raises OSError where it isn't there."""
    status = directory.stat()
    if not stat.S_ISDIR(status.st_mode):
        return NO_DIRECTORY
    return risk(status) or way_risk(directory)


def way_risk(directory: pathlib.Path) -> str:
    """Return why another user could have put another directory into a directory's place, "" where none could.

    In a sticky directory, as /tmp, others can neither rename nor remove what isn't theirs. Where the root directory isn't root's, as in a
    user namespace, its owner has the whole system anyway.
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
    """Give every directory and every link that the system goes through on the way to a directory, and the directory itself."""
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
    """Make a directory where it isn't there, and return why it can't hold machine code, "" where it can."""
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
    """Write a file, which is there when it is whole. Raises OSError where that can't be, and leaves nothing."""
    unfinished = path.with_name(f"{path.name}.{os.urandom(8).hex()}")
    try:
        with os.fdopen(os.open(unfinished, CREATE, FILE_MODE), "wb") as stream:
            stream.write(content)
        unfinished.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise
