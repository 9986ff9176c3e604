"""The two functions and their example arguments, taken apart."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bnjax.check import probes, traits
from bnjax.jaxprs import parameter_names, replaced

Function = Callable[..., Any]


class Argument(NamedTuple):
    """An array among the leaves of the arguments; of complex numbers the real part and the imaginary one."""

    place: int  # among all the leaves
    label: str
    value: Any  # float64 where it is floating; as it came where numpy does not know its kind
    dtype: Any  # as it came
    floating: bool
    sample: Any  # a few of its values
    imaginary: bool = False  # a part, whose real one is the argument before
    distribution: bool = False  # sums to 1 along its last axis, and does so wherever it is looked at


@dataclass(frozen=True)
class Problem:
    """An op, the primal it is held to, and the arrays that both take; all other leaves stay static."""

    op: Function
    primal: Function
    name: str
    treedef: Any
    leaves: tuple[Any, ...]
    arrays: tuple[Argument, ...]
    x64: bool  # JAX's 64-bit mode, as the caller has it
    forwards: bool = False  # whether the primal is differentiated forwards, for it cannot be backwards
    meanings: tuple[Any, ...] = ()  # of `meanings`: what both functions are given the arrays as

    @cached_property
    def floats(self) -> tuple[int, ...]:
        """Which of the arrays are differentiated."""
        return tuple(i for i, a in enumerate(self.arrays) if a.floating)

    @cached_property
    def distributions(self) -> frozenset[int]:
        """Those of the floats that sum to 1."""
        return frozenset(j for j, i in enumerate(self.floats) if self.arrays[i].distribution)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The names of the floats."""
        return tuple(self.arrays[i].label for i in self.floats)

    @property
    def given(self) -> list[Any]:
        """The arrays that came."""
        return [a.value for a in self.arrays]

    @property
    def dtypes(self) -> list[Any]:
        """Of the arrays, as they came."""
        return [a.dtype for a in self.arrays]

    def arguments(self, arrays: Sequence[Any]) -> tuple[Any, ...]:
        """The arguments of the functions, with `arrays` in their places."""
        leaves = list(self.leaves)
        for meaning in self.meanings:
            arrays = replaced(arrays, meaning.places, meaning.of([arrays[i] for i in meaning.places]))
        for argument, array in zip(self.arrays, arrays, strict=True):
            real = leaves[argument.place]
            leaves[argument.place] = _complex(real, array) if argument.imaginary else array
        return jax.tree.unflatten(self.treedef, leaves)

    def float_dtypes(self, dtypes: Sequence[Any]) -> list[Any]:
        """Of a dtype an array, those of the floats."""
        return [dtypes[i] for i in self.floats]

    def pick(self, arrays: Sequence[Any]) -> list[Any]:
        """The floats among `arrays`."""
        return [jnp.asarray(arrays[i]) for i in self.floats]

    def put(self, arrays: Sequence[Any], floats: Sequence[Any]) -> list[Any]:
        """`arrays` with `floats` in the places of theirs."""
        return replaced(arrays, self.floats, floats)

    @cached_property
    def _results(self) -> Any:
        return jax.eval_shape(lambda arrays: self.primal(*self.arguments(arrays)), self.given)

    def cotangent(self, floats: Sequence[Any], others: Sequence[Any]) -> Any:
        """What to hand to a VJP: `floats` as the primal's results are, and nothing for its `others`."""
        values, rest = iter(floats), iter(others)

        def leaf(result: Any) -> Any:
            if jnp.issubdtype(result.dtype, jnp.complexfloating):
                return next(values) - 1j * next(values)
            if _floating(result.dtype):
                return next(values)
            return np.zeros(next(rest, result).shape, jax.dtypes.float0)

        return jax.tree.map(leaf, self._results)

    def cast(self, arrays: Sequence[Any], dtypes: Sequence[Any]) -> list[Any]:
        """`arrays` in `dtypes`, one each; a random key has but its own."""
        cast = zip(arrays, dtypes, strict=True)
        return [np.asarray(a).astype(d) if isinstance(a, np.ndarray | np.generic) else a for a, d in cast]

    def widened(self, arrays: Sequence[Any]) -> list[Any]:
        """`arrays` with the floats among them in float64."""
        return self.put(arrays, [np.asarray(arrays[i]).astype(np.float64) for i in self.floats])


