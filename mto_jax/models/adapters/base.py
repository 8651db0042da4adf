# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The interface of an adapter method, the table of methods, and the adapters of one model.

A method is a frozen dataclass of its options, a subclass of `Method`, and an `AdapterModule` with
its parameters and the hooks that layers call. A module of a user's adds one:

    @register_adapter
    @gin.configurable
    @dataclasses.dataclass(frozen=True)
    class OutputBias(Method):
        name = "bias"

        def in_layer(self, weights, kv_heads, num_layers, rngs):
            return _Bias(weights, num_layers)

    class _Bias(AdapterModule):
        def __init__(self, weights, num_layers):
            for name, (_, E) in weights.items():
                setattr(self, name, nnx.Param(jnp.zeros((num_layers, E)), axes=("layers", None)))

        def projection(self, name, x_BxTxD, y_BxTxE):
            return y_BxTxE + getattr(self, name)[None, None].astype(y_BxTxE.dtype)
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mto_jax import errors, fields
from mto_jax.errors import UserError

Arrays = Mapping[str, np.ndarray]
# (slice of a weight [L, D, E], the slices that it was taken with) -> the slice with an adapter in
# it.
Merge = Callable[[np.ndarray, tuple[slice, ...]], np.ndarray]


class AdapterModule(nnx.Module):
    """Parameters of a method in one place of the model; the hooks below change nothing.

    In a layer, parameters have a leading axis L, and hooks see those of one layer.

    Attributes:
      past: whether its keys and values are those of P tokens before the first: in the decoder's
        self-attention alone, with T5's bias of distance.
    """

    past = False

    def projection(self, name: str, x_BxTxD: jax.Array, y_BxTxE: jax.Array) -> jax.Array:
        """Returns the output of the weight `name` for x, given that without the adapter."""
        return y_BxTxE

    def activation(self, h_BxTxF: jax.Array) -> jax.Array:
        """Returns the hidden activations of a feed-forward, given those without the adapter."""
        return h_BxTxF

    def keys_values(self) -> tuple[jax.Array, jax.Array] | None:
        """Returns keys and values [P, H, K] that every query of an attention sees first."""
        return None

    def rows(self) -> jax.Array | None:
        """Returns the embeddings [P, D], float32, of the soft tokens."""
        return None

    def penalty(self) -> jax.Array | float:
        """Returns a scalar that is added to the mean loss per target token."""
        return 0.0


