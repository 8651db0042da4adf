# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""T5X checkpoints: the real ones of google-research/t5x and prompt-tuning, and made ones for the
other layouts."""

import dataclasses
import shutil

import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import serialization, traverse_util

from mto_jax import checkpoints
from mto_jax.checkpoints import export, parameter_names
from mto_jax.errors import UserError
from mto_jax.models.config import T5Config
from tests.checkpoints import models, numpy_t5

REAL = {
    "t5x_test_t5_tiny.checkpoint_0": ("one msgpack file", 0),
    "prompt_tuning_test_t5_1_1_tiny/checkpoint_3": ("zarr", 3),
}


@pytest.mark.parametrize("name", REAL)
def test_real_checkpoints(name, data_dir):
    path = data_dir / "t5x_fixtures" / name
    raw = numpy_t5.raw_arrays(path)
    checkpoint = checkpoints.open(path).contents
    kind, step = REAL[name]
    assert kind in checkpoint.file.format
    assert checkpoint.file.step == step

    # Every tensor is accounted for: used once, or left for a reason.
    used = [key for keys in checkpoint.used.values() for key in keys]
    assert sorted(used) == sorted(raw)
    assert not checkpoint.extra
    reasons = set(checkpoint.file.left.values())
    assert reasons == {"optimizer state", "not a parameter"}
    assert {key for key, why in checkpoint.file.left.items() if why == "not a parameter"} == {
        "version",
        "optimizer/state/step",
    }

    config, parameters = models.load(path)
    np.testing.assert_array_equal(parameters["embedding"], raw["token_embedder/embedding"])
    np.testing.assert_array_equal(
        parameters["decoder.layers.mlp.wo"][1], raw["decoder/layers_1/mlp/wo/kernel"]
    )
    rng = np.random.default_rng(0)
    source, target = (rng.integers(1, 32000, (2, n)).astype(np.int32) for n in (40, 23))
    ours = models.our_logits(config, parameters, source, target)
    expected = numpy_t5.logits(raw, source, target)
    np.testing.assert_allclose(ours, expected, atol=1e-4 * np.abs(expected).max(), rtol=1e-4)


def test_real_checkpoint_through_a_run_folder_and_out_to_transformers(data_dir, tmp_path):
    import transformers

    path = data_dir / "t5x_fixtures" / "prompt_tuning_test_t5_1_1_tiny"
    config, parameters = models.load(path)
    export.save_huggingface(parameters, config, tmp_path / "out")
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out").eval()
    source, target = models.tokens(config.vocab_size)
    source[source == 0] = 5
    expected = numpy_t5.logits(numpy_t5.raw_arrays(path / "checkpoint_3"), source, target)
    found = models.torch_logits(model, source, target)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max(), rtol=1e-4)


@pytest.mark.parametrize("name", ["t5x_tiny_t5/checkpoint_1", "t5x_tiny_orbax/1"])
def test_real_checkpoints_without_a_model(name, data_dir):
    path = data_dir / "t5x_fixtures" / name
    text = " ".join(checkpoints.open(path).describe().split())
    assert "not a T5" in text
    assert "param_states/kernel" in text
    with pytest.raises(UserError, match="no parameters at all"):
        models.load(path)


def test_mesh_tensorflow_is_told(data_dir):
    with pytest.raises(UserError, match="Mesh TensorFlow"):
        checkpoints.open(data_dir / "t5x_fixtures" / "mtf_tiny_t5_partial").describe()


# ------------------------------------------------------------------------------------ made ones

CONFIG = T5Config(
    vocab_size=128,
    d_model=20,
    d_kv=6,
    d_ff=28,
    num_heads=3,
    num_encoder_layers=2,
    num_decoder_layers=3,
    num_buckets=8,
)
KINDS = {
    "t5_v1_1": CONFIG,
    "t5": dataclasses.replace(CONFIG, mlp="relu", tie_embeddings=True),
    "umt5": dataclasses.replace(CONFIG, relative_bias_per_layer=True),
}


def random_parameters(config):
    rng = np.random.default_rng(0)
    shapes = parameter_names.shapes(config)
    return {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}


def t5x_tree(config, parameters, *, scan=None, heads_apart=False):
    """The target of a T5X train state; `scan` is the name of the scanned layers, None keeps them
    apart."""
    H = config.num_heads
    flat = {}
    for name, there in parameter_names.names(config, "t5x").items():
        value = parameters[name].swapaxes(-1, -2) if there.transposed else parameters[name]
        kind = name.split(".")[-1]
        if heads_apart and kind in ("query", "key", "value"):
            value = value.reshape(*value.shape[:-1], H, -1)
        if heads_apart and kind == "out":
            value = value.reshape(value.shape[0], H, -1, value.shape[-1])
        if not there.per_layer:
            flat[there.template] = value
        elif scan:
            stack = name.split(".")[0]
            layers = {"layers": "layers", "twice": stack}[scan]
            flat[there.template.replace("layers_{i}", layers)] = np.moveaxis(value, 0, 1)
        else:
            flat |= {there.template.format(i=i): layer for i, layer in enumerate(value)}
    return traverse_util.unflatten_dict({tuple(name.split("/")): v for name, v in flat.items()})


def state(target):
    states = {"encoder": {"v": np.ones(3, np.float32)}}
    return {"state": {"step": np.int32(7), "param_states": states}, "target": target}


def write_msgpack(path, target):
    tree = {"version": 3, "optimizer": state(target)}
    path.write_bytes(serialization.msgpack_serialize(tree))
    return path


def write_orbax(path, target, **options):
    ocp.PyTreeCheckpointer(**options).save(path, state(target))
    return path


def check(path, config, parameters):
    like = dataclasses.replace(config, vocab_size=128)
    found, loaded = models.load(path, config=like)
    assert found == like
    assert set(loaded) == set(parameters)
    for name, value in parameters.items():
        np.testing.assert_array_equal(loaded[name], value, err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scan", [None, "layers", "twice"])
@pytest.mark.parametrize("heads_apart", [True, False])
def test_layouts(kind, scan, heads_apart, tmp_path):
    config = KINDS[kind]
    parameters = random_parameters(config)
    tree = t5x_tree(config, parameters, scan=scan, heads_apart=heads_apart)
    path = write_msgpack(tmp_path / "checkpoint_7", tree)
    check(path, config, parameters)
    text = " ".join(checkpoints.open(path).describe().split())
    assert ("scanned" in text) == bool(scan)
    assert "step 7" in text


@pytest.mark.parametrize("scan", [None, "layers"])
@pytest.mark.parametrize("ocdbt", [True, False])
def test_orbax(scan, ocdbt, tmp_path):
    parameters = random_parameters(CONFIG)
    tree = t5x_tree(CONFIG, parameters, scan=scan)
    folder = write_orbax(tmp_path / "checkpoint_7" / "state", tree, use_ocdbt=ocdbt)
    check(folder, CONFIG, parameters)
    check(tmp_path, CONFIG, parameters)  # the run's folder
    assert checkpoints.open(folder).contents.file.step == 7
    (tmp_path / "checkpoint_7").rename(tmp_path / "7")  # as Orbax's own manager calls it
    check(tmp_path, CONFIG, parameters)


def test_the_newest_checkpoint_of_a_run(tmp_path):
    for step in (9, 10):
        folder = tmp_path / f"checkpoint_{step}"
        folder.mkdir()
        parameters = random_parameters(CONFIG)
        parameters["lm_head"] += step
        write_msgpack(folder / "checkpoint", t5x_tree(CONFIG, parameters))
    check(tmp_path, CONFIG, parameters)


def test_relative_posemb_is_the_per_layer_bias(tmp_path):
    config = KINDS["umt5"]
    parameters = random_parameters(config)
    tree = t5x_tree(config, parameters, scan="layers", heads_apart=True)
    for stack in ("encoder", "decoder"):
        layers = tree[stack]["layers"]
        layers["relative_posemb"] = layers.pop("relpos_bias")
    check(write_msgpack(tmp_path / "checkpoint_7", tree), config, parameters)


def test_what_the_file_does_not_tell_comes_from_the_model(tmp_path):
    parameters = random_parameters(CONFIG)
    path = write_msgpack(tmp_path / "checkpoint_7", t5x_tree(CONFIG, parameters))
    wider = dataclasses.replace(CONFIG, max_distance=64, dropout_rate=0.1)
    assert models.load(path, config=wider)[0] == wider
    assert models.load(path)[0] == CONFIG


def test_bfloat16(tmp_path):
    parameters = {
        name: value.astype(ml_dtypes.bfloat16) for name, value in random_parameters(CONFIG).items()
    }
    path = write_msgpack(tmp_path / "checkpoint_7", t5x_tree(CONFIG, parameters))
    check(path, CONFIG, {name: value.astype(np.float32) for name, value in parameters.items()})


def test_prompts_are_left_by_rule(tmp_path, capsys):
    parameters = random_parameters(CONFIG)
    tree = t5x_tree(CONFIG, parameters)
    tree["encoder"]["prompt"] = {"prompt": {"prompt": np.zeros((5, 20), np.float32)}}
    path = write_msgpack(tmp_path / "checkpoint_7", tree)
    with pytest.raises(UserError, match=r"extra: encoder/prompt/prompt/prompt \[5, 20\]"):
        models.load(path)
    models.load(path, assignment_map=[(r".*prompt.*", None)])
    assert "encoder/prompt/prompt/prompt [5, 20] is left unread" in capsys.readouterr().err


def test_missing_and_misshapen_tensors_are_listed(tmp_path):
    tree = t5x_tree(CONFIG, random_parameters(CONFIG))
    del tree["decoder"]["layers_1"]["mlp"]["wo"]
    tree["encoder"]["layers_0"]["attention"]["key"]["kernel"] = np.zeros((20, 17), np.float32)
    with pytest.raises(UserError) as caught:
        models.load(write_msgpack(tmp_path / "checkpoint_7", tree))
    assert "missing: decoder/layers_1/mlp/wo/kernel, expected [28, 20]" in str(caught.value)
    assert "misshapen: encoder/layers_0/attention/key/kernel is [20, 17], expected [20, 18]" in str(
        caught.value
    )


def test_a_lost_chunk_is_no_row_of_zeros(data_dir, tmp_path):
    source = data_dir / "t5x_fixtures" / "prompt_tuning_test_t5_1_1_tiny"
    shutil.copytree(source, tmp_path / "run", copy_function=shutil.copyfile)
    lost = tmp_path / "run" / "checkpoint_3" / "target.token_embedder.embedding" / "3.0"
    lost.parent.chmod(0o755)
    lost.unlink()
    with pytest.raises(UserError, match=r"target\.token_embedder\.embedding"):
        models.load(tmp_path / "run")


def test_lost_zarray_files_are_replaced_by_the_index(data_dir, tmp_path):
    source = data_dir / "t5x_fixtures" / "prompt_tuning_test_t5_1_1_tiny" / "checkpoint_3"
    expected = models.load(source)[1]
    hidden = shutil.ignore_patterns(".zarray")  # `cp *` and many web tools lose them
    shutil.copytree(source, tmp_path / "c", ignore=hidden, copy_function=shutil.copyfile)
    loaded = models.load(tmp_path / "c")[1]
    assert all(np.array_equal(loaded[name], expected[name]) for name in expected)


def test_foreign_bytes(tmp_path):
    (tmp_path / "file").write_bytes(b"\xff\x00 no msgpack")
    with pytest.raises(UserError, match="not a T5X checkpoint"):
        models.load(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no checkpoint"):
        models.load(tmp_path / "empty")
    (tmp_path / "model.safetensors").write_bytes(b"\x10" + bytes(40))
    with pytest.raises(UserError, match=r"give the folder with its config\.json"):
        models.load(tmp_path / "model.safetensors")
