# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Adapters as files, against Hugging Face PEFT itself: theirs here, ours there, merged, refused."""

import dataclasses
import functools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import peft as hf_peft
import pytest
import safetensors.torch
import torch
from flax import nnx

from mto_jax.checkpoints import peft
from mto_jax.checkpoints.lazy import in_memory
from mto_jax.checkpoints.merge import merge
from mto_jax.errors import UserError
from mto_jax.models.adapters import IA3, NONE, Adapters, LoRA, PrefixTuning, PromptTuning, fold
from mto_jax.models.t5 import T5
from mto_jax.training import state
from mto_jax.training.multi_adapter import attach
from tests.checkpoints import models

LORA = {"task_type": "SEQ_2_SEQ_LM", "r": 3, "lora_alpha": 7, "target_modules": ["q", "o"]}
EVERYWHERE = ["q", "k", "v", "o", "wi", "wi_0", "wi_1", "wo"]
THEIRS = {
    "prompt": ("t5_v1_1", hf_peft.PromptTuningConfig(num_virtual_tokens=4)),
    "p-tuning": (
        "t5_v1_1",
        hf_peft.PromptEncoderConfig(num_virtual_tokens=4, encoder_hidden_size=8),
    ),
    "lora": ("t5_v1_1", hf_peft.LoraConfig(**LORA | {"target_modules": EVERYWHERE})),
    "lora-relu-tied": ("t5", hf_peft.LoraConfig(**LORA | {"target_modules": ["v", "wi", "wo"]})),
    "lora-rank-stabilised": ("t5", hf_peft.LoraConfig(**LORA | {"use_rslora": True})),
    "lora-decoder": ("t5", hf_peft.LoraConfig(**LORA | {"target_modules": r"decoder.*\.(q|wo)"})),
    "lora-cross": ("t5", hf_peft.LoraConfig(**LORA | {"target_modules": r".*EncDec.*\.v"})),
    "ia3": ("t5_v1_1", hf_peft.IA3Config()),
    "ia3-encoder": (
        "t5",
        hf_peft.IA3Config(target_modules=r"encoder.*\.(k|v|wo)", feedforward_modules=r".*\.wo"),
    ),
    "ia3-mt5": ("mt5", hf_peft.IA3Config()),  # PEFT scales what comes out of wi_1 in mT5
}
PARTIAL = ("lora-decoder", "lora-cross", "ia3-encoder")  # not in every stack
OURS = {
    "prompt": Adapters.of(PromptTuning(5, encoder="residual", width=4)),
    "lora": Adapters.of(LoRA(2, alpha=3.0, targets=("key", "out", "wi_0", "wo"))),
    "ia3": Adapters.of(IA3()),
}


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """Folders of tiny models, by family."""
    folder = tmp_path_factory.mktemp("bases")
    families = ("t5", "t5_v1_1", "mt5")
    return {f: models.saved(models.torch_model(f), folder / f) for f in families}


@pytest.fixture(scope="module")
def base(bases):
    return plain(bases["t5_v1_1"])


def plain(folder) -> T5:
    config, parameters = models.load(folder)
    config = dataclasses.replace(config, scan_unroll=1)  # compiles faster
    return state.abstract_model(lambda rngs: T5(config, rngs)).merge(parameters)


def logits(model: T5) -> np.ndarray:
    """Returns `models.tokens`, with all soft tokens in front of the sources."""
    source, target = models.tokens(128)
    P = model.adapters.prompt_rows
    soft = np.tile(np.arange(P, dtype=np.int32) + model.config.vocab_size, (len(source), 1))
    source = np.concatenate([soft, source], axis=1)
    batch = {
        "encoder_input_tokens": source,
        "encoder_segment_ids": (source != 0).astype(np.int32),
        "decoder_input_tokens": target,
        "decoder_segment_ids": np.ones_like(target),
    }
    return np.array(_forward(*nnx.split(model), batch))


@functools.partial(jax.jit, static_argnums=0)
def _forward(graphdef, parameters, batch):
    return nnx.merge(graphdef, parameters)(batch)


def randomise(model: torch.nn.Module, seed: int = 3) -> None:
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if any(part in name for part in ("lora_", "ia3_l", "prompt_encoder")):
                parameter.normal_(std=0.2)


def random_parameters(model: T5, adapters: Adapters, seed: int = 0) -> dict[str, np.ndarray]:
    spec = state.abstract_model(lambda rngs: T5(model.config, rngs, adapters))
    rng = np.random.default_rng(seed)
    return {
        name: rng.normal(0.2, 0.5, value.shape).astype(np.float32)
        for name, value in spec.shapes.items()
        if name not in state.by_name(model)
    }


