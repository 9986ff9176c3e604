"""Several processes that train as one, by jax.distributed: how they join, and what the first says to all.

Process 0 is the first: it writes the run directory, and what it has read there is what all go on with.
"""

import contextlib
import json
import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np

from bnjax.errors import ArgumentError, UserError
from bnjax.train import ending

JOINING_SECONDS = 60  # from the first to the last
LOST_SECONDS = 30  # without a sign of life


class Membership(NamedTuple):
    """Which process this is, of how many, and the HOST:PORT of process 0, where they find each other."""

    coordinator: str
    processes: int
    process: int


def membership(coordinator: str | None, processes: int | None, process: int | None) -> Membership | None:
    """The three as one, or None where there is none of them.

    Raises:
      ArgumentError: one is missing, or is not what it may be.
    """
    if coordinator is None or processes is None or process is None:
        given = {"coordinator": coordinator, "processes": processes, "process": process}
        lacking = [name for name, value in given.items() if value is None]
        if len(lacking) == len(given):
            return None
        raise ArgumentError(lacking[0], "is missing: --coordinator, --processes and --process go together")
    _address(coordinator)
    if processes < 1:
        raise ArgumentError("processes", f"must be at least 1, got {processes}")
    if not 0 <= process < processes:
        raise ArgumentError("process", f"must be from 0 to {processes - 1}, got {process}")
    return Membership(coordinator, processes, process)


def join(member: Membership) -> None:
    """Make this process one of several, before anything of JAX's runs; it ends as `bnjax.train.ending` says.

    Raises:
      UserError: process 0 does not listen at the coordinator within a minute, or cannot.
    """
    if member.process:
        _wait_for(member.coordinator)
    else:
        _need_port(member.coordinator)
    ending.watch(f"not all {member.processes} processes came to {member.coordinator} in {JOINING_SECONDS} s")
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM for itself
    # in a thread, as it keeps Ctrl-C and SIGTERM waiting
    ThreadPoolExecutor(1).submit(
        jax.distributed.initialize,
        *member,
        cluster_detection_method="deactivate",
        initialization_timeout=JOINING_SECONDS,
        heartbeat_timeout_seconds=LOST_SECONDS,
    ).result()
    ending.watch(ending.LOST)


def is_first() -> bool:
    """Whether this process is the one that writes: process 0, or the only one."""
    return jax.process_index() == 0


def from_first(value: Any) -> Any:
    """The `value` of process 0, which JSON can hold, in all of them."""
    if jax.process_count() == 1:
        return value
    from jax.experimental.multihost_utils import broadcast_one_to_all

    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    length = int(broadcast_one_to_all(np.int32(len(text))))
    return json.loads(broadcast_one_to_all(np.resize(text, length)).tobytes())


def agree(**given: Any) -> None:
    """UserError unless process 0 was given the same; values that JSON can hold."""
    ours, theirs = json.loads(json.dumps(given)), from_first(given)
    for name in ours | theirs:
        if ours.get(name) != theirs.get(name):
            values = f": {ours.get(name)}, not {theirs.get(name)}"
            told = "" if isinstance(ours.get(name), list | dict) else values
            raise UserError(f"process {jax.process_index()} differs from process 0 in {name}{told}")


def _address(coordinator: str) -> tuple[str, int]:
    """Host and port.  ArgumentError where it is no such thing."""
    host, _, port = coordinator.rpartition(":")
    if not host or not (port.isdecimal() and 0 < int(port) < 2**16):
        raise ArgumentError("coordinator", f"must be HOST:PORT, got {coordinator}")
    return host.strip("[]"), int(port)


def _wait_for(coordinator: str) -> None:
    """Return as soon as somebody listens there; JAX itself would give up by abort()."""
    until = time.monotonic() + JOINING_SECONDS
    while True:
        try:
            socket.create_connection(_address(coordinator), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > until or isinstance(error, socket.gaierror):
                told = f"process 0 cannot be reached at {coordinator}: {error.strerror or error}"
                raise UserError(told) from error
        time.sleep(0.2)


def _need_port(coordinator: str) -> None:
    """UserError where another program has the port: JAX itself would crash."""
    _, port = _address(coordinator)
    try:
        with contextlib.closing(socket.create_server(("", port))):
            pass
    except OSError as error:
        raise ArgumentError("coordinator", f"{coordinator}: {os.strerror(error.errno or 0)}") from error
