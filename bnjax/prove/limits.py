"""A time limit that user code cannot outrun: as far as Python allows, which is in the main thread."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

_AGAIN = 0.05  # an exception raised while an object is deleted is lost: the alarm rings again


class TimeUp(BaseException):
    """The time is over; no `except Exception` of a user's program catches it."""


@contextlib.contextmanager
def time_limit(deadline: float) -> Iterator[None]:
    """Raise TimeUp at `deadline` (of `time.monotonic`), whatever runs then.

    Outside of the main thread, where there are no alarms, and where somebody else uses the alarm, nothing
    interrupts: the steps of a proof ask for the time themselves.
    """
    if not _free():
        yield
        return

    armed = [True]

    def ring(number: int, frame: FrameType | None) -> None:
        if armed:
            raise TimeUp

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(deadline - time.monotonic(), 1e-6), _AGAIN)
    try:
        try:
            yield
        finally:
            armed.clear()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


def _free() -> bool:
    return (
        hasattr(signal, "SIGALRM")
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
        and signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    )
