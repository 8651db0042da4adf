# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Strategies of adapting a model to a task: values of a grid's axis "method", each with what trains
and the learning rates to try.

Rates are those of Adafactor without parameter scaling, at which every strategy trains, so that none
is better for its optimizer. Published are 0.3 for soft prompts (Lester et al. 2021), 3e-3 for
(IA)^3 (Liu et al. 2022), and 5e-4 for full fine-tuning (the paper, section 8); LoRA is that of Hu
et al. 2022, prefixes those of Li and Liang 2021, biases after Ben Zaken et al. 2022.
"""

import dataclasses
from collections.abc import Mapping

from mto_jax.experiments.grid import ASKED
from mto_jax.models.adapters import IA3, NONE, Adapters, LoRA, PrefixTuning, PromptTuning


@dataclasses.dataclass(frozen=True)
class Strategy:
    """A way of adapting a model.

    Attributes:
      way: the method that it is a case of: "frozen", "in_context_late", "fine_tune" or
        "adapter_tune".
      adapters: what trains on the frozen model.
      trainable: "all", or patterns of the parameters that train, of those of the model.
      replay: share of pre-training data in the rows.
      rates: learning rates to try.
    """

    way: str
    adapters: Adapters = NONE
    trainable: str | tuple[str, ...] = "all"
    replay: float = 0.0
    rates: tuple[float, ...] = ()


STRATEGIES: Mapping[str, Strategy] = {
    "frozen": Strategy("frozen"),
    # Late fusion: each solved example in a source of its own, so that any number fits.
    "in_context_late": Strategy("in_context_late"),
    "prompt": Strategy("adapter_tune", Adapters.of(PromptTuning(10)), rates=(0.1, 0.3)),
    "prefix": Strategy("adapter_tune", Adapters.of(PrefixTuning(10)), rates=(0.03, 0.1)),
    "ia3": Strategy("adapter_tune", Adapters.of(IA3()), rates=(3e-3, 3e-2)),
    "lora": Strategy("adapter_tune", Adapters.of(LoRA(8)), rates=(1e-3, 3e-3)),
    "biases_and_norms": Strategy(
        "fine_tune", trainable=("*norm.scale", "*relative_bias"), rates=(3e-3, 3e-2)
    ),
    "decoder_only": Strategy("fine_tune", trainable=("decoder.*",), rates=(1e-4, 5e-4)),
    # All that the encoder's output does not depend on: the decoder, and a head of its own.
    "frozen_encoder": Strategy("fine_tune", trainable=("[!e]*",), rates=(1e-4, 5e-4)),
    "full": Strategy("fine_tune", rates=(1e-4, 5e-4)),
    "full_replay": Strategy("fine_tune", replay=0.25, rates=(1e-4, 5e-4)),
}


def of_way(way: str) -> list[str]:
    """The names of the strategies that are cases of a method.

    >>> of_way("adapter_tune")
    ['prompt', 'prefix', 'ia3', 'lora']
    """
    return [name for name, strategy in STRATEGIES.items() if strategy.way == way]


# The methods that train adapters on the frozen model: the runner's prompt, those of an axis, or a
# strategy's.
ADAPTER_METHODS = ("prompt_tune", "adapter_tune", *of_way("adapter_tune"))
FINE_TUNE = ("fine_tune", *of_way("fine_tune"))
# The frozen model with solved examples in its source: in one, or each in a source of its own.
IN_CONTEXT = ("in_context", "in_context_late")
# "constant": the best answer that is the same for all heads; "recall": see `RECALL`.
UNTRAINED = ("constant", "frozen", "recall", *IN_CONTEXT)
CELL_METHODS = (*UNTRAINED, *FINE_TUNE, *ADAPTER_METHODS)
# The free axes, and the methods that have them.
FREE_AXES = {
    "adapter": ("prompt_tune", "adapter_tune"),
    "learning_rate": (*ADAPTER_METHODS, *FINE_TUNE),
    **dict.fromkeys(("replay", "trainable"), ("fine_tune",)),
    **dict.fromkeys(ASKED, ("frozen", *FINE_TUNE)),
}
