"""A network as a function of its parameters, its state and its inputs, traced at any sizes."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr

from bnjax.prove.pieces import Network, Sizes, Value
from bnjax.prove.tracing import SCOPE, Argument, parse_arguments

if TYPE_CHECKING:
    from flax import nnx

_DTYPES = {"float": jnp.float32, "int": jnp.int32, "bool": jnp.bool_}


class Program:
    """A network as a function of its parameters, of its state and of its inputs, traced at any sizes."""

    def __init__(
        self,
        function: Callable,
        parameters: Any,
        state: Any,
        arguments: Sequence[Argument],
        kinds: Sequence[str],
    ):
        self.function = function
        self.parameters = parameters
        self.state = state
        self.arguments = tuple(arguments)
        self.kinds = tuple(kinds)
        self._traced: dict[tuple, Network] = {}

    @classmethod
    def of(cls, model: "nnx.Module", shapes: Sequence[str], loss: Callable | None) -> "Program":
        """The program of a model and a loss; the errors are those of `prove_model`."""
        from flax import nnx

        if not isinstance(model, nnx.Module):
            raise TypeError(f"the model is a {type(model).__name__}, not a flax.nnx.Module")
        graph, *parts = nnx.split(model, nnx.Param, ...)
        parameters, state = parts
        further = 0 if loss is None else len(_positional(loss)) - 1
        inputs = max(1, len(_positional(model.__call__)))
        count = len(shapes) - further if len(shapes) >= inputs + further else len(shapes)

        def network(parameters, state, *inputs):
            copy = nnx.merge(graph, parameters, state, copy=True)
            copy.train()
            outputs = copy(*inputs[:count])
            return outputs if loss is None else loss(outputs, *inputs[count:])

        if loss is not None and count == len(shapes) and further:
            alone = cls.of(model, shapes, None)
            output = alone.jaxpr({name: name for name in alone.symbols}).out_avals[0]
            shapes = (*shapes, *[f"int: {' '.join(map(str, output.shape[:-1]))}"] * further)
        kinds = [
            shape.partition(":")[0] if isinstance(shape, str) and ":" in shape else "float"
            for shape in shapes
        ]
        plain = [shape.removeprefix("int:") if isinstance(shape, str) else shape for shape in shapes]
        return cls(network, parameters, state, parse_arguments(model.__call__, plain, ()), kinds)

    @property
    def symbols(self) -> list[str]:
        """The size symbols, in order."""
        return sorted(set().union(*(a.symbols() for a in self.arguments)))

    def jaxpr(self, sizes: Mapping[str, int | str], gradient: bool = False) -> ClosedJaxpr:
        """The program, or its gradient's, with words or numbers for the size symbols."""
        inputs = [
            jax.ShapeDtypeStruct(argument.at(sizes).shape(SCOPE), _DTYPES[kind])
            for argument, kind in zip(self.arguments, self.kinds, strict=True)
        ]
        given = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), (self.parameters, self.state)
        )
        function = self._pullback if gradient else self.function
        return jax.make_jaxpr(function)(*given, *inputs)

    def _pullback(self, parameters, state, *inputs):
        def partial(parameters, floats):
            rest = iter(floats)
            return self.function(
                parameters,
                state,
                *(next(rest) if k == "float" else x for k, x in zip(self.kinds, inputs, strict=True)),
            )

        floats = [x for k, x in zip(self.kinds, inputs, strict=True) if k == "float"]
        outputs, pull = jax.vjp(partial, parameters, floats)
        return pull(jax.tree.map(jnp.ones_like, outputs))

    def network(self, sizes: Mapping[str, int | str]) -> Network:
        """The network taken apart, traced anew."""
        jaxpr = self.jaxpr(sizes)
        layers = [_layer(path) for path, _ in jax.tree_util.tree_leaves_with_path(self.parameters)]
        kept = len(jax.tree.leaves(self.state))
        kinds = ["parameter"] * len(layers) + ["state"] * kept + list(self.kinds)
        layers += [""] * (len(kinds) - len(layers))
        inputs = [
            Value(
                aval,
                active=kind in ("parameter", "float") and bool(jnp.issubdtype(aval.dtype, jnp.floating)),
                layers=(layer,) if layer else (),
            )
            for aval, kind, layer in zip(jaxpr.in_avals, kinds, layers, strict=True)
        ]
        return Network(jaxpr, inputs)

    def network_at(self, sizes: Sizes) -> Network:
        """The network where the size symbols are these sizes, traced once."""
        given = {name: sizes[name] for name in self.symbols}
        key = tuple(map(str, given.values()))
        if key not in self._traced:
            self._traced[key] = self.network({name: str(size) for name, size in given.items()})
        return self._traced[key]


def _positional(function: Callable) -> list[str]:
    """The names of the positional parameters that have no default."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    found = inspect.signature(function).parameters.values()
    return [p.name for p in found if p.kind in kinds and p.default is inspect.Parameter.empty]


def _layer(path: Sequence[Any]) -> str:
    """The name of the module that a parameter lies in: "convs.0"."""
    names = [str(getattr(key, "key", getattr(key, "name", key))) for key in path]
    return ".".join(names[:-2] if names[-1] == "value" else names[:-1])