@pytest.mark.parametrize("name", THEIRS)
def test_theirs_loads_here(bases, name, tmp_path):
    family, config = THEIRS[name]
    config.task_type = "SEQ_2_SEQ_LM"
    theirs = hf_peft.get_peft_model(models.torch_model(family), config).eval()
    randomise(theirs)
    expected = models.torch_logits(theirs, *models.tokens(128))
    theirs.save_pretrained(tmp_path / "theirs")

    adapters, parameters, told = peft.load_adapter(tmp_path / "theirs")
    assert told == {}
    model = plain(bases[family])
    parameters, absent = peft.completed(adapters, parameters, model.config, name)
    assert bool(absent) == (name in PARTIAL)
    tuned = attach(model, adapters, parameters)
    np.testing.assert_allclose(logits(tuned), expected, atol=1e-4, rtol=1e-4)
    without = models.torch_logits(models.torch_model(family), *models.tokens(128))
    assert np.abs(without - expected).max() > 0.1


@pytest.mark.parametrize(
    ("family", "layers", "projection"),
    [("t5", 2, False), ("t5_v1_1", 3, True), ("mt5", 4, True), ("umt5", 3, False)],
)
def test_prefixes_of_peft_load_here(family, layers, projection, tmp_path):
    """PEFT takes other layers of its tensor where their number is odd."""
    sizes = {"num_layers": layers, "num_decoder_layers": layers}
    config = hf_peft.PrefixTuningConfig(
        task_type="SEQ_2_SEQ_LM",
        num_virtual_tokens=4,
        token_dim=18,
        num_attention_heads=3,
        prefix_projection=projection,
        encoder_hidden_size=8,
    )
    base = models.torch_model(family, **sizes)
    theirs = hf_peft.get_peft_model(models.torch_model(family, **sizes), config).eval()
    randomise(theirs)
    expected = models.torch_logits(theirs, *models.tokens(128))
    theirs.save_pretrained(tmp_path / "theirs")

    adapters, parameters, _ = peft.load_adapter(tmp_path / "theirs")
    assert adapters == Adapters.of(PrefixTuning(4, past=True))
    model = plain(models.saved(base, tmp_path / "base"))
    assert peft.completed(adapters, parameters, model.config, "theirs") == (parameters, [])
    tuned = attach(model, adapters, parameters)
    np.testing.assert_allclose(logits(tuned), expected, atol=1e-3, rtol=1e-3)
    assert np.abs(models.torch_logits(base, *models.tokens(128)) - expected).max() > 0.1


@pytest.mark.parametrize("name", OURS)
def test_ours_loads_there_and_here(base, bases, name, tmp_path):
    adapters = OURS[name]
    parameters = random_parameters(base, adapters)
    expected = logits(attach(base, adapters, parameters))
    description = {
        "task": "xIntent",
        "template": "MaskedPrePT",
        "base": {"path": str(bases["t5_v1_1"]), "fingerprint": "0f"},
        "info": {"dev_score": 0.5},
    }
    # Base parameters that come along are not the adapter's.
    everything = {**state.by_name(base), **parameters}
    peft.save_adapter(tmp_path / "ours", adapters, everything, description)

    theirs = hf_peft.AutoPeftModelForSeq2SeqLM.from_pretrained(tmp_path / "ours").eval()
    assert type(theirs).__name__ == "PeftModelForSeq2SeqLM"
    found = models.torch_logits(theirs, *models.tokens(128))
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-4)
    (config,) = theirs.peft_config.values()
    assert config.base_model_name_or_path == str(bases["t5_v1_1"])

    again, stored, told = peft.load_adapter(tmp_path / "ours")
    assert (again, told) == (adapters.folded, description)
    folded = fold(parameters, adapters)
    assert stored.keys() == folded.keys()
    for key, value in folded.items():
        np.testing.assert_array_equal(stored[key], value)
    if adapters.prompt_rows:
        rows, table, _ = peft.load_adapter(tmp_path / "ours" / "prompt.npy")
        assert rows.prompt_rows == 5
        np.testing.assert_array_equal(table["prompt.table"], stored["prompt.table"])


