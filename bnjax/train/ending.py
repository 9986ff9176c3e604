"""How one process of several ends: at once, with one line, and with an exit code of its own.

Left alone, JAX ends a process that has lost another by abort(), in a thread of XLA's: pages of stderr, exit
code 134.  (Its runtime takes a callback instead, but cannot call it: std::bad_cast.) And a process that
fails would first wait for the others at JAX's barrier.  So from `watch` on what native code prints goes to a
file, why there is a SIGABRT is read off that file, and `at_once` waits for nobody.
"""

import contextlib
import ctypes
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import TextIO

LOST = "another process of the run has ended or cannot be reached"
_FATAL = b"JAX distributed service detected fatal errors"  # what JAX prints before it aborts
_TOLD = ("Gloo", "coordination service")  # in an error's text, if it is of another process


class _Watch:
    """What `watch` makes: the file of native code's output, the signals that came, and the line to say."""

    def __init__(self, line: str):
        self.line = line
        self.last_word = threading.Lock()  # of the thread that says why the process ends
        self.native, name = tempfile.mkstemp()
        os.unlink(name)
        sys.stdout, sys.stderr = self._apart(sys.stdout), self._apart(sys.stderr)
        # Python's handlers wait for the main thread, which may be within XLA; this is written at once
        self.signals, came = os.pipe()
        for end in (self.signals, came):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(came, warn_on_full_buffer=False)
        self.handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(self._aborted)
        ctypes.CDLL(None).signal(signal.SIGABRT, self.handler)

    def _apart(self, stream: TextIO) -> TextIO:
        """A stream for Python alone that goes where `stream` went, whose descriptor now is the file's."""
        stream.flush()
        descriptor = stream.fileno()
        ours = os.fdopen(os.dup(descriptor), "w", 1, encoding=stream.encoding, errors=stream.errors)
        os.dup2(self.native, descriptor)
        return ours

    def _aborted(self, _: int) -> None:
        """What SIGABRT does.  Where no process was lost, native code's words come out, and it aborts."""
        native = os.pread(self.native, 1 << 20, 0)
        if _FATAL not in native:
            os.write(sys.stderr.fileno(), native)
            return
        if not self.last_word.acquire(blocking=False):
            time.sleep(10)  # the other thread ends the process meanwhile
        code, line = 2, self.line
        with contextlib.suppress(BlockingIOError):
            came = os.read(self.signals, 1)[0]
            code, line = (130, "interrupted") if came == signal.SIGINT else (128 + came, "")
        if line:
            os.write(sys.stderr.fileno(), f"bnjax: {line}\n".encode())
        os._exit(code)


_watch: _Watch | None = None


def watch(line: str) -> None:
    """From now on end as the module says; `line` is what is said where JAX gives up, and can be set anew."""
    global _watch
    if _watch is None:
        _watch = _Watch(line)
    _watch.line = line


def is_lost(error: Exception) -> bool:
    """Whether an error of XLA's says that another process was lost."""
    return _watch is not None and any(word in str(error) for word in _TOLD)


def take_last_word() -> None:
    """Be the one thread that says why the process ends; another one that does so ends it here."""
    if _watch is not None and not _watch.last_word.acquire(blocking=False):
        time.sleep(10)


@contextlib.contextmanager
def at_once() -> Iterator[None]:
    """What fails within, of one process of several, ends the process, with nothing waited for."""
    try:
        yield
    except BaseException as error:
        code = error.code if isinstance(error, SystemExit) else 1
        if _watch is None or not code:
            raise
        if not isinstance(error, SystemExit):
            sys.excepthook(*sys.exc_info())
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(code if isinstance(code, int) else 1)
