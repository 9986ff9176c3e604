"""A time limit that user code cannot outrun: as far as Python allows, which is in the main thread."""

import signal
import threading
import time
from types import FrameType

_AGAIN = 0.2
# where an exception would be lost, or would leave the alarm on: then the next ring raises
_DEAF = frozenset(("__del__", "_xla_gc_callback", "__enter__", "__exit__"))
_CALLED_BACK = ("weakref.py", "_weakrefset.py")  # by the garbage collector


class TimeUp(BaseException):
    """The time is over; no `except Exception` of a user's program catches it."""


ENDS = (KeyboardInterrupt, TimeUp)  # what of all that is raised is not the user's code's


class TimeLimit:
    """Raises TimeUp at `deadline` (of `time.monotonic`), whatever runs then.

    Outside of the main thread, where there are no alarms, and where somebody else uses the alarm, nothing
    interrupts: the steps of a proof ask for the time themselves.
    """

    def __init__(self, deadline: float):
        self._deadline = deadline
        self._mine = False

    def __enter__(self) -> None:
        self._mine = _free()
        if self._mine:
            signal.signal(signal.SIGALRM, _ring)
            signal.setitimer(signal.ITIMER_REAL, max(self._deadline - time.monotonic(), 1e-6), _AGAIN)

    def __exit__(self, *_: object) -> None:
        if self._mine:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)


def _ring(number: int, frame: FrameType | None) -> None:
    while frame is not None:
        if frame.f_code.co_name in _DEAF or frame.f_code.co_filename.endswith(_CALLED_BACK):
            return
        frame = frame.f_back
    raise TimeUp


def _free() -> bool:
    return (
        hasattr(signal, "SIGALRM")
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
        and signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    )