def test_what_peft_cannot_express_has_a_form_of_its_own(base, tmp_path):
    adapters = Adapters((PromptTuning(2), LoRA(2), IA3(), PrefixTuning(3)))
    parameters = random_parameters(base, adapters)
    peft.save_adapter(tmp_path / "all", adapters, parameters, {})
    names = sorted(path.name for path in (tmp_path / "all").iterdir())
    assert names == ["README.md", "mto.json", "parameters.safetensors", "prompt.npy"]
    again, stored, _ = peft.load_adapter(tmp_path / "all")
    assert again == adapters
    assert stored.keys() == parameters.keys()
    for name, value in parameters.items():
        np.testing.assert_array_equal(stored[name], value)
    assert peft.completed(again, stored, base.config, "all") == (stored, [])


def test_merged_weights_answer_like_the_adapter(base):
    targets = ("query", "key", "value", "out", "wi_0", "wi_1", "wo")
    adapters = Adapters((LoRA(3, alpha=2.0, targets=targets), IA3()))
    parameters = random_parameters(base, adapters)
    tensors = {name: in_memory(value) for name, value in state.by_name(base).items()}
    merged = merge(tensors, adapters, parameters)
    spec = state.abstract_model(lambda rngs: T5(base.config, rngs))
    model = spec.merge({name: jnp.asarray(tensor.whole()) for name, tensor in merged.items()})
    expected = logits(attach(base, adapters, parameters))
    np.testing.assert_allclose(logits(model), expected, atol=2e-4, rtol=1e-4)
    # A slice of a merged weight is read alone.
    index = (slice(1, 2), slice(3, 7), slice(2, 5))
    for name in ("encoder.layers.attention.key", "decoder.layers.mlp.wo"):
        np.testing.assert_array_equal(merged[name].read(index), merged[name].whole()[index])


def test_prefixes_cannot_be_merged():
    with pytest.raises(UserError, match="prefix2 cannot be merged"):
        merge({}, Adapters.of(PrefixTuning(2)), {})


@pytest.mark.parametrize(
    ("path", "name", "revision"),
    [
        ("hf://google/t5-v1_1-base", "google/t5-v1_1-base", None),
        ("hf://google/t5-v1_1-base@abc", "google/t5-v1_1-base", "abc"),
        # A run: not in a form that Transformers loads.
        ("runs/some/where@home", None, None),
    ],
)
def test_the_base_is_named_as_each_side_does(path, name, revision, tmp_path):
    rows = {"prompt.table": np.ones((3, 20), np.float32)}
    peft.save_adapter(tmp_path / "a", Adapters.of(PromptTuning(3)), rows, {"base": {"path": path}})
    config = hf_peft.PeftConfig.from_pretrained(tmp_path / "a")
    assert (config.base_model_name_or_path, config.revision) == (name, revision)
    (tmp_path / "a" / peft.OWN).unlink()
    assert peft.load_adapter(tmp_path / "a")[2] == ({"base": {"path": path}} if name else {})


def test_a_base_without_an_organisation_is_one_of_the_first(tmp_path):
    rows = {"prompt.table": np.ones((3, 20), np.float32)}
    description = {"base": {"path": "hf://google-t5/t5-base"}}
    peft.save_adapter(tmp_path / "a", Adapters.of(PromptTuning(3)), rows, description)
    (tmp_path / "a" / peft.OWN).unlink()
    config = tmp_path / "a" / peft.CONFIG
    config.write_text(config.read_text().replace("google-t5/t5-base", "t5-base"))
    assert peft.load_adapter(tmp_path / "a")[2] == description


# ---- Bad input --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lora_folder(tmp_path_factory):
    """A folder as PEFT writes it, which tests copy and spoil."""
    folder = tmp_path_factory.mktemp("theirs") / "lora"
    model = hf_peft.get_peft_model(models.torch_model("t5"), hf_peft.LoraConfig(**LORA))
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"use_dora": True}, "use_dora is True"),
        ({"bias": "lora_only"}, "bias is 'lora_only'"),
        ({"rank_pattern": {"encoder.*q": 5}}, "rank_pattern is"),
        ({"alpha_pattern": {"encoder.*q": 5}}, "alpha_pattern is"),
        ({"layers_to_transform": [1]}, "layers_to_transform is"),
        ({"modules_to_save": ["lm_head"]}, r"modules_to_save is \['lm_head'\]"),
        ({"init_lora_weights": "olora"}, "init_lora_weights is 'olora'"),
        ({"task_type": "FEATURE_EXTRACTION"}, "task_type is 'FEATURE_EXTRACTION'"),
        (
            {"target_modules": r"encoder.*1.*\.q"},
            "no encoder.layers.attention.query.lora_A.weight for",
        ),
        ({"target_modules": ["q", "shared"]}, "the tensor .*shared.* is none of LoRA"),
    ],
)
def test_what_has_no_counterpart_is_refused_by_name(options, message, tmp_path):
    config = hf_peft.LoraConfig(**LORA | options)
    model = hf_peft.get_peft_model(models.torch_model("t5", num_layers=2), config)
    model.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=message):
        peft.load_adapter(tmp_path)