def take_apart(op: Function, primal: Function, args: tuple[Any, ...]) -> Problem:
    """The problem of these arguments; a Python float is an array unless the op insists it is static."""
    given = _problem(op, primal, args, static_floats=False)
    if any(type(leaf) is float for leaf in jax.tree.leaves(args)) and not _traces(given):
        static = _problem(op, primal, args, static_floats=True)
        return static if _traces(static) else given
    return given


def name_of(function: Function) -> str:
    """What a function is called in a report."""
    return getattr(function, "__name__", None) or type(function).__name__


def _problem(op: Function, primal: Function, args: tuple[Any, ...], *, static_floats: bool) -> Problem:
    paths, treedef = jax.tree_util.tree_flatten_with_path(args)
    both = zip(parameter_names(primal, len(args)), parameter_names(op, len(args)), strict=True)
    names = [ours if name == f"x{k}" else name for k, (name, ours) in enumerate(both)]
    found = [
        (place, names[path[0].idx] + jax.tree_util.keystr(path[1:]), leaf)
        for place, (path, leaf) in enumerate(paths)
        if isinstance(leaf, np.ndarray | np.generic | jax.Array)
        or (type(leaf) is float and not static_floats)
    ]
    known = [leaf.dtype for _, _, leaf in found if not isinstance(leaf, float) and _floating(leaf.dtype)]
    weak = max(map(_canonical, known), key=lambda d: jnp.finfo(d).eps, default=_canonical(float))
    arrays = tuple(a for place, label, leaf in found for a in _arguments(place, label, leaf, weak))
    leaves = tuple(leaf for _, leaf in paths)
    return Problem(op, primal, name_of(op), treedef, leaves, arrays, jax.config.read("jax_enable_x64"))


def _arguments(place: int, label: str, leaf: Any, weak: Any) -> list[Argument]:
    """A leaf as an argument, or as its two parts."""
    if not jnp.iscomplexobj(leaf):
        return [_argument(place, label, leaf, weak)]
    real, imaginary = np.real(leaf), np.imag(leaf)
    return [
        _argument(place, f"{label}.real", real, weak),
        _argument(place, f"{label}.imag", imaginary, weak)._replace(imaginary=True),
    ]


def _argument(place: int, label: str, leaf: Any, weak: Any) -> Argument:
    """A leaf as an argument; a Python float is of the dtype `weak`, that of the arrays beside it."""
    dtype = weak if type(leaf) is float else leaf.dtype
    if not (jnp.issubdtype(dtype, jnp.number) or jnp.issubdtype(dtype, jnp.bool_)):
        return Argument(place, label, leaf, dtype, False, leaf)
    floating = _floating(dtype)
    value = np.asarray(leaf).astype(np.float64) if floating else np.asarray(leaf)
    sums = floating and traits.is_distribution(value)
    value = traits.distribution(value) if sums else value
    return Argument(place, label, value, _canonical(dtype), floating, probes.sample(value), distribution=sums)


def _complex(real: Any, imaginary: Any) -> Any:
    """The numbers of these parts, numpy's if both are; in complex64 where the parts are narrower."""
    dtype = jnp.promote_types(real.dtype, np.float32)
    if isinstance(real, jax.Array) or isinstance(imaginary, jax.Array):
        return jax.lax.complex(jnp.asarray(real, dtype), jnp.asarray(imaginary, dtype))
    return (1j * np.asarray(imaginary, dtype)) + np.asarray(real, dtype)


def _floating(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.floating)


def _canonical(dtype: Any) -> Any:
    return jax.dtypes.canonicalize_dtype(dtype)


def _traces(problem: Problem) -> bool:
    def forward(floats: Sequence[Any], arrays: Sequence[Any]) -> Any:
        return problem.op(*problem.arguments(problem.put(arrays, floats)))

    arrays = problem.cast(problem.given, problem.dtypes)
    try:
        jax.eval_shape(lambda arrays: jax.vjp(lambda f: forward(f, arrays), problem.pick(arrays))[0], arrays)
    except Exception:
        return False
    return True
