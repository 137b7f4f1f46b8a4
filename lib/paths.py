"""Where things are, whatever the working directory; and the one way in which files are written."""

import contextlib
import fcntl
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from lib.errors import CannotWrite

PACKAGE = Path(__file__).resolve().parent
# PAPERS_ROOT serves trials on a copy of the notebooks; the package itself always comes from where it is installed.
ROOT = Path(os.environ.get("PAPERS_ROOT", PACKAGE.parent)).resolve()
NOTEBOOKS = ROOT / "notebooks"
FIGURES = ROOT / "figures"
CATALOGUE = NOTEBOOKS / "catalogue.csv"
BUILD = Path(os.environ.get("PAPERS_BUILD", ROOT / "build")).resolve()

_TEMPORARY = ".tmp-"
_HOST = re.sub("[^A-Za-z0-9.]", "_", socket.gethostname())
_DAY = 86_400.0  # seconds


def temporary_name(path: Path) -> Path:
    """A name beside a path that tells who writes there: a process of a machine, for the folder may be shared by several."""
    return path.with_name(f"{_TEMPORARY}{os.getpid()}-{_HOST}-{path.name}")


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a file so that a reader sees the old content or the new, never a part.

    The content goes to a temporary file beside the target, which is then renamed over it.

    Args:
        path: target; its folder is made when missing.
        content: text is encoded as UTF-8.

    Raises:
        CannotWrite: the disk is full or the folder cannot be written; the target is untouched and no temporary file is left.
    """
    content = content.encode() if isinstance(content, str) else content
    temporary = temporary_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise CannotWrite(f"could not write {path} ({error.strerror}){_advice(path)}") from error
        raise


def _advice(path: Path) -> str:
    inside = path.is_relative_to(BUILD)
    return ": free some space there, or name another folder with PAPERS_BUILD" if inside else ""


def sweep_temporary_files(folder: Path) -> None:
    """Remove the temporary files that killed processes left in a folder.

    Those of living processes stay, and so do those of other machines until they are a day old.
    """
    for temporary in folder.glob(f"{_TEMPORARY}*"):
        pid, host, *_ = [*temporary.name.removeprefix(_TEMPORARY).split("-"), ""]
        with contextlib.suppress(OSError):
            if host == _HOST:
                abandoned = not (pid.isdigit() and _is_alive(int(pid)))
            else:
                abandoned = time.time() - temporary.stat().st_mtime > _DAY
            if abandoned:
                temporary.unlink()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    with contextlib.suppress(OSError, IndexError):  # on Linux: one that has ended, and that nobody has asked for since
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True


@contextlib.contextmanager
def locked(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Keep other processes out while the block runs; the lock of a killed process is free at once.

    Args:
        path: of the file that stands for the lock; it is there while somebody holds it.
        waiting: called once when another process has the lock.

    Raises:
        CannotWrite: the file cannot be made.
    """
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = open(path, "w")  # noqa: SIM115
        except OSError as error:
            raise CannotWrite(f"could not write {path} ({error.strerror}){_advice(path)}") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        # Whoever had the lock has removed the file: then this one has the lock of a file that nobody else can find.
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            break
        file.close()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        file.close()


@contextlib.contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Set environment variables for a while; processes started inside inherit them."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def end_with_parent(parent: int) -> None:
    """Stop this process when the one that waits for it is gone, however it went, and also if it is gone already.

    Args:
        parent: process id of the one that waits, as it knows it: asked for here, it could be that of another by now.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
