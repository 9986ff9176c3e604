"""Theorem 31 for Coq: the gradient that the program's VJP returns is bounded, and the bounds are reached."""

from dataclasses import dataclass
from importlib.resources import files
from string import Template

LIBRARY = "Smoothness.v"


@dataclass(frozen=True)
class Layout:
    """How the batch lies in x: what its sums, its elements and its channels are in Coq.

    Attributes:
      sizes: the sizes, as the printed VJP takes them.
      batch: the sizes of the batch, all > 0.
      functional: `over1 n` or `over3 N H W`, the sum over the batch; `suffix` is its number of axes.
      elements: the number of elements.
      at: the element's indices; `pair` what they are as the functional's index, `back` the other way round.
      channel: the index of the channel, if there are any.
    """

    sizes: str
    batch: tuple[str, ...]
    elements: str
    at: tuple[str, ...]
    pair: str
    back: tuple[str, ...]
    channel: str = ""

    @property
    def functional(self) -> str:
        """The sum over the batch."""
        return f"over{len(self.batch)} {' '.join(self.batch)}"


LAYOUTS = {
    "n": Layout("n", ("n",), "(INR n)", ("i",), "i", ("p",)),
    "n C": Layout("C n", ("n",), "(INR n)", ("i",), "i", ("p",), "c"),
    "N H W C": Layout(
        "C H N W",
        ("N", "H", "W"),
        "(INR N * INR H * INR W)",
        ("i", "j", "k"),
        "(i, (j, k))",
        ("(fst p)", "(fst (snd p))", "(snd (snd p))"),
        "c",
    ),
}

_TEXT = Template("""
Require Import Smoothness.

(* the gradient of istd that the program's own VJP returns, for a cotangent of 1 *)
Definition gradient ($sizes : nat) (x : $array) (eps : $eps_type) : $array :=
  let '(y, v_x, v_eps) := vjp $sizes $one x eps in v_x.

Lemma entries ($sizes $indices$channel : nat) (x : $array) (eps : $eps_type) : $positive ->
  0 < $eps -> gradient $sizes x eps $indices$channel =
    istd_gradient ($functional) $elements (fun p => x $back$channel) ($eps) $pair.
Proof.
  intros; unfold gradient, vjp, vjp_program; start.
  unfold istd_gradient, variance_of, mean, over3, over2, over1; cbn [fst snd]. identity. (* the gradient *)
Qed.

Theorem gradient_is_bounded ($sizes$binder : nat) (x : $array) (eps : $eps_type) : $positive -> 0 < $eps ->
  sqrt ($norm_left) <= 2 / (3 * sqrt 3 * ($eps) * sqrt $elements) /\\
  forall $indices : nat, $within ->
    Rabs (gradient $sizes x eps $indices$channel) <=
      sqrt ($elements - 1) / $elements * (2 / (3 * sqrt 3 * ($eps))).
Proof.
  start. pose proof (linear$axes $batch) as A. pose proof (positive$axes $batch) as P.
  pose proof (size$axes $batch) as S. assert (M : 0 < $elements) by pos. split.
  - change ($norm_left) with ($functional (fun p => gradient $sizes x eps $back$channel ^ 2)).
    rewrite (l_ext _ A _ (fun p =>
      istd_gradient ($functional) $elements (fun p => x $back$channel) ($eps) p ^ 2))
      by (intro p; rewrite entries by easy; $eta; reflexivity).
    now apply norm_bounded. (* the bound of the norm *)
  - intros. rewrite entries by easy. apply entry_bounded; try easy. (* the bound of an entry *)
    now apply within$axes.
Qed.

Theorem bounds_are_reached ($sizes$binder : nat) (eps : $eps_type) : $positive -> 1 < $elements -> 0 < $eps ->
  exists x : $array,
  sqrt ($norm_left) = 2 / (3 * sqrt 3 * ($eps) * sqrt $elements) /\\
  Rabs (gradient $sizes x eps $zeros$channel) =
    sqrt ($elements - 1) / $elements * (2 / (3 * sqrt 3 * ($eps))).
Proof.
  start. pose proof (linear$axes $batch) as A. pose proof (positive$axes $batch) as P.
  pose proof (size$axes $batch) as S. assert (M : 0 < $elements) by pos.
  assert (B := first${axes}_is_bit). assert (F : $functional first$axes = 1) by now apply over${axes}_first.
  assert (O : first$axes $origin = 1) by (unfold first$axes; cbn; lra).
  destruct (bounds_reached ($functional) $elements A P S M first$axes $origin ($eps)) as [z [Z Y]]; auto.
  exists (fun $indices$unused => z $pair). split.
  - etransitivity; [| exact Z]. f_equal.
    change ($norm_of) with
      ($functional (fun p => gradient $sizes (fun $indices$unused => z $pair) eps $back$channel ^ 2)).
    apply A. intro p. rewrite entries by easy. $eta. cbn [fst snd]. f_equal;
      try (apply (istd_gradient_ext _ _ A); now intro q; $eta_q). (* the norm is reached *)
  - etransitivity; [| exact Y]. rewrite entries by easy. f_equal;
      try (apply (istd_gradient_ext _ _ A); now intro q; $eta_q). (* an entry is reached *)
Qed.
Print Assumptions gradient_is_bounded.
Print Assumptions bounds_are_reached.
""")


def library() -> str:
    """The text of the library that the theorem requires."""
    return files("bnjax.verify").joinpath(LIBRARY).read_text()


def bounds(shape: str) -> str:
    """What follows the printed program of istd at `shape`: both bounds on its gradient, with their proofs.

    ‖g‖ ≤ 2/(3√3·ε·√n) and |g_i| ≤ √(n−1)/n · 2/(3√3·ε) for every x; for n ≥ 2 there is an x with equality.
    """
    layout = LAYOUTS[shape]
    channel = f" {layout.channel}" if layout.channel else ""
    count = len(layout.batch)
    indices = " ".join(layout.at)
    eps = "eps c" if channel else "eps"
    entry = f"gradient {layout.sizes} {{x}} eps {indices}{channel} ^ 2"
    several = count > 1
    return _TEXT.substitute(
        sizes=layout.sizes,
        indices=indices,
        channel=channel,
        binder=channel,
        array=" -> ".join(["nat"] * (count + bool(channel)) + ["R"]),
        eps_type="nat -> R" if channel else "R",
        eps=eps,
        one="(fun _ => 1)" if channel else "1",
        positive=" -> ".join(f"(0 < {size})%nat" for size in layout.batch),
        within=" -> ".join(f"({i} < {size})%nat" for i, size in zip(layout.at, layout.batch, strict=True)),
        functional=layout.functional,
        batch=" ".join(layout.batch),
        axes=count,
        elements=layout.elements,
        pair=layout.pair,
        back=" ".join(layout.back),
        norm_left=_sum(layout, entry.format(x="x")),
        norm_of=_sum(layout, entry.format(x=f"(fun {indices}{' _' if channel else ''} => z {layout.pair})")),
        zeros=" ".join(["0%nat"] * count),
        origin="(0, (0, 0))%nat" if several else "0%nat",
        unused=" _" if channel else "",
        eta="destruct p as [? [? ?]]" if several else "idtac",
        eta_q="destruct q as [? [? ?]]" if several else "idtac",
    )


def _sum(layout: Layout, entry: str) -> str:
    for i, size in reversed([*zip(layout.at, layout.batch, strict=True)]):
        entry = f"sum {size} (fun {i} : nat => {entry})"
    return entry
