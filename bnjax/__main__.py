"""`python -m bnjax`: the command line, where the `bnjax` script is not on the path."""

from bnjax.cli import main

main()
