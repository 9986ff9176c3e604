"""A network as a function of its parameters, its state and its inputs, traced at any sizes."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax import export
from jax.extend.core import ClosedJaxpr

from bnjax.jaxprs import replaced
from bnjax.prove.pieces import Network, Sizes, Value
from bnjax.prove.tracing import Argument, parse_arguments

if TYPE_CHECKING:
    from flax import nnx


class Program:
    """A network as a function of its parameters, of its state and of its inputs, traced at any sizes."""

    def __init__(
        self,
        function: Callable,
        parameters: Any,
        state: Any,
        arguments: Sequence[Argument],
    ):
        self.function = function
        self.parameters = parameters
        self.state = state
        self.arguments = tuple(arguments)
        self._traced: dict[tuple, tuple[export.SymbolicScope | None, Network]] = {}

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
            *rows, classes = map(str, output.shape)
            shapes = (*shapes, *[f"int {classes}: {' '.join(rows)}"] * further)
        return cls(network, parameters, state, parse_arguments(model.__call__, shapes, ()))

    @property
    def symbols(self) -> list[str]:
        """The size symbols, in order."""
        return sorted(set().union(*(a.symbols() for a in self.arguments)))

    def jaxpr(
        self,
        sizes: Mapping[str, str],
        gradient: bool = False,
        scope: export.SymbolicScope | None = None,
        *,
        wide: bool = False,
    ) -> ClosedJaxpr:
        """The program, or its gradient's, with words for the size symbols; traced anew in a new scope.

        `wide`: with every float in float64.
        """
        scope = scope or export.SymbolicScope()

        def array(shape, dtype):
            widened = wide and jnp.issubdtype(dtype, jnp.floating)
            return jax.ShapeDtypeStruct(shape, jnp.float64 if widened else dtype)

        inputs = [array(a.at(sizes).shape(scope), a.dtype) for a in self.arguments]
        given = jax.tree.map(lambda leaf: array(leaf.shape, leaf.dtype), (self.parameters, self.state))
        function = self._pullback if gradient else self.function
        return jax.make_jaxpr(function)(*given, *inputs)

    def _pullback(self, parameters, state, *inputs):
        places = [k for k, argument in enumerate(self.arguments) if argument.differentiated]

        def partial(parameters, floats):
            return self.function(parameters, state, *replaced(inputs, places, floats))

        outputs, pull = jax.vjp(partial, parameters, [inputs[k] for k in places])
        return pull(jax.tree.map(jnp.ones_like, outputs))

    def network(
        self, sizes: Mapping[str, str], scope: export.SymbolicScope | None = None, *, wide: bool = False
    ) -> Network:
        """The network taken apart, traced anew."""
        jaxpr = self.jaxpr(sizes, scope=scope, wide=wide)
        layers = [_layer(path) for path, _ in jax.tree_util.tree_leaves_with_path(self.parameters)]
        held = len(jaxpr.in_avals) - len(layers) - len(self.arguments)
        inputs = [
            Value(aval, number=k, active=bool(jnp.issubdtype(aval.dtype, jnp.floating)), layers=(layer,))
            for k, (aval, layer) in enumerate(zip(jaxpr.in_avals, layers, strict=False))
        ]
        inputs += [Value(aval) for aval in jaxpr.in_avals[len(inputs) : len(inputs) + held]]
        for argument, aval in zip(self.arguments, jaxpr.in_avals[len(inputs) :], strict=True):
            at = argument.at(sizes)
            active, integers = argument.differentiated, bool(argument.below)
            inputs.append(Value(aval, number=len(inputs), active=active, fixed=integers, below=at.below))
        return Network(jaxpr, inputs)

    def network_at(self, sizes: Sizes, *, wide: bool) -> Network:
        """The network where the size symbols are these sizes, as a part of the program that has them.

        It is traced once for each scope of symbols, which is one for each time that a program is traced.
        """
        given = {name: sizes[name] for name in self.symbols}
        scopes = [size.scope for size in given.values() if not isinstance(size, int)]
        scope = scopes[0] if scopes else None
        key = (id(scope), wide, *map(str, given.values()))
        if key not in self._traced:
            words = {name: str(size) for name, size in given.items()}
            self._traced[key] = scope, self.network(words, scope, wide=wide)
        return self._traced[key][1]


def _positional(function: Callable) -> list[str]:
    """The names of the positional parameters that have no default."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    found = inspect.signature(function).parameters.values()
    return [p.name for p in found if p.kind in kinds and p.default is inspect.Parameter.empty]


def _layer(path: Sequence[Any]) -> str:
    """The name of the module that a parameter lies in: "convs.0"."""
    names = [str(getattr(key, "key", getattr(key, "name", key))) for key in path]
    return ".".join(names[:-2] if names[-1] == "value" else names[:-1])
