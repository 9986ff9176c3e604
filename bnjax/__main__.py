"""`python -m bnjax` and the script `bnjax`: the command, or one line where its packages are not installed."""

import sys


def main() -> None:
    """Run the command line."""
    try:
        from bnjax.cli import main as command
    except ModuleNotFoundError as error:
        print(f'bnjax: {error.name} is not installed: pip install "bnjax[train]"', file=sys.stderr)
        sys.exit(2)
    command()


if __name__ == "__main__":
    main()
