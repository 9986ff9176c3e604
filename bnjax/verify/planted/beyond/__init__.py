"""Right and wrong rules from outside batch norm: what a checker meets in other people's code.

A topic is a function, and its rules are tables: losses, activations, softmax and attention, normalizations,
recurrences, linear algebra, gather and scatter and pooling, convolutions and spectra, magnitudes, trees.
"""

from bnjax.verify.planted.beyond.activations import ACTIVATIONS
from bnjax.verify.planted.beyond.attention import NORMALIZATIONS, SOFTMAXES
from bnjax.verify.planted.beyond.linear_algebra import ALGEBRA
from bnjax.verify.planted.beyond.losses import LOSSES
from bnjax.verify.planted.beyond.places import PLACES
from bnjax.verify.planted.beyond.recurrences import RECURRENCES
from bnjax.verify.planted.beyond.signals import SIGNALS
from bnjax.verify.planted.beyond.topic import Topic
from bnjax.verify.planted.family import Case

__all__ = ["RIGHT", "TOPICS", "WRONG", "Topic"]

TOPICS: tuple[Topic, ...] = (
    *(*LOSSES, *ACTIVATIONS, *SOFTMAXES, *NORMALIZATIONS, *RECURRENCES, *ALGEBRA, *PLACES, *SIGNALS),
)
RIGHT: tuple[Case, ...] = tuple(case for topic in TOPICS for case in topic.right_cases())
WRONG: tuple[Case, ...] = tuple(case for topic in TOPICS for case in topic.wrong_cases())
