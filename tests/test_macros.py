# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The meanings of macros: none is missing, none is about a macro that there is not."""

from mto_jax import config, macros
from mto_jax.cli import VERBS


def _of_runs() -> set[str]:
    files = [name for name in config.bundled("runs") if "/demo" not in name and "/lab" not in name]
    return {
        name
        for file in [*files, "tables/grid.gin"]
        for name in config.recorded(config.gin_directory() / file)
        if "." not in name
    }


def test_every_macro_of_the_runs_has_a_meaning_and_no_other():
    assert _of_runs() == macros.MEANINGS.keys()


def test_each_verb_has_the_macros_of_its_files():
    assert macros.of("train")["TRAIN_STEPS"].endswith("(default 60 or default 10000)")
    assert macros.of("infer")["MODEL_DIR"].endswith("(required)")
    assert {"TASKS", "PROMPT_LENGTH", "LORA_RANK"} <= macros.of("tune").keys()
    assert macros.of("convert") == {}
    assert all(macros.of(verb) for verb in ("prepare", "evaluate", "try", "match", "tables"))
    assert macros.described("list") == []
    assert len(VERBS) > 10
