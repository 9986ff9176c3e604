"""Progress of a training run: a live line on a terminal, a plain line now and then elsewhere."""

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

PLAIN_INTERVAL_SECONDS = 10.0


class TrainingProgress:
    """A context manager that shows loss, images/s and the time left, on stderr.

    Args:
      label: what is being trained.
      total_steps: of the whole run.
      batch_size: images a step.
      shown: False where another process shows it.
    """

    def __init__(self, label: str, total_steps: int, batch_size: int, shown: bool = True):
        self.label = label
        self.total_steps = total_steps
        self.batch_size = batch_size
        self.steps = 0
        console = Console(stderr=True)
        self.shown = shown
        self.live = shown and console.is_terminal
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total} steps"),
            TextColumn("{task.fields[status]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not self.live,
        )
        self.task = self.bar.add_task(label, total=total_steps, status="compiling")

    def __enter__(self) -> Self:
        self.start = self.printed = time.perf_counter()
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.bar.stop()

    def advance(self, steps: int, loss: float) -> None:
        """Say that `steps` more steps are done, the last with `loss`."""
        if self.steps == 0:
            # the first step is mostly compilation: it would spoil the speed and the time left
            self.start = time.perf_counter()
            self.uncounted = steps
        self.steps += steps
        now = time.perf_counter()
        counted = self.steps - self.uncounted
        status = f"loss={loss:.4f}"
        if counted:
            rate = counted / (now - self.start)
            status += f"  {rate * self.batch_size:.0f} images/s"
        self.bar.update(self.task, completed=self.steps, status=status)
        if self.shown and not self.live and counted and now - self.printed >= PLAIN_INTERVAL_SECONDS:
            self.printed = now
            left = (self.total_steps - self.steps) / rate
            done = f"{self.steps}/{self.total_steps} steps"
            print(f"{self.label}: {done}  {status}  {left:.0f} s left", file=sys.stderr, flush=True)

    def print(self, line: str) -> None:
        """Print a line of the log on stdout, above the live line."""
        if not self.shown:
            return
        if self.live and sys.stdout.isatty():
            self.bar.console.print(line, markup=False, highlight=False)
        else:
            print(line, flush=True)
