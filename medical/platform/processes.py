"""Child processes that never outlive their parent."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkContext, SpawnContext
from typing import Any, TypeVar

from medical.platform.logging import get_logger
from medical.platform.refusal import Refused

T = TypeVar("T")

log = get_logger(__name__)


def default_signals_in_children() -> None:
    """Forked processes start with the system's way to take SIGINT and SIGTERM, not with this one's handlers.

    Otherwise a worker told to stop while it still imports would run its parent's handler, and go on.
    """
    if sys.platform != "win32":
        os.register_at_fork(after_in_child=_default_signals)


def _default_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def end_with_parent() -> None:
    """In a child process: leave the terminal's signals to the parent, and end at once when it is gone.

    So a killed parent leaves neither a taken port nor a held lock behind.
    """
    if sys.platform != "win32":
        os.setpgid(0, 0)
    if parent := multiprocessing.parent_process():
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


def in_child(work: Callable[..., T], *arguments: Any, refusals: tuple[type[Exception], ...]) -> T:
    """What ``work(*arguments)`` returns in a process of its own, whose memory is given back when it ends.

    Raises ``Refused`` with the text of one of ``refusals``, or saying that the work failed unexpectedly.
    Where this process is interrupted meanwhile, the child is ended.
    """
    if sys.platform == "linux":
        context: ForkContext | SpawnContext = multiprocessing.get_context("fork")
    else:
        context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_report, args=(theirs, work, arguments, refusals))
    child.start()
    theirs.close()
    try:
        done, result = ours.recv()
    except EOFError:
        child.join()
        raise Refused(f"a process of this program was killed (exit code {child.exitcode})") from None
    finally:
        child.terminate()
        child.join()
        ours.close()
    if not done:
        raise Refused(result)
    answer: T = result
    return answer


def _report(pipe: Connection, work: Callable[..., Any], arguments: Any, refusals: tuple[type[Exception], ...]) -> None:
    end_with_parent()
    try:
        pipe.send((True, work(*arguments)))
    except refusals as error:
        pipe.send((False, str(error)))
    except Exception as error:
        log.critical("unexpected_error", exc_info=True)
        pipe.send((False, f"unexpected {type(error).__name__}: the line above says where"))
