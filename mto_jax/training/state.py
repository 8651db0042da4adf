# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The state of a training run, and which part of it trains.

Parameters live in flat dicts by dotted name, `{"encoder.layers.mlp.wo": array, ...}`: freezing is a
choice of names, a checkpoint and a parameter table list them, and `{**frozen, **trainable}` is the
whole model.
"""

import dataclasses
import fnmatch
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import AbstractMesh, Mesh, NamedSharding

from mto_jax.errors import UserError
from mto_jax.models import adapters
from mto_jax.training import sharding

Parameters = dict[str, jax.Array]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Everything that a step reads and writes; what a checkpoint holds, data position apart."""

    step: jax.Array  # int32 scalar: steps done
    trainable: Parameters
    frozen: Parameters  # no gradient, no optimizer state
    optimizer: Any  # optax state over `trainable`
    key: jax.Array  # uint32 key data; step n draws from fold_in(key, n)


@dataclasses.dataclass(frozen=True)
class AbstractModel:
    """A model without its values: what its parameters are called, their shapes and logical axes."""

    build: Callable[[nnx.Rngs], nnx.Module]
    graphdef: nnx.GraphDef
    treedef: Any
    shapes: Mapping[str, jax.ShapeDtypeStruct]
    axes: Mapping[str, tuple[str | None, ...]]

    def merge(self, parameters: Mapping[str, jax.Array]) -> Any:
        """Returns the model with these values."""
        leaves = [parameters[name] for name in self.shapes]
        return nnx.merge(self.graphdef, jax.tree.unflatten(self.treedef, leaves))

    def split(self, model: nnx.Module) -> Parameters:
        """Returns the values of a model, by name."""
        return dict(zip(self.shapes, jax.tree.leaves(nnx.state(model)), strict=True))

    def shardings(self, mesh: Mesh | AbstractMesh) -> dict[str, NamedSharding]:
        """Returns where each parameter lives on `mesh`, by the rules of `sharding.RULES`."""
        return {
            name: sharding.parameter_sharding(self.axes[name], value.shape, mesh)
            for name, value in self.shapes.items()
        }

    def initialise(
        self, key: jax.Array, mesh: Mesh, names: Collection[str] | None = None
    ) -> Parameters:
        """Returns fresh parameters, all or those of `names`, on the devices where they live."""
        names = self.shapes.keys() if names is None else names
        shardings = {name: where for name, where in self.shardings(mesh).items() if name in names}

        def init(key):
            parameters = self.split(self.build(nnx.Rngs(key)))
            return {name: parameters[name] for name in shardings}

        return jax.jit(init, out_shardings=shardings)(key)


def abstract_model(build: Callable[[nnx.Rngs], nnx.Module]) -> AbstractModel:
    """The `AbstractModel` of the model that `build(rngs)` makes; computes no values."""
    graphdef, state = nnx.split(nnx.eval_shape(lambda: build(nnx.Rngs(0))))
    shapes, axes = {}, {}
    for path, variable in nnx.to_flat_state(state):
        name = ".".join(map(str, path))
        value = variable.get_value()
        shapes[name] = jax.ShapeDtypeStruct(value.shape, value.dtype)
        axes[name] = tuple(variable.get_metadata().get("axes") or (None,) * len(value.shape))
    return AbstractModel(build, graphdef, jax.tree.structure(state), shapes, axes)


def by_name(model: nnx.Module) -> Parameters:
    """Returns the parameters of a model by dotted name."""
    return {
        ".".join(map(str, path)): variable.get_value()
        for path, variable in nnx.to_flat_state(nnx.state(model))
    }


def check_float32(parameters: Mapping[str, jax.Array], what: str) -> None:
    """Raises a `UserError` if a parameter that is to be `what` ("trained") was rounded."""
    rounded = [name for name, value in parameters.items() if value.dtype != jnp.float32]
    if rounded:
        raise UserError(
            f"Parameters in bfloat16, such as {rounded[0]}, are not {what}: leave "
            "load_checkpoint.dtype out, or train adapters alone."
        )


def fingerprints(parameters: Mapping[str, jax.Array]) -> dict[str, str]:
    """Returns a number in 16 hexadecimal digits for the content of each parameter, by name.

    Computed where the parameters lie, from their float32 bits and places: the same however they are
    sharded, and however they came here. Tells models apart; it is no protection against intent.
    """
    numbers = jax.device_get({name: _fingerprint(value) for name, value in parameters.items()})
    return {name: f"{int(high):08x}{int(low):08x}" for name, (high, low) in numbers.items()}


@jax.jit
def _fingerprint(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    bits = jax.lax.bitcast_convert_type(x.astype(jnp.float32), jnp.uint32)
    place, stride = jnp.zeros(x.shape, jnp.uint32), 1
    for axis in reversed(range(x.ndim)):
        place += jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis) * jnp.uint32(stride % 2**32)
        stride *= x.shape[axis]
    # Multiplications and shifts of MurmurHash3's finaliser spread every bit over the word.
    word = bits ^ (place * jnp.uint32(0x9E3779B9))
    word = (word ^ (word >> 16)) * jnp.uint32(0x85EBCA6B)
    word = (word ^ (word >> 13)) * jnp.uint32(0xC2B2AE35)
    word ^= word >> 16
    return jnp.sum(word, dtype=jnp.uint32), jnp.sum(word * (word | 1), dtype=jnp.uint32)


