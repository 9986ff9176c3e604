"""Where findings come from: which bnjax, which commit of it, on what machine, when."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax

import bnjax


def provenance() -> dict[str, Any]:
    """Version, commit ("modified" where files differ from it; None outside a checkout), machine, date."""
    return {
        "bnjax": bnjax.__version__,
        "commit": _commit(Path(bnjax.__file__).parent),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "system": platform.system(),
        "machine": platform.machine(),
        "cpu_count": os.cpu_count(),
    }


def _commit(package: Path) -> str | None:
    """The commit that the package is checked out at, and whether a file of it was changed since."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(package), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=10).stdout.strip()

    try:
        if not git("ls-files", "__init__.py"):
            return None  # a checkout of something else, with bnjax installed in it
        changed = git("status", "--porcelain", "--untracked-files=all", ".")
        return git("rev-parse", "--short=12", "HEAD") + (", modified" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None
