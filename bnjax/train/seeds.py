"""What a sweep says over its seeds: how each recipe ends, and how far batch norm raises the rate that trains.

Its rows are those of a `summary.json`.  Needs no jax.
"""

import collections
import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, get_args

from bnjax.train.config import Init
from bnjax.train.outcome import Outcome

Row = dict[str, Any]


class Recipe(NamedTuple):
    """What a panel of a sweep's figures has in common."""

    init: Init
    momentum: float


class Cell(NamedTuple):
    """One network by one recipe at one learning rate, over its seeds.

    Attributes:
      outcomes: how many seeds ended so; none of them is 0.
      accuracy: the mean test accuracy in % of the seeds that trained; NaN where none did.
      spread: its standard deviation over those seeds (n − 1); NaN where fewer than two did.
    """

    outcomes: dict[Outcome, int]
    accuracy: float
    spread: float

    @classmethod
    def of(cls, rows: Iterable[Row]) -> "Cell":
        """The cell of these runs."""
        rows = list(rows)
        counts = collections.Counter(row["outcome"] for row in rows)
        outcomes = {outcome: counts[outcome] for outcome in get_args(Outcome) if counts[outcome]}
        trained = [100 * row["test_accuracy"] for row in rows if row["outcome"] == "trained"]
        mean = statistics.fmean(trained) if trained else math.nan
        return cls(outcomes, mean, statistics.stdev(trained) if len(trained) > 1 else math.nan)

    def __str__(self) -> str:
        """As "47.1 ± 1.2; 2 trained, 1 frozen": without the counts where all trained."""
        counts = ", ".join(f"{count} {outcome}" for outcome, count in self.outcomes.items())
        if "trained" not in self.outcomes:
            return counts
        mean = f"{self.accuracy:.1f}" + ("" if math.isnan(self.spread) else f" ± {self.spread:.1f}")
        return mean if list(self.outcomes) == ["trained"] else f"{mean}; {counts}"


class Headroom(NamedTuple):
    """How far batch norm raises the largest learning rate that trains.

    A network's largest rate is known from below, by the largest of the grid that trained, and from above by
    the grid's next: of two such rates the ratio is known within `lows` and `highs`, of each seed.  The
    median over all seeds there might be lies between the least of the lows and the greatest of the highs
    but with probability 2^(1 − n), of n seeds: only where all of them fall on one side of it.

    Attributes:
      seeds: those of which every rate was run with both networks.
      batch, none: the largest rate that trained, of each seed; 0 where none did.
      lows, highs: what each seed's ratio lies between; infinite where batch norm trained at the largest
        rate of all, or nothing did without.
    """

    seeds: tuple[int, ...]
    batch: tuple[float, ...]
    none: tuple[float, ...]
    lows: tuple[float, ...]
    highs: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """The median over the seeds of batch/none, both rates of the grid; infinite where none is 0."""
        ratios = [b / n if n else math.inf for b, n in zip(self.batch, self.none, strict=True)]
        return statistics.median_low(ratios)

    @property
    def low(self) -> float:
        """The lower end of the interval."""
        return min(self.lows)

    @property
    def high(self) -> float:
        """The upper end of the interval."""
        return max(self.highs)

    @property
    def confidence(self) -> float:
        """How probable it is, at least, that the interval holds the median over all seeds."""
        return 1 - 2.0 ** (1 - len(self.seeds))

    def __str__(self) -> str:
        """As "10 (75 % interval 2.5 to 20)"."""
        to = f"{self.low:.3g} " + ("or more" if math.isinf(self.high) else f"to {self.high:.3g}")
        what = "one seed," if len(self.seeds) == 1 else f"{100 * self.confidence:.0f} % interval"
        return f"{self.ratio:.3g} ({what} {to})"


def recipes(rows: Sequence[Row]) -> dict[Recipe, list[Row]]:
    """The rows by recipe, in the order they come."""
    found: dict[Recipe, list[Row]] = {}
    for row in rows:
        found.setdefault(Recipe(row["init"], row["momentum"]), []).append(row)
    return found


def headroom(rows: Sequence[Row]) -> Headroom | None:
    """That of one recipe's rows; None where no seed has both networks at every rate, or it is but one."""
    outcomes = {(row["norm"], row["learning_rate"], row["seed"]): row["outcome"] for row in rows}
    rates = sorted({row["learning_rate"] for row in rows})
    needed = [(norm, rate) for norm in ("batch", "none") for rate in rates]
    seeds = sorted({row["seed"] for row in rows})
    whole = [seed for seed in seeds if all((*what, seed) in outcomes for what in needed)]
    if not whole or len(rates) < 2:
        return None

    def largest(norm: str, seed: int) -> float:
        return max((rate for rate in rates if outcomes[norm, rate, seed] == "trained"), default=0.0)

    after = dict(zip([0.0, *rates], [*rates, math.inf], strict=True))
    batch, none = ([largest(norm, seed) for seed in whole] for norm in ("batch", "none"))
    pairs = list(zip(batch, none, strict=True))
    lows = [b / after[n] for b, n in pairs]
    highs = [after[b] / n if n else math.inf for b, n in pairs]
    return Headroom(*map(tuple, (whole, batch, none, lows, highs)))


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of a share, by the score test: Wilson, J. Am. Stat. Assoc. 22 (1927) 209.

    (p + z²/2n ± z·√(p(1 − p)/n + z²/4n²)) / (1 + z²/n), where p is the share and z the normal quantile.
    """
    z, share = statistics.NormalDist().inv_cdf(0.975), successes / trials
    middle = share + z * z / (2 * trials)
    half = z * math.sqrt(share * (1 - share) / trials + (z / (2 * trials)) ** 2)
    low, high = ((middle + sign * half) / (1 + z * z / trials) for sign in (-1, 1))
    return max(low, 0.0), min(high, 1.0)
