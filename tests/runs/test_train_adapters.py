# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The verb `train` with adapters: what is stored, on which base, and that it resumes bit for
bit."""

import dataclasses
import shutil

import gin
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mto_jax import checkpoints
from mto_jax.checkpoints import compatibility, peft, runs
from mto_jax.checkpoints.lazy import in_memory
from mto_jax.checkpoints.merge import merge
from mto_jax.commands.convert import convert
from mto_jax.errors import UserError
from mto_jax.models.adapters import (
    AdapterModule,
    Adapters,
    LoRA,
    Method,
    PromptTuning,
    register_adapter,
)
from mto_jax.models.t5 import T5
from mto_jax.text2text import vocabulary as vocabularies
from mto_jax.training import state
from tests.tiny_run import MODEL, run, write_task

SMALL = dataclasses.replace(MODEL, vocab_size=1280)  # the padded size of the demo vocabulary
BOTH = Adapters((PromptTuning(3, encoder="residual", width=4), LoRA(2)))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def base(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    run(data, model=SMALL, model_dir=str(folder), train_steps=2)
    gin.clear_config()
    return folder


def tune(data, base, folder, **options):
    tuned = {"model": SMALL, "adapters": BOTH, "initial_checkpoint_path": str(base)}
    run(data, model_dir=str(folder), **tuned, **options)
    gin.clear_config()


@pytest.fixture(scope="module")
def tuned(data, base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuned")
    tune(data, base, folder, checkpoint_period=3, keep=3)
    return folder


def parameters(folder, vocabulary=None):
    vocabulary = vocabulary or vocabularies.vocabulary("demo")
    model = checkpoints.open(folder).model(vocabulary)
    return jax.device_get(state.by_name(model))


def test_only_what_trains_is_stored_and_the_base_is_named(base, tuned):
    (step,) = (path for path in runs.steps(tuned) if path.name == "6")
    assert not (step / "frozen").exists()
    stored = runs.description(step)["shapes"]
    assert {"prompt.table", "encoder.layers.attention.lora.query_a"} < set(stored["trainable"])
    assert not any(name.startswith("embedding") for name in stored["trainable"])
    assert not any("embedding" in name for name in stored["optimizer"])
    assert runs.description(step)["base"]["path"].startswith(str(base))


def test_the_model_is_the_base_with_the_adapter_folded(base, tuned):
    before, after = parameters(base), parameters(tuned)
    assert after["prompt.table"].shape == (3, 16)
    assert not any("prompt.down" in name for name in after)
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value)
    assert np.abs(after["encoder.layers.attention.lora.query_b"]).max() > 0


def test_it_goes_on_bit_for_bit(data, base, tuned, tmp_path):
    # The same run as it was after three steps.
    shutil.copytree(tuned, tmp_path / "again")
    shutil.rmtree(tmp_path / "again" / "checkpoints" / "6")
    tune(data, base, tmp_path / "again")
    for name, value in parameters(tuned).items():
        np.testing.assert_array_equal(parameters(tmp_path / "again")[name], value, err_msg=name)


def test_another_base_is_refused_by_name(data, base, tuned, tmp_path):
    other = tmp_path / "other"
    run(data, model=SMALL, model_dir=str(other), train_steps=2, seed=1)
    gin.clear_config()
    with pytest.raises(
        UserError, match=f"parameters of {base}.* but {other} has others: .* differ"
    ):
        tune(data, other, tuned, train_steps=8)
    with gin.unlock_config():
        gin.bind_parameter("base_checkpoint.path", str(other))
    with pytest.raises(UserError, match="differ"):
        parameters(tuned)
    gin.clear_config()
    # A copy of the base elsewhere is the same base.
    shutil.copytree(base, tmp_path / "copy")
    with gin.unlock_config():
        gin.bind_parameter("base_checkpoint.path", str(tmp_path / "copy"))
    assert parameters(tuned)["prompt.table"].shape == (3, 16)
    gin.clear_config()


def test_a_base_that_is_gone_is_told(tuned, tmp_path):
    with gin.unlock_config():
        gin.bind_parameter("base_checkpoint.path", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"nowhere, which is not to be had.*base_checkpoint\.path"):
        parameters(tuned)
    gin.clear_config()


def test_soft_tokens_need_rows(data, base, tmp_path):
    narrow = dataclasses.replace(SMALL, vocab_size=3)  # every word of the task is beyond it
    with pytest.raises(UserError, match=r"reverse \(train\) has the soft token \d+, .* 2 rows"):
        compatibility.check_soft_tokens(
            write_task(data, "reverse", 300), narrow, Adapters.of(PromptTuning(2))
        )
    with pytest.raises(UserError, match=r"T5Config\.vocab_size = 1280"):
        run(data, model_dir=str(tmp_path), adapters=Adapters.of(PromptTuning(2)))


def test_adapters_without_parts_do_not_train(data, base, tmp_path):
    with pytest.raises(UserError, match="the model has none"):
        run(data, model_dir=str(tmp_path), model=SMALL, trainable="adapters")


@pytest.mark.parametrize("foreign", [False, True], ids=["of a run", "of Hugging Face"])
def test_a_part_trains_on_and_is_evaluated_with_the_rest_of_its_base(data, base, tmp_path, foreign):
    """The encoder is frozen, and so is left in the base; the decoder trains, stops and resumes."""
    start = tmp_path / "hf" if foreign else base
    if foreign:
        convert(source=str(base), to="hf", output=str(start))
        gin.clear_config()
    options = {
        "model": SMALL,
        "initial_checkpoint_path": str(start),
        "trainable": ["decoder.*"],
        "checkpoint_period": 2,
    }
    for steps in (2, 4):
        run(data, model_dir=str(tmp_path / "part"), train_steps=steps, **options)
        gin.clear_config()
    run(data, model_dir=str(tmp_path / "whole"), train_steps=4, **options)
    gin.clear_config()
    found, whole = parameters(tmp_path / "part"), parameters(tmp_path / "whole")
    before = parameters(base)
    for name, value in found.items():
        np.testing.assert_array_equal(value, whole[name], err_msg=name)
        assert np.array_equal(value, before[name]) == (not name.startswith("decoder.")), name


# ---- A method of a user's ---------------------------------------------------------------------


@register_adapter
@gin.configurable
@dataclasses.dataclass(frozen=True)
class OutputScale(Method):
    """A scale of each output of a weight."""

    weight: str = "out"

    name = "output_scale"

    def in_layer(self, weights, kv_heads, num_layers, rngs):
        if self.weight not in weights:
            return None
        return _OutputScale(self.weight, (num_layers, weights[self.weight][1]))

    def merge(self, parameters):
        return {
            name.replace(".output_scale.scale", f".{self.weight}"): lambda weight, index, s=scale: (
                weight * s[index[0], None, index[2]]
            )
            for name, scale in parameters.items()
        }


class _OutputScale(AdapterModule):
    def __init__(self, weight, shape):
        self.weight = weight
        self.scale = nnx.Param(jnp.ones(shape), axes=("layers", None))

    def projection(self, name, x_BxTxD, y_BxTxE):
        return y_BxTxE * self.scale[None, None] if name == self.weight else y_BxTxE


def test_a_method_of_a_users_module_trains_decodes_and_is_kept(data, base, tmp_path):
    options = {"model": SMALL, "initial_checkpoint_path": str(base)}
    run(data, model_dir=str(tmp_path / "run"), adapters=OutputScale("wo"), **options)
    gin.clear_config()
    checkpoint = checkpoints.open(tmp_path / "run")
    assert set(runs.description(checkpoint.path)["shapes"]["trainable"]) == {
        f"{stack}.layers.mlp.output_scale.scale" for stack in ("encoder", "decoder")
    }
    assert checkpoint.adapters == Adapters.of(OutputScale("wo"))

    vocabulary = vocabularies.vocabulary("demo")
    model = checkpoint.model(vocabulary)
    tokens, ones = np.array([[0, 5, 7]], np.int32), np.ones((1, 3), np.int32)
    arrays = {"encoder_input_tokens": tokens + 4, "decoder_input_tokens": tokens}
    segments = dict.fromkeys(("encoder_segment_ids", "decoder_segment_ids"), ones)
    expected = np.asarray(model({**arrays, **segments}))
    hidden = model.read(model.encode(tokens + 4, ones), ones)
    cache, found = model.start_cache(hidden, 3), []
    for token in tokens.T:
        logits, cache = model.decode_step(token, cache)
        found.append(logits)
    np.testing.assert_allclose(np.stack(found, axis=1), expected, atol=1e-5)

    # As a folder of its own, and in the weights of the base.
    peft.save_adapter(tmp_path / "folder", model.adapters, state.by_name(model), {})
    adapters, values, _ = peft.load_adapter(tmp_path / "folder")
    before = parameters(base)
    assert any(np.abs(value - 1).max() > 0 for value in values.values())
    merged = merge({n: in_memory(v) for n, v in before.items()}, adapters, values)
    plain = state.abstract_model(lambda rngs: T5(SMALL, rngs)).merge(
        {name: jnp.asarray(tensor.whole()) for name, tensor in merged.items()}
    )
    np.testing.assert_allclose(plain({**arrays, **segments}), expected, atol=1e-5)
