"""Files that are written whole or not at all, whatever happens meanwhile."""

from __future__ import annotations

import _thread
import contextlib
import errno
import os
import re
import secrets
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["naming", "write_atomically"]

Data = bytes | memoryview

_TEMPORARY = re.compile(r"\.normcore-[0-9a-f]{16}\.tmp")
_ABANDONED_AFTER = 600.0  # seconds without a write, beside that nobody holds its lock: not every file system has locks


def write_atomically(path: str | os.PathLike[str], data: Data | Sequence[Data]) -> None:
    """Replace the file `path` by `data`, such that at any moment it is either the old file or the whole new one.

    The new file has no name until it is complete and on the disk (where the system has such files; elsewhere it is a
    temporary in the same folder); then it takes the old one's place, and the folder is synced. It has the old one's
    mode from the start. On failure nothing of it is left. A temporary that a killed process has left behind is removed
    by the next write to its folder, ten minutes later at the earliest. A symbolic link is followed.

    An exception of a signal handler, such as KeyboardInterrupt, comes after the write. A second one comes at once: then
    the write goes on by itself or is given up.

    Raises
    ------
    OSError
        With the name of the file. It is as it was, except where the message says that the new one is in place: then
        only the folder could not be synced, so that the old one may be back after a loss of power. Also for a path that
        is there and no regular file: a rename would put a file in a device's place.
    """
    target = os.path.realpath(os.fspath(path))
    chunks = [data] if isinstance(data, (bytes, memoryview)) else data
    _undisturbed(lambda given_up: _write(target, chunks, given_up))


@contextlib.contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Put the file's name into an OSError that came from a descriptor, such as a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror or os.strerror(error.errno), os.fspath(path)) from error


def _undisturbed(work: Callable[[Callable[[], bool]], None]) -> None:
    """Do `work` where no signal handler can break into it, and wait for it.

    Python runs handlers in the main thread alone, between any two instructions: a ``try`` cannot begin early enough to
    keep a descriptor from being lost. So the main thread leaves the work to another one. `work` is given a function
    that says whether nobody waits for it any more.
    """
    if threading.current_thread() is not threading.main_thread():
        work(lambda: False)
        return
    # Plain locks and no Thread or Event, whose own code Python runs handlers in the midst of.
    claim, done = threading.Lock(), threading.Lock()
    outcome: list[BaseException | None] = []
    given_up: list[bool] = []
    done.acquire()

    def run() -> None:
        if not claim.acquire(blocking=False):
            return
        try:
            work(lambda: bool(given_up))
            outcome.append(None)
        except BaseException as error:
            outcome.append(error)
        done.release()

    try:
        try:
            _thread.start_new_thread(run, ())
        except RuntimeError:  # no thread to be had: a limit, or the interpreter is ending
            run()
        done.acquire()
    finally:
        try:
            # Interrupted before the thread has begun, it never will; else it is waited for.
            if not claim.acquire(blocking=False) and not outcome:
                done.acquire()
        except BaseException:
            given_up.append(True)
            raise
    failure = outcome.pop()  # pop: the error's traceback refers to the list
    if failure is not None:
        raise failure


def _write(target: str, chunks: Sequence[Data], given_up: Callable[[], bool]) -> None:
    folder = os.path.dirname(target)
    with naming(target):
        try:
            mode = os.stat(target).st_mode
        except FileNotFoundError:
            mode = None
        if mode is not None and not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "not a regular file", target)
        _remove_abandoned(folder)
        if not _write_unnamed(folder, target, mode, chunks, given_up):
            _write_named(folder, target, mode, chunks, given_up)
        _sync_folder(folder)


def _write_unnamed(
    folder: str, target: str, mode: int | None, chunks: Sequence[Data], given_up: Callable[[], bool]
) -> bool:
    """Write a file that has no name before it is complete; False where the system has no such files."""
    if not hasattr(os, "O_TMPFILE"):
        return False
    try:
        descriptor = os.open(folder, os.O_WRONLY | os.O_TMPFILE, _first_mode(mode))
    except OSError:
        return False  # and the other way says what is wrong, if anything is
    try:
        _fill(descriptor, mode, chunks, given_up)
        source = f"/proc/self/fd/{descriptor}"
        try:
            if mode is None:
                with contextlib.suppress(FileExistsError):
                    os.link(source, target, src_dir_fd=descriptor)  # a dir_fd of any kind: so that it follows the link
                    return True
            temporary = _temporary(folder)
            os.link(source, temporary, src_dir_fd=descriptor)
        except OSError:
            return False  # without /proc, or without links
        _rename(temporary, target)
        return True
    finally:
        with contextlib.suppress(OSError):  # it is synced, or an error is on its way
            os.close(descriptor)


def _write_named(
    folder: str, target: str, mode: int | None, chunks: Sequence[Data], given_up: Callable[[], bool]
) -> None:
    temporary = _temporary(folder)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        descriptor = os.open(temporary, flags, _first_mode(mode))
    except OSError as error:
        # The user knows the file, not the temporary.
        raise OSError(error.errno, error.strerror, target) from None
    try:
        try:
            _fill(descriptor, mode, chunks, given_up)
        finally:
            os.close(descriptor)
    except BaseException:
        _unlink(temporary)
        raise
    _rename(temporary, target)


def _first_mode(mode: int | None) -> int:
    """What to open a new file with: at no time may more people read it than in the end. The umask takes from it."""
    return 0o666 if mode is None else mode & 0o777


def _fill(descriptor: int, mode: int | None, chunks: Sequence[Data], given_up: Callable[[], bool]) -> None:
    if fcntl is not None:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # for _remove_abandoned
    for chunk in chunks:
        view = memoryview(chunk).cast("B")
        while view:
            view = view[os.write(descriptor, view) :]
    if mode is not None and hasattr(os, "fchmod"):
        with contextlib.suppress(OSError):  # a file system without modes
            os.fchmod(descriptor, stat.S_IMODE(mode))
    os.fsync(descriptor)
    if given_up():
        raise InterruptedError(errno.EINTR, "interrupted twice")


def _temporary(folder: str) -> str:
    return os.path.join(folder, f".normcore-{secrets.token_hex(8)}.tmp")


def _unlink(temporary: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(temporary)


def _rename(temporary: str, target: str) -> None:
    try:
        os.replace(temporary, target)
    except BaseException as error:
        _unlink(temporary)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, target) from None
        raise


def _remove_abandoned(folder: str) -> None:
    """Remove the temporaries of killed processes: nobody holds their lock, and nobody has written to them for long."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if fcntl is not None and _TEMPORARY.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    _remove_if_abandoned(entry.path)


def _remove_if_abandoned(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode) and time.time() - found.st_mtime > _ABANDONED_AFTER:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path)
    finally:
        os.close(descriptor)


def _sync_folder(folder: str) -> None:
    if os.name == "nt":  # there is no descriptor of a folder, and renames are journalled
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        # Some network and FUSE file systems cannot sync a folder, and one may write to some that one may not read.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES):
            text = error.strerror or os.strerror(error.errno or 0)
            raise OSError(error.errno, f"the new file is in place, but its folder cannot be synced: {text}") from error
