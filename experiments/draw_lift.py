"""Draw the figure of a `bnjax lift` folder again, from the numbers in it.

python experiments/draw_lift.py results/lift-cifar10
"""

import sys
from pathlib import Path

from bnjax.train.plots import draw_lift

for folder in sys.argv[1:]:
    draw_lift(Path(folder))