def test_other_kinds_are_refused_by_name(tmp_path):
    config = hf_peft.IA3Config(
        task_type="SEQ_2_SEQ_LM", target_modules=["k", "v", "wo"], feedforward_modules=[]
    )
    model = hf_peft.get_peft_model(models.torch_model("t5"), config)
    model.save_pretrained(tmp_path / "ia3")
    with pytest.raises(UserError, match=r"wo.ia3_l \[3, 20, 1\] has no counterpart"):
        peft.load_adapter(tmp_path / "ia3")
    config = hf_peft.PrefixTuningConfig(
        task_type="SEQ_2_SEQ_LM", num_virtual_tokens=2, token_dim=18, num_attention_heads=3
    )
    hf_peft.get_peft_model(models.torch_model("t5"), config).save_pretrained(tmp_path / "prefix")
    path = tmp_path / "prefix" / peft.CONFIG
    settings = json.loads(path.read_text())
    for change, message in (
        ({"num_layers": 3}, r"prompt_embeddings \[2, 72\]; expected .* 2 rows of 2 x 3 x 18"),
        ({"num_transformer_submodules": 1}, "num_transformer_submodules is 1"),
    ):
        path.write_text(json.dumps(settings | change))
        with pytest.raises(UserError, match=message) as refusal:
            peft.load_adapter(tmp_path / "prefix")
        assert "merge" not in str(refusal.value)
    config = hf_peft.MultitaskPromptTuningConfig(
        task_type="SEQ_2_SEQ_LM", num_virtual_tokens=2, num_tasks=3
    )
    hf_peft.get_peft_model(models.torch_model("t5"), config).save_pretrained(tmp_path / "tasks")
    with pytest.raises(UserError, match=r"MULTITASK.*several tasks.*\.npy file") as refusal:
        peft.load_adapter(tmp_path / "tasks")
    assert "merge" not in str(refusal.value)


def test_weights_in_a_pickle_only_when_allowed(lora_folder, bases, tmp_path):
    shutil.copytree(lora_folder, tmp_path / "lora")
    tensors = safetensors.torch.load_file(tmp_path / "lora" / peft.WEIGHTS)
    torch.save(tensors, tmp_path / "lora" / peft.PICKLE)
    (tmp_path / "lora" / peft.WEIGHTS).unlink()
    with pytest.raises(UserError, match=r"adapter_model.bin.*allow_pickle"):
        peft.load_adapter(tmp_path / "lora")
    expected = peft.load_adapter(lora_folder)
    adapters, parameters, _ = peft.load_adapter(tmp_path / "lora", allow_pickle=True)
    assert adapters == expected[0]
    for name, value in expected[1].items():
        np.testing.assert_array_equal(parameters[name], value)
    (tmp_path / "lora" / peft.PICKLE).unlink()
    with pytest.raises(UserError, match=r"no weights: expected adapter_model.safetensors"):
        peft.load_adapter(tmp_path / "lora")


def test_another_width_depth_or_length_is_told(base, tmp_path, lora_folder):
    table = np.zeros((4, base.config.d_model + 1), np.float32)
    np.save(tmp_path / "wide.npy", table)
    adapters, parameters, _ = peft.load_adapter(tmp_path / "wide.npy")
    with pytest.raises(UserError, match=r"wide.*prompt.table is \[4, 21\], expected \[4, 20\]"):
        peft.completed(adapters, parameters, base.config, tmp_path / "wide.npy")
    adapters, parameters, _ = peft.load_adapter(lora_folder)
    deeper = dataclasses.replace(base.config, num_decoder_layers=4)
    with pytest.raises(UserError, match=r"query_a is \[3, 20, 3\], expected \[4, 20, 3\]"):
        peft.completed(adapters, parameters, deeper, lora_folder)


