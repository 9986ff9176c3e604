"""`bnjax bench`: ours beside Flax, and beside PyTorch where it is installed, in one process.

`layers`, `steps`, `memory` and `precision` each measure one thing and return rows; `report` writes them.
"""
