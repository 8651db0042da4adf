# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which adapters can be named, their labels and JSON forms, and a method that a test registers."""

import dataclasses

import gin
import pytest

from mto_jax.errors import UserError
from mto_jax.models.adapters import (
    IA3,
    METHODS,
    NONE,
    Adapters,
    LoRA,
    Method,
    PrefixTuning,
    PromptTuning,
    register_adapter,
)

EVERY = Adapters(
    (PromptTuning(5, "mlp", 6, 0.1), LoRA(2, 3.0, ("key", "wo")), IA3(), PrefixTuning(3))
)
FLAT = {
    "prompt_rows": 5,
    "prompt_encoder": "mlp",
    "prompt_width": 6,
    "prompt_anchor": 0.1,
    "lora_rank": 2,
    "lora_alpha": 3.0,
    "lora_targets": ["key", "wo"],
    "ia3": True,
    "prefix_length": 3,
}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PromptTuning(encoder="ltsm"), "Did you mean 'lstm'"),
        (lambda: LoRA(2, targets=["querry"]), "Did you mean 'query'"),
        (lambda: LoRA(2, targets=[]), "LoRA.targets is ()"),
        (lambda: LoRA(-1), "LoRA.rank is -1"),
        (lambda: PromptTuning(2.0), "PromptTuning.rows is 2.0"),
        (lambda: PrefixTuning("3"), "PrefixTuning.length is '3'"),
        (lambda: PromptTuning(width=0), "PromptTuning.width is 0"),
        (lambda: PromptTuning(anchor=-0.1), "PromptTuning.anchor is -0.1"),
        (lambda: Adapters((LoRA(2), LoRA(4))), "at most once, not lora, lora"),
        (lambda: Adapters.of([LoRA(2), "ia3"]), "'ia3' is no adapter: name one as @"),
        (lambda: Adapters.from_dict({"methods": [{"method": "lor"}]}), "Did you mean 'lora'"),
        (
            lambda: Adapters.from_dict({"methods": [{"method": "lora", "rang": 2}]}),
            "Did you mean 'rank'",
        ),
        (lambda: Adapters.from_dict({"lora_rang": 2}), "Did you mean 'lora_rank'"),
    ],
)
def test_errors(make, message):
    with pytest.raises(UserError) as error:
        make()
    assert message in str(error.value)


def test_json_form_ignores_gin():
    gin.bind_parameter("LoRA.rank", 9)
    assert LoRA().rank == 9
    assert Adapters.from_dict(EVERY.as_dict()) == EVERY
    assert Adapters.from_dict({"methods": [{"method": "lora"}]}).methods[0].rank == 8


def test_descriptions_with_the_fields_of_all_methods_are_read():
    assert Adapters.from_dict(FLAT) == EVERY
    none = {"prompt_rows": 0, "prompt_encoder": "table", "lora_rank": 0, "ia3": False}
    assert Adapters.from_dict(none) == Adapters.from_dict({}) == NONE
    assert Adapters.from_dict({**none, "lora_rank": 4}) == Adapters.of(LoRA(4))


def test_one_method_several_or_none():
    assert Adapters.of(None) == Adapters.of([]) == NONE
    assert Adapters.of(LoRA(2)) == Adapters.of([LoRA(2)]) == Adapters.of(Adapters.of(LoRA(2)))
    assert EVERY.get(LoRA).rank == 2
    assert NONE.get(LoRA) is None
    assert EVERY.with_prompt_rows(8).prompt_rows == 8
    assert NONE.with_prompt_rows(8) == NONE


def test_labels_differ_where_adapters_do():
    adapters = [
        [PromptTuning(2)],
        [PromptTuning(3)],
        [PromptTuning(2, "mlp")],
        [PromptTuning(2, "mlp", 7)],
        [PromptTuning(2, anchor=0.1)],
        [LoRA(2)],
        [LoRA(2, 2.0)],
        [LoRA(2, targets=("key",))],
        [IA3()],
        [PrefixTuning(2)],
        [PrefixTuning(2), IA3()],
    ]
    assert len({Adapters.of(methods).label for methods in adapters}) == len(adapters)
    assert Adapters.of([LoRA(4), IA3()]).label == "lora4-ia3"


def test_names_are_unique():
    with pytest.raises(UserError, match="There is an adapter method 'lora' already"):

        @register_adapter
        @dataclasses.dataclass(frozen=True)
        class Another(Method):
            name = "lora"

    assert METHODS["lora"] is LoRA
