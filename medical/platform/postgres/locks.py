"""Who uses the embedded server: locks that the system lets go of when their holder dies, however it dies."""

import os
import sys
from pathlib import Path

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


class Lock:
    """One lock file, held by many (``share``) or by one (``own``)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    def share(self) -> None:
        """Hold it together with others; waits for one who owns it. On Windows nothing is held."""
        if sys.platform != "win32":
            fcntl.flock(self._open(), fcntl.LOCK_SH)

    def own(self) -> None:
        """Hold it alone; waits until nobody else holds it."""
        if sys.platform == "win32":
            msvcrt.locking(self._open(), msvcrt.LK_LOCK, 1)
        else:
            fcntl.flock(self._open(), fcntl.LOCK_EX)

    def own_at_once(self) -> bool:
        """Hold it alone if nobody else holds it; when False, whatever was held before is let go of."""
        if sys.platform == "win32":
            return True
        try:
            fcntl.flock(self._open(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            return False
        return True

    def release(self) -> None:
        """Let go of it; processes forked from this one hold it no longer either."""
        if self._file is None:
            return
        if sys.platform == "win32":
            os.lseek(self._file, 0, os.SEEK_SET)
        else:
            fcntl.flock(self._file, fcntl.LOCK_UN)
        os.close(self._file)
        self._file = None

    def _open(self) -> int:
        if self._file is None:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        return self._file
