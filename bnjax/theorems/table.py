"""The table of the theorems, which every verifier, test, notebook and page walks."""

from collections.abc import Callable
from dataclasses import dataclass

import jax

from bnjax.theorems.affine import affine, affine_jacobian, affine_primal
from bnjax.theorems.batch_norm import batch_norm, batch_norm_jacobian, batch_norm_primal
from bnjax.theorems.centering import center, center_jacobian, center_primal
from bnjax.theorems.inverse_stddev import inverse_stddev, inverse_stddev_jacobian, inverse_stddev_primal
from bnjax.theorems.normalize import normalize, normalize_jacobian, normalize_primal


@dataclass(frozen=True)
class Theorem:
    """A theorem of the chapter and the three functions that are it, all called with the same arguments.

    Attributes:
      number: the chapter's.
      name: the chapter's, in a few words.
      statement: the formula, in LaTeX.
      hypotheses: when it holds, in LaTeX.
      primal: the forward in plain JAX; autodiff of it is the oracle.
      op: the same forward with the hand VJP attached.
      jacobian: ∂(op)/∂(first argument) as a dense array, the output's axes before the input's.
      shapes: the arguments' for one channel, a batch of n: "n" a vector of the batch, "" a scalar.
      positive: indices of the arguments that are > 0 by hypothesis (ε).

    Example:
      >>> import bnjax
      >>> theorem = bnjax.THEOREMS[-1]
      >>> theorem.number, theorem.name, theorem.op is bnjax.batch_norm
      (34, 'full batch norm VJP', True)
      >>> theorem.shapes, theorem.positive  # x, γ, β, ε
      (('n', '', '', ''), (3,))
    """

    number: int
    name: str
    statement: str
    hypotheses: str
    primal: Callable[..., jax.Array]
    op: Callable[..., jax.Array]
    jacobian: Callable[..., jax.Array]
    shapes: tuple[str, ...]
    positive: tuple[int, ...] = ()


_NORMALIZE_VJP = r"\frac{\mathrm{istd}}{n}\Bigl(n\,dy - \sum dy - \hat x \sum (dy\cdot\hat x)\Bigr)"

THEOREMS: tuple[Theorem, ...] = (
    Theorem(
        28,
        "affine Jacobian",
        r"\frac{\partial (\gamma v_j + \beta)}{\partial v_i} = \gamma\,\delta_{ij}",
        r"\text{always}",
        affine_primal,
        affine,
        affine_jacobian,
        ("n", "", ""),
    ),
    Theorem(
        29,
        "centering Jacobian",
        r"\frac{\partial (x_j - \mu)}{\partial x_i} = \delta_{ij} - \frac{1}{n}",
        r"n \ge 1",
        center_primal,
        center,
        center_jacobian,
        ("n",),
    ),
    Theorem(
        30,
        "inverse-stddev Jacobian",
        r"\frac{\partial\,\mathrm{istd}}{\partial x_i} = -\mathrm{istd}^3\,\frac{x_i - \mu}{n}",
        r"\varepsilon > 0",
        inverse_stddev_primal,
        inverse_stddev,
        inverse_stddev_jacobian,
        ("n", ""),
        (1,),
    ),
    Theorem(
        31,
        "inverse-stddev smoothness",
        r"\mathrm{istd}\ \text{is differentiable everywhere, and}\ "
        r"\lVert\nabla\,\mathrm{istd}\rVert_2 \le \frac{2}{3\sqrt3\,\varepsilon\sqrt n}",
        r"\varepsilon > 0",
        inverse_stddev_primal,
        inverse_stddev,
        inverse_stddev_jacobian,
        ("n", ""),
        (1,),
    ),
    Theorem(
        32,
        "normalize, three-term VJP",
        rf"dx = {_NORMALIZE_VJP}",
        r"\varepsilon > 0",
        normalize_primal,
        normalize,
        normalize_jacobian,
        ("n", ""),
        (1,),
    ),
    Theorem(
        33,
        "affine VJP",
        r"dv = \gamma\,dy,\quad d\gamma = \sum dy\cdot v,\quad d\beta = \sum dy",
        r"\text{always}",
        affine_primal,
        affine,
        affine_jacobian,
        ("n", "", ""),
    ),
    Theorem(
        34,
        "full batch norm VJP",
        rf"dx = \gamma\,{_NORMALIZE_VJP},\quad "
        r"d\gamma = \sum dy\cdot\hat x,\quad d\beta = \sum dy",
        r"\varepsilon > 0",
        batch_norm_primal,
        batch_norm,
        batch_norm_jacobian,
        ("n", "", "", ""),
        (3,),
    ),
)