def test_damaged_files(base, tmp_path):
    with pytest.raises(UserError, match="is not there"):
        peft.load_adapter(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"holds neither mto.json nor adapter_config.json"):
        peft.load_adapter(tmp_path)

    adapters = Adapters.of(PromptTuning(3))
    folder = tmp_path / "prompt"
    rows = {"prompt.table": np.ones((3, 20), np.float32)}
    peft.save_adapter(folder, adapters, rows, {})
    weights = folder / peft.WEIGHTS
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-4])
    with pytest.raises(UserError, match=r"the content of adapter_model.safetensors is not"):
        peft.load_adapter(folder)
    (folder / peft.OWN).rename(tmp_path / "kept")
    with pytest.raises(UserError, match="is not a whole safetensors file"):
        peft.load_adapter(folder)
    weights.unlink()
    with pytest.raises(UserError, match="no weights: expected adapter_model.safetensors"):
        peft.load_adapter(folder)
    (tmp_path / "kept").rename(folder / peft.OWN)
    with pytest.raises(UserError, match=r"adapter_model.safetensors is missing"):
        peft.load_adapter(folder)
    changed = (folder / peft.OWN).read_text().replace('"rows": 3', '"rows": 4')
    (folder / peft.OWN).write_text(changed)
    with pytest.raises(UserError, match=r"mto.json has changed since it was written"):
        peft.load_adapter(folder)
    (folder / peft.OWN).write_text("{")
    with pytest.raises(UserError, match=r"mto.json does not read as JSON"):
        peft.load_adapter(folder)
    (folder / peft.OWN).write_text('{"adapters": {"lora_rnk": 2}, "sha256": {}}')
    with pytest.raises(UserError, match="Did you mean 'lora_rank'"):
        peft.load_adapter(folder)

    array = tmp_path / "a.npy"
    np.save(array, np.ones((3, 20), np.float32))
    array.write_bytes(array.read_bytes()[:-4])
    with pytest.raises(UserError, match="does not read as an array"):
        peft.load_adapter(array)
    for value, message in (
        (np.ones(20, np.float32), r"float32 \[20\]; a prompt"),
        (np.ones((3, 20), np.int32), r"int32 \[3, 20\]"),
        (np.full((3, 20), np.nan, np.float32), "not finite"),
    ):
        np.save(array, value)
        with pytest.raises(UserError, match=message):
            peft.load_adapter(array)


def test_prompt_files_of_peft_must_have_their_rows(tmp_path):
    config = hf_peft.PromptTuningConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=4)
    hf_peft.get_peft_model(models.torch_model("t5"), config).save_pretrained(tmp_path)
    settings = json.loads((tmp_path / peft.CONFIG).read_text())
    (tmp_path / peft.CONFIG).write_text(json.dumps(settings | {"num_virtual_tokens": 6}))
    with pytest.raises(UserError, match=r"prompt_embeddings \[8, 20\]; expected .* 2 x 6 rows"):
        peft.load_adapter(tmp_path)


def test_saving_refuses_what_it_cannot_keep(base, tmp_path):
    with pytest.raises(UserError, match="There is no adapter to write"):
        peft.save_adapter(tmp_path / "a", NONE, state.by_name(base), {})
    rows = {"prompt.table": np.ones((3, 20), np.float32)}
    adapters = Adapters.of(PromptTuning(3))
    with pytest.raises(UserError, match="Did you mean 'task'"):
        peft.save_adapter(tmp_path / "a", adapters, rows, {"tasks": "x"})
    with pytest.raises(UserError, match="not finite"):
        peft.save_adapter(
            tmp_path / "a", adapters, {"prompt.table": rows["prompt.table"] * np.inf}, {}
        )
    assert not list(tmp_path.iterdir())
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "letter").write_text("dear")
    with pytest.raises(UserError, match="is no adapter folder of ours"):
        peft.save_adapter(tmp_path / "b", adapters, rows, {})
    # An adapter folder of ours is replaced as a whole.
    peft.save_adapter(tmp_path / "c", adapters, rows, {"task": "x"})
    peft.save_adapter(tmp_path / "c", OURS["ia3"], random_parameters(base, OURS["ia3"]), {})
    assert peft.load_adapter(tmp_path / "c")[0] == OURS["ia3"]
    assert not (tmp_path / "c" / "prompt.npy").exists()


def test_one_fingerprint_is_of_the_base_alone(base):
    numbers = state.fingerprints(state.by_name(base))
    expected = peft.one_fingerprint(numbers)
    assert peft.one_fingerprint({"prompt.table": "00", **numbers}) == expected
    assert peft.one_fingerprint({**numbers, "embedding": "00"}) != expected