def trainable_names(names: Sequence[str], trainable: str | Sequence[str]) -> list[str]:
    """Returns the names that match `trainable`: "all", "adapters", or patterns with * and ?.

    >>> trainable_names(["encoder.mlp.wo", "encoder.norm.scale"], ["*.scale"])
    ['encoder.norm.scale']

    Raises:
      UserError: a pattern that matches no parameter, or "adapters" of a model that has none.
    """
    names = [name for name in names if adapters.trains(name)]
    if trainable == "all":
        return names
    if trainable == "adapters":
        chosen = [name for name in names if adapters.is_adapter(name)]
        if not chosen:
            raise UserError(
                'train.trainable is "adapters", but the model has none. Bind train.adapters to one '
                f"or several of {adapters.example()}."
            )
        return chosen
    patterns = [trainable] if isinstance(trainable, str) else list(trainable)
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
            raise UserError(
                f"The pattern {pattern!r} (train.trainable) matches no parameter. Their names are "
                f"in model-info.txt, for instance {', '.join(names[:3])}; * stands for any "
                "characters."
            )
    if not patterns:
        raise UserError('train.trainable is empty: give "all" or patterns such as "decoder.*".')
    return [name for name in names if any(fnmatch.fnmatchcase(name, p) for p in patterns)]


def abstract_state(
    spec: AbstractModel,
    names: Sequence[str],
    optimizer: optax.GradientTransformation,
    mesh: Mesh | AbstractMesh,
) -> TrainState:
    """Returns shapes, types and shardings of the whole state: what compiling and restoring need.

    Optimizer arrays of their parameter's shape live where it lives; the rest (counts, Adafactor's
    factored rows and columns, which are small) is on every device.
    """
    everywhere = sharding.replicated(mesh)
    shardings = spec.shardings(mesh)

    def placed(value, where) -> Any:
        return jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=where)

    parameters = {name: placed(value, shardings[name]) for name, value in spec.shapes.items()}
    trainable = {name: parameters[name] for name in names}

    def beside_parameter(path, value):
        name = next((k.key for k in path if getattr(k, "key", None) in trainable), None)
        if name is not None and value.shape == trainable[name].shape:
            return placed(value, shardings[name])
        return placed(value, everywhere)

    optimizer_state = jax.tree_util.tree_map_with_path(
        beside_parameter, jax.eval_shape(optimizer.init, trainable)
    )
    return TrainState(
        step=placed(jax.ShapeDtypeStruct((), jnp.int32), everywhere),
        trainable=trainable,
        frozen={name: value for name, value in parameters.items() if name not in trainable},
        optimizer=optimizer_state,
        key=placed(jax.ShapeDtypeStruct((2,), jnp.uint32), everywhere),
    )


def start(
    target: TrainState, parameters: Parameters, optimizer: optax.GradientTransformation, seed: int
) -> TrainState:
    """Returns the state before the first step: `parameters`, a fresh optimizer, a key."""
    trainable = {name: parameters[name] for name in target.trainable}
    shardings = jax.tree.map(lambda value: value.sharding, target.optimizer)
    key = np.asarray(jax.random.key_data(jax.random.key(seed, impl="threefry2x32")))
    return TrainState(
        step=jax.device_put(np.int32(0), target.step.sharding),
        trainable=trainable,
        frozen={name: parameters[name] for name in target.frozen},
        optimizer=jax.jit(optimizer.init, out_shardings=shardings)(trainable),
        key=jax.device_put(key, target.key.sharding),
    )


def parameter_table(spec: AbstractModel, names: Sequence[str], mesh: Mesh) -> str:
    """Returns a table of the parameters: name, shape, axes, sharding, trainable or not; totals."""
    shardings, training = spec.shardings(mesh), set(names)
    rows = [("parameter", "shape", "axes", "sharding", "trainable", "size")]
    for name, value in spec.shapes.items():
        shape = "x".join(map(str, value.shape))
        cut = ", ".join(str(entry) for entry in shardings[name].spec)
        axes = ", ".join(map(str, spec.axes[name]))
        trains = "yes" if name in training else "no"
        rows.append((name, shape, axes, cut, trains, f"{value.size:,}"))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
    total = sum(value.size for value in spec.shapes.values())
    trained = sum(value.size for name, value in spec.shapes.items() if name in training)
    lines += ["", f"{total:,} parameters, {trained:,} of them train ({trained / total:.2%})"]
    lines += [f"mesh: {', '.join(f'{axis}={size}' for axis, size in mesh.shape.items())}"]
    return "\n".join(line.rstrip() for line in lines) + "\n"
