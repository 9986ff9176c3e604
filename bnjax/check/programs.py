"""The op and the primal as programs over arrays: traced, compiled together, run; they may raise anything."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from bnjax.check import enclosure, probes

_COMPILED: dict[str, Any] = {}  # the lowered text, which is the whole program, to its executable
_MOST_COMPILED = 256


@dataclass(frozen=True)
class Problem:
    """The two functions and their example arguments, taken apart.

    `leaves` are the arguments' leaves: numpy arrays (float64 where they are floating), other arrays as
    they came, and Python objects that stay static.  `arrays` indexes the leaves that a program takes,
    `floats` those among the arrays that are differentiated; `samples` are a few values of each array.
    """

    op: Callable[..., Any]
    primal: Callable[..., Any]
    name: str
    treedef: Any
    leaves: tuple[Any, ...]
    dtypes: tuple[Any, ...]  # of the arrays, as they came
    labels: tuple[str, ...]  # of the arrays
    arrays: tuple[int, ...]
    floats: tuple[int, ...]
    samples: tuple[Any, ...]

    @property
    def given(self) -> list[Any]:
        """The arrays that came."""
        return [self.leaves[i] for i in self.arrays]

    def arguments(self, arrays: Sequence[Any]) -> tuple[Any, ...]:
        """The arguments of the functions, with `arrays` in their places."""
        leaves = list(self.leaves)
        for i, a in zip(self.arrays, arrays, strict=True):
            leaves[i] = a
        return jax.tree.unflatten(self.treedef, leaves)

    def cast(self, arrays: Sequence[Any], dtypes: Sequence[Any]) -> list[Any]:
        """`arrays` with the floats among them in `dtypes` (one per array)."""
        return [np.asarray(a).astype(dtypes[i]) if i in self.floats else a for i, a in enumerate(arrays)]


def problem(op: Callable[..., Any], primal: Callable[..., Any], args: tuple[Any, ...]) -> Problem:
    """Take the example arguments apart; a Python float is an array unless the op insists it is static."""
    paths, treedef = jax.tree_util.tree_flatten_with_path(args)
    given = _problem(op, primal, paths, treedef, static_floats=False)
    if any(type(leaf) is float for _, leaf in paths):
        static = _problem(op, primal, paths, treedef, static_floats=True)
        traced = _traces(op, given)
        if not traced and _traces(op, static):
            return static
    return given


def _problem(op: Any, primal: Any, paths: Any, treedef: Any, *, static_floats: bool) -> Problem:
    leaves: list[Any] = []
    dtypes: list[Any] = []
    labels: list[str] = []
    arrays: list[Any] = []
    floats: list[int] = []
    for path, leaf in paths:
        is_array = isinstance(leaf, np.ndarray | np.generic | jax.Array)
        if not is_array and (static_floats or type(leaf) is not float):
            leaves.append(leaf)
            continue
        dtype = jax.dtypes.canonicalize_dtype(leaf.dtype) if is_array and _numeric(leaf) else None
        if dtype is None and is_array:
            leaf, dtype = leaf, leaf.dtype
        elif dtype is None or jnp.issubdtype(dtype, jnp.floating):
            floats.append(len(arrays))
            leaf = np.asarray(leaf).astype(np.float64)
        else:
            leaf = np.asarray(leaf)
        arrays.append(len(leaves))
        labels.append(_label(primal, path))
        dtypes.append(dtype)
        leaves.append(leaf)
    known = [dtypes[i] for i in floats if dtypes[i] is not None]
    weak = max(known, key=lambda d: jnp.finfo(d).eps) if known else jax.dtypes.canonicalize_dtype(float)
    dtypes = [weak if d is None else d for d in dtypes]
    name = getattr(op, "__name__", None) or type(op).__name__
    samples = [probes.sample(leaves[i]) if isinstance(leaves[i], np.ndarray) else leaves[i] for i in arrays]
    return Problem(op, primal, name, treedef, *map(tuple, (leaves, dtypes, labels, arrays, floats, samples)))


def _numeric(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.number) or jnp.issubdtype(leaf.dtype, jnp.bool_)


def _label(primal: Any, path: Any) -> str:
    """The argument's name in the primal's signature, and the way to the leaf inside it."""
    position = path[0].idx
    try:
        names = [
            p.name
            for p in inspect.signature(primal).parameters.values()
            if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
    except (TypeError, ValueError):
        names = []
    name = names[position] if position < len(names) else f"argument {position}"
    return name + jax.tree_util.keystr(path[1:])


def _traces(fun: Callable[..., Any], subject: Problem) -> bool:
    try:
        jax.eval_shape(vjp_program(fun, subject), subject.cast(subject.given, subject.dtypes), None)
    except Exception:
        return False
    return True


# --- programs ---------------------------------------------------------------------------------------------


def forward_program(fun: Callable[..., Any], subject: Problem) -> Callable[..., Any]:
    """arrays ↦ (floating results, other results), both flat."""

    def forward(arrays: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        results = [jnp.asarray(r) for r in jax.tree.leaves(fun(*subject.arguments(arrays)))]
        floating = [jnp.issubdtype(r.dtype, jnp.floating) for r in results]
        return (
            [r for r, f in zip(results, floating, strict=True) if f],
            [r for r, f in zip(results, floating, strict=True) if not f],
        )

    return forward


def vjp_program(fun: Callable[..., Any], subject: Problem, *, batched: bool = True) -> Callable[..., Any]:
    """(arrays, cotangents) ↦ (floating results, other results, cotangents of the float arguments).

    `batched` cotangents have a leading axis of probes, over which the backward pass alone is vmapped;
    None stands for ones, to see whether the program traces at all.
    """
    forward = forward_program(fun, subject)

    def program(arrays: Sequence[Any], cotangents: Any) -> tuple[Any, Any, Any]:
        def of_floats(floats: Sequence[Any]) -> Any:
            merged = list(arrays)
            for i, a in zip(subject.floats, floats, strict=True):
                merged[i] = a
            return forward(merged)

        results, backward, others = jax.vjp(
            of_floats, [jnp.asarray(arrays[i]) for i in subject.floats], has_aux=True
        )
        if cotangents is None:
            return results, others, backward([jnp.ones_like(r) for r in results])[0]
        cotangents = [jnp.asarray(c).astype(r.dtype) for c, r in zip(cotangents, results, strict=True)]
        pull = jax.vmap(lambda c: backward(c)[0]) if batched else lambda c: backward(c)[0]
        return results, others, pull(cotangents)

    return program


def second_order_program(fun: Callable[..., Any], subject: Problem, *, forward: bool) -> Callable[..., Any]:
    """The derivative of (floats, cotangent) ↦ VJP, as a function of (arrays, cotangent, directions).

    Backward over the VJP `directions` weigh its results; forward over it they are tangents of
    its arguments.
    """
    first = vjp_program(fun, subject, batched=False)

    def program(arrays: Sequence[Any], cotangent: Any, directions: Any) -> Any:
        def vjp(floats: Sequence[Any], cotangent: Any) -> Any:
            merged = list(arrays)
            for i, a in zip(subject.floats, floats, strict=True):
                merged[i] = a
            return first(merged, cotangent)[2]

        point = ([jnp.asarray(arrays[i]) for i in subject.floats], [jnp.asarray(c) for c in cotangent])
        if forward:
            return jax.jvp(vjp, point, directions)[1]
        weights = directions[0]
        return jax.vjp(vjp, *point)[1](weights)

    return program


def trace(program: Callable[..., Any], *args: Any) -> core.ClosedJaxpr:
    """The jaxpr of `program` at arguments like `args`."""
    return jax.make_jaxpr(program)(*args)


def primitives(jaxpr: Any) -> list[Any]:
    """Every equation of `jaxpr` and of the programs inside it."""
    found = []
    for eqn in jaxpr.eqns:
        found.append(eqn)
        for value in eqn.params.values():
            for inner in value if isinstance(value, tuple | list) else (value,):
                if isinstance(inner, core.ClosedJaxpr | core.Jaxpr):
                    found += primitives(getattr(inner, "jaxpr", inner))
    return found


def narrow_dtype(jaxpr: core.ClosedJaxpr) -> Any:
    """A floating dtype below float64 that the program computes in, if there is one."""
    for eqn in primitives(jaxpr.jaxpr):
        for out in eqn.outvars:
            dtype = getattr(out.aval, "dtype", None)
            if dtype is not None and jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 64:
                return dtype
    return None


# --- running ----------------------------------------------------------------------------------------------


class Together:
    """Several traced programs, some compiled as one by XLA, the others run by the interpreter of `enclosure`.

    Compiling is what a check would spend its time on, and a traced program is the same program however it
    is run; so of many small ones a few are compiled.  `errors` maps the key of each program that could
    not be traced to its exception; `jaxprs` holds the rest.
    """

    def __init__(
        self, programs: Mapping[Any, tuple[Callable[..., Any], tuple[Any, ...]]], *, compile: Iterable[Any]
    ):
        self.errors: dict[Any, Exception] = {}
        self.jaxprs: dict[Any, core.ClosedJaxpr] = {}
        self._compile = frozenset(compile)
        self._trees: dict[Any, Any] = {}
        self._executables: dict[Any, Any] = {}
        for key, (program, args) in programs.items():
            try:
                self.jaxprs[key], shape = jax.make_jaxpr(program, return_shape=True)(*args)
                self._trees[key] = jax.tree.structure(shape)
            except Exception as error:  # whatever a rule raises is a finding
                self.errors[key] = error

    def narrowest(self) -> Any:
        """A floating dtype below float64 that any of the programs computes in, if there is one."""
        return next((d for d in map(narrow_dtype, self.jaxprs.values()) if d is not None), None)

    def run(self, args: Mapping[Any, tuple[Any, ...]]) -> dict[Any, Any]:
        """The results of the programs at `args`; an exception in the place of a result that raised."""
        flat = {k: jax.tree.leaves(a) for k, a in args.items() if k in self.jaxprs}
        together = tuple(k for k in flat if k in self._compile)
        outcomes: dict[Any, Any] = {k: self.errors[k] for k in args if k in self.errors}
        try:
            outcomes |= zip(together, self._execute(together, [flat[k] for k in together]), strict=True)
        except Exception:
            outcomes |= {k: self._alone(k, flat[k]) for k in together}
        outcomes |= {k: self._interpret(k, a) for k, a in flat.items() if k not in self._compile}
        return {
            k: r if isinstance(r, Exception) else jax.tree.unflatten(self._trees[k], r)
            for k, r in outcomes.items()
        }

    def _interpret(self, key: Any, flat: list[Any]) -> Any:
        jaxpr = self.jaxprs[key]
        try:
            balls = enclosure.enclose(jaxpr, flat, enclosure.rounding(np.float64))
        except Exception:
            return self._alone(key, flat)
        return [np.asarray(b.value).astype(a.dtype) for b, a in zip(balls, jaxpr.out_avals, strict=True)]

    def _alone(self, key: Any, flat: list[Any]) -> Any:
        try:
            return self._execute((key,), [flat])[0]
        except Exception as error:
            return error

    def _execute(self, keys: tuple[Any, ...], flat: list[list[Any]]) -> list[list[Any]]:
        if keys not in self._executables:
            functions = [core.jaxpr_as_fun(self.jaxprs[k]) for k in keys]
            self._executables[keys] = compiled(
                lambda every: [f(*a) for f, a in zip(functions, every, strict=True)], flat
            )
        return jax.tree.map(np.asarray, self._executables[keys](flat))


def compiled(function: Callable[..., Any], *args: Any) -> Any:
    """`function` compiled for `args`; the same program, however it came about, is compiled once."""
    lowered = jax.jit(function).lower(*args)
    text = lowered.as_text()
    if text not in _COMPILED:
        if len(_COMPILED) >= _MOST_COMPILED:
            _COMPILED.pop(next(iter(_COMPILED)))
        _COMPILED[text] = lowered.compile()
    return _COMPILED[text]