@dataclasses.dataclass(frozen=True)
class Method:
    """Options of an adapter method.

    Attributes:
      name: key in `METHODS`, and part of the names of the method's parameters.
      fixed: parameters (without the method's name) that never train.
      rows: soft tokens that it adds behind the vocabulary; a method with some has the field `rows`
        and folds to the parameter `NAME.table` [rows, D].
      peft_types: the values of Hugging Face PEFT's `peft_type` that `from_peft` reads.
      peft_fields: fields of PEFT's configuration that may have any value; others must be unset.
      absent: the value of a parameter that has no effect; None if there is none. An adapter of PEFT
        may lack such parameters.
    """

    name: ClassVar[str]
    fixed: ClassVar[Sequence[str]] = ()
    rows = 0
    peft_types: ClassVar[Sequence[str]] = ()
    peft_fields: ClassVar[Sequence[str]] = ()
    absent: ClassVar[float | None] = None

    def in_layer(
        self,
        weights: Mapping[str, tuple[int, int]],
        kv_heads: tuple[int, int] | None,
        num_layers: int,
        rngs: nnx.Rngs,
    ) -> AdapterModule | None:
        """Returns what is added to the attentions or feed-forwards of a stack.

        Args:
          weights: shapes [D, E] of the weights, by name: query, key, value, out; wi or wi_0, wi_1;
            wo.
          kv_heads: (H, K) of the keys of an attention; None in a feed-forward.
          num_layers: L.
        """
        return None

    def in_model(self, d_model: int, rngs: nnx.Rngs) -> AdapterModule | None:
        """Returns what is added to the model beside its stacks."""
        return None

    def started(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Returns the method's initial parameters, those that depend on others computed."""
        return parameters

    @property
    def folded(self) -> Self:
        """The method after `fold`."""
        return self

    def fold(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the method's parameters as inference needs them."""
        return dict(parameters)

    def merge(self, parameters: Arrays) -> Mapping[str, Merge]:
        """Returns, by names of weights of the base, how they take up the method's parameters."""
        raise UserError(
            f"The adapter {self.label} cannot be merged into the weights of its base. "
            "mto convert --to=peft writes the adapter by itself."
        )

    def to_peft(self, parameters: Arrays) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
        """Returns (fields of PEFT's configuration, tensors); None: PEFT has no form for the method.

        A tensor beside a weight is named WEIGHT.SUFFIX, where PEFT has MODULE.SUFFIX, and has a
        leading axis L; others have PEFT's own names.
        """
        return None

    @classmethod
    def from_peft(
        cls, config: Mapping[str, Any], tensors: Arrays, where: str
    ) -> tuple["Method", dict[str, np.ndarray]]:
        """Returns (method, its parameters), the inverse of `to_peft`; `where` opens messages."""
        raise NotImplementedError

    @property
    def label(self) -> str:
        """A short name with all options that differ from the defaults.

        >>> from mto_jax.models.adapters import LoRA, PromptTuning
        >>> PromptTuning(5, encoder="residual").label, LoRA(4, targets=("key", "wo")).label
        ('prompt5_residual', 'lora4_key_wo')
        """
        text = self.name
        for i, field in enumerate(dataclasses.fields(self)):  # pyright: ignore
            value = getattr(self, field.name)
            if i == 0:
                text += f"{value}"
            elif value != field.default:
                words = (value,) if isinstance(value, str) else value
                named = not isinstance(words, tuple)
                text += f"_{field.name}{value:g}" if named else "_" + "_".join(words)
        return text

    def require(self, field: str, holds: bool, expected: str) -> None:
        """Raises a UserError that a field is not as `expected`, unless the condition holds."""
        if not holds:
            name, value = type(self).__name__, getattr(self, field)
            raise UserError(f"{name}.{field} is {value!r}; it must be {expected}.")

    def require_count(self, field: str) -> None:
        """Raises a UserError unless a field is a whole number of 1 or more."""
        value = getattr(self, field)
        whole = isinstance(value, int) and not isinstance(value, bool) and value > 0
        self.require(field, whole, "a whole number of 1 or more")


METHODS: dict[str, type[Method]] = {}
M = TypeVar("M", bound=type[Method])


def register_adapter(method: M) -> M:
    """Adds a subclass of `Method` to `METHODS` and returns it; a class decorator.

    Raises:
      UserError: another class has its name.
    """
    known = METHODS.setdefault(method.name, method)
    if (known.__module__, known.__qualname__) != (method.__module__, method.__qualname__):
        raise UserError(
            f"There is an adapter method {method.name!r} already, "
            f"{known.__module__}.{known.__name__}: give {method.__name__} another name."
        )
    METHODS[method.name] = method
    return method


@dataclasses.dataclass(frozen=True)
class Adapters:
    """Methods that one model has, each once; they act on an output in this order.

    JSON form: `as_dict`, `from_dict`.
    """

    methods: tuple[Method, ...] = ()

    def __post_init__(self) -> None:
        names = [method.name for method in self.methods]
        if len(set(names)) < len(names):
            raise UserError(f"A model has an adapter method at most once, not {', '.join(names)}.")

    @classmethod
    def of(cls, what: "Adapters | Method | Sequence[Method] | None") -> "Adapters":
        """The adapters that a method, several, or none (None) are.

        Raises:
          UserError: something else.
        """
        if isinstance(what, Adapters):
            return what
        methods = (what,) if isinstance(what, Method) else tuple(what or ())
        for method in methods:
            if not isinstance(method, Method):
                raise UserError(f"{method!r} is no adapter: name one as {example()}.")
        return cls(methods)

    def as_dict(self) -> dict[str, Any]:
        """The form for JSON."""
        return {"methods": [{"method": m.name, **dataclasses.asdict(m)} for m in self.methods]}

    @classmethod
    def from_dict(cls, description: Mapping[str, Any]) -> "Adapters":
        """The inverse of `as_dict`, which also reads the flat form of older descriptions.

        Raises:
          UserError: a method that is not registered, or a field or value that it cannot have.
        """
        flat = "methods" not in description
        methods = []
        for values in _from_flat(description) if flat else description["methods"]:
            values = dict(values)
            name = str(values.pop("method", None))
            if name not in METHODS:
                users = "adapter method (a gin file with 'import my_module' makes one known)"
                raise errors.unknown(users, name, METHODS)
            methods.append(fields.from_dict(METHODS[name], values))
        return cls(tuple(methods))

    def in_layer(self, *place: Any) -> dict[str, AdapterModule | None]:
        """By name, what each method adds to a layer; see `Method.in_layer`."""
        return {method.name: method.in_layer(*place) for method in self.methods}

    def in_model(self, *place: Any) -> dict[str, AdapterModule | None]:
        """By name, what each method adds to the model; see `Method.in_model`."""
        return {method.name: method.in_model(*place) for method in self.methods}

    def started(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Initial parameters with those that depend on others computed."""
        for method in self.methods:
            own = own_parameters(parameters, method)
            parameters = {**parameters, **method.started(own)}
        return dict(parameters)

    def get(self, method: type[Method]) -> Any:
        """The method of a class, or None."""
        return next((m for m in self.methods if isinstance(m, method)), None)

    @property
    def label(self) -> str:
        """A short name, different for different adapters: "prompt10_residual-lora4"."""
        return "-".join(method.label for method in self.methods)

    @property
    def folded(self) -> "Adapters":
        """The adapters after `fold`."""
        return Adapters(tuple(method.folded for method in self.methods))

    @property
    def prompt_rows(self) -> int:
        """P, the soft tokens behind the vocabulary; token id `vocabulary.soft_id(i)` is row i."""
        return sum(method.rows for method in self.methods)

    def with_prompt_rows(self, rows: int) -> "Adapters":
        """Returns the adapters with `rows` rows in each method that has soft tokens."""
        changes = {"rows": rows}
        return Adapters(
            tuple(dataclasses.replace(m, **changes) if m.rows else m for m in self.methods)
        )

    def prompt_table(self, parameters: Mapping[str, Any]) -> np.ndarray | None:
        """The rows [P, D] of the soft tokens from folded parameters; None without soft tokens."""
        tables = [np.asarray(parameters[f"{m.name}.table"]) for m in self.methods if m.rows]
        return np.concatenate(tables) if tables else None


NONE = Adapters()


def _from_flat(description: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Methods of a description with all their fields in one dict: prompt_rows, lora_rank, ..."""
    present = {
        "prompt": "prompt_rows",
        "lora": "lora_rank",
        "ia3": "ia3",
        "prefix": "prefix_length",
    }
    known = {f"{n}_{field.name}" for n in present for field in dataclasses.fields(METHODS[n])}
    for field in description:
        if field not in known | {"ia3"}:
            raise errors.unknown("field of Adapters", field, known | {"ia3"})
    for name, size in present.items():
        if description.get(size):
            values = {k: v for k, v in description.items() if k.startswith(f"{name}_")}
            yield {"method": name} | {k.removeprefix(f"{name}_"): v for k, v in values.items()}


def example() -> str:
    """The registered methods as gin has them, for messages."""
    return ", ".join(f"@{method.__name__}()" for method in METHODS.values())


def is_adapter(name: str) -> bool:
    """Returns whether a parameter belongs to an adapter and not to the base model.

    >>> is_adapter("encoder.layers.attention.lora.query_a"), is_adapter("encoder.layers.mlp.wo")
    (True, False)
    """
    return not METHODS.keys().isdisjoint(name.split("."))


def trains(name: str) -> bool:
    """Returns whether a parameter can train at all."""
    parts = name.split(".")
    return not any(parts[-1] in METHODS[part].fixed for part in parts if part in METHODS)


def own_parameters(parameters: Mapping[str, Any], method: Method) -> dict[str, Any]:
    """The parameters of one method, by name."""
    return {name: v for name, v in parameters.items() if method.name in name.split(".")}


def fold(parameters: Mapping[str, Any], adapters: Adapters) -> dict[str, Any]:
    """The parameters as inference needs them: what only training needs is computed away."""
    folded = dict(parameters)
    for method in adapters.methods:
        own = own_parameters(parameters, method)
        rest = {name: value for name, value in folded.items() if name not in own}
        folded = {**rest, **method.fold(own)}
    return folded


# ---- In the model -----------------------------------------------------------------------------


def attach(owner: nnx.Module, modules: Mapping[str, AdapterModule | None]) -> None:
    """Puts adapters, by name of their methods, beside the parameters of a layer or a model."""
    present = {name: module for name, module in modules.items() if module is not None}
    owner.adapter_names = tuple(present)  # pyright: ignore
    for name, module in present.items():
        if hasattr(owner, name):
            raise UserError(
                f"The adapter method {name!r} is called like a part of {type(owner).__name__}: "
                "register it under another name."
            )
        setattr(owner, name, module)


def attached(owner: nnx.Module) -> list[AdapterModule]:
    """The adapters that `attach` put there, in order."""
    return [getattr(owner, name) for name in owner.adapter_names]  # pyright: ignore


def penalty(model: nnx.Module) -> jax.Array:
    """The sum of the penalties of a model's adapters, a scalar."""
    modules = (module for _, module in nnx.iter_modules(model))
    penalties = [m.penalty() for m in modules if isinstance(m, AdapterModule)]
    return jnp.asarray(sum(penalties), jnp.float32)
