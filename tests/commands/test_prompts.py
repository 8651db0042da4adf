# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The verb `prompts`: what is found, words near soft tokens, cosines between prompts."""

import dataclasses
import itertools

import gin
import matplotlib.image
import numpy as np
import pytest
from flax import nnx

from mto_jax import cli
from mto_jax.checkpoints import export, peft
from mto_jax.checkpoints.lazy import in_memory
from mto_jax.commands import prompts
from mto_jax.errors import UserError
from mto_jax.models.adapters import Adapters, LoRA, PromptTuning
from mto_jax.models.t5 import T5
from mto_jax.text2text import vocabulary as vocabularies
from mto_jax.training import state
from tests.tiny_run import MODEL

DEMO = vocabularies.vocabulary("demo")
SMALL = dataclasses.replace(MODEL, vocab_size=DEMO.padded_size)
D = SMALL.d_model
WORDS = {"xIntent": "to help money", "xNeed": "to have money", "sst2": "good"}


@pytest.fixture(autouse=True)
def _wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "250")


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A base model and prompts whose rows are twice the embeddings of words; LoRA, and one that is
    damaged."""
    folder = tmp_path_factory.mktemp("library")
    parameters = state.by_name(T5(SMALL, nnx.Rngs(0)))
    tensors = {name: in_memory(value) for name, value in parameters.items()}
    export.save_run(folder / "base", SMALL, tensors, vocabulary=DEMO, vocabulary_name="demo")
    embedding = np.asarray(parameters["embedding"])
    about = {"base": {"path": str(folder / "base")}, "vocabulary": DEMO.digest}
    for task, words in WORDS.items():
        rows = 2 * embedding[DEMO.encode(words)]
        description = {
            **about,
            "task": task,
            "template": "MaskedPrePT",
            "info": {"dev_score": 0.51234, "learning_rate": 0.3, "note": "[red]"},
        }
        adapters = Adapters.of(PromptTuning(len(rows)))
        path = folder / "prompts" / task
        path.parent.mkdir(exist_ok=True)
        peft.save_adapter(path, adapters, {"prompt.table": rows}, description)
    peft.add_info(folder / "prompts" / "sst2", {"held_out": {"accuracy": 0.5}})
    lora = {"encoder.layers.mlp.lora.wo_a": np.ones((1, 4, 2)), "encoder.layers.mlp.lora.wo_b": 0}
    lora["encoder.layers.mlp.lora.wo_b"] = np.ones((1, 2, 4))
    adapters = Adapters.of(LoRA(2, targets=("wo",)))
    lora |= {name.replace("encoder", "decoder"): value for name, value in lora.items()}
    peft.save_adapter(folder / "others" / "lora", adapters, lora, about)
    damaged = folder / "damaged" / "bad"
    peft.save_adapter(
        damaged, Adapters.of(PromptTuning(1)), {"prompt.table": np.ones((1, D))}, about
    )
    (damaged / peft.WEIGHTS).unlink()
    return folder


def run(*argv, capsys):
    gin.clear_config()
    cli.main(["prompts", *map(str, argv)])
    return capsys.readouterr()


def fails(*argv, capsys):
    gin.clear_config()
    with pytest.raises(SystemExit) as exit_status:
        cli.main(["prompts", *map(str, argv)])
    assert exit_status.value.code == 2
    return capsys.readouterr().err


def test_list_finds_all_and_tells_the_damaged(library, capsys):
    out, err = run("list", library, capsys=capsys)
    rows = {line.split("│")[1].strip(): line for line in out.splitlines() if "│" in line}
    assert [str(library / "prompts" / task) in rows for task in WORDS] == [True] * 3
    line = rows[str(library / "prompts" / "xIntent")]
    length = len(DEMO.encode(WORDS["xIntent"]))
    for cell in (f"prompt{length}", "xIntent", "MaskedPrePT", "dev_score 0.5123"):
        assert cell in line
    assert "accuracy 0.5, dev_score 0.5123" in rows[str(library / "prompts" / "sst2")]
    assert "lora2_wo" in rows[str(library / "others" / "lora")]
    assert "cannot be read" in rows[str(library / "damaged" / "bad")]
    assert "adapter_model.safetensors is missing" in err


def test_show_tells_everything(library, capsys):
    out, _ = run("show", library / "prompts" / "sst2", capsys=capsys)
    for text in ("task        sst2", f"width {D}", "info        note [red]", "prompt.npy", "base"):
        assert text in out
    assert "damaged" in fails("show", library / "damaged", capsys=capsys)


def test_nearest_words(library, capsys):
    out, _ = run("nearest", library / "prompts" / "xIntent", "--top=2", capsys=capsys)
    rows = [line.split("│") for line in out.splitlines() if "│" in line]
    for i, (token, row) in enumerate(zip(DEMO.encode(WORDS["xIntent"]), rows, strict=True)):
        assert row[1].strip() == str(i)
        words = row[3].split()
        assert words[:2] == [DEMO.piece(token), "1.00"]
        assert len(words) == 4
        assert float(words[3]) < 1
    # A bare array knows no model: it is given.
    array = library / "prompts" / "xIntent" / "prompt.npy"
    assert "--base=PATH" in fails("nearest", array, capsys=capsys)
    base = f"--base={library / 'base'}"
    again, _ = run("nearest", array, "--top=2", base, capsys=capsys)
    assert [line.split("│") for line in again.splitlines() if "│" in line] == rows


def test_nearest_against_brute_force():
    rng = np.random.default_rng(0)
    table, embedding = rng.normal(size=(3, 5)), rng.normal(size=(20, 5))
    for row, found in zip(table, prompts.nearest(table, embedding, 4), strict=True):
        cosines = [row @ e / np.linalg.norm(row) / np.linalg.norm(e) for e in embedding]
        best = sorted(range(20), key=lambda i: -cosines[i])[:4]
        assert [i for i, _ in found] == best
        np.testing.assert_allclose([c for _, c in found], [cosines[i] for i in best])


def test_similarity_against_brute_force():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(3, 6)), rng.normal(size=(5, 6))
    maps = prompts.similarities([a, b, a[::-1]])
    ma, mb = a.mean(0), b.mean(0)
    expected = ma @ mb / np.linalg.norm(ma) / np.linalg.norm(mb)
    np.testing.assert_allclose(maps["means of the rows"][0, 1], expected)
    cosines = prompts.unit(a) @ prompts.unit(b).T
    best = max(
        np.mean([cosines[i, j] for i, j in enumerate(p)])
        for p in itertools.permutations(range(5), 3)
    )
    np.testing.assert_allclose(maps["rows, aligned"][0, 1], best)
    for values in maps.values():
        np.testing.assert_allclose(values, values.T)
        np.testing.assert_allclose(np.diag(values), 1)
        np.testing.assert_allclose(values[0, 2], 1)  # the order of the rows does not count


def test_similarity_writes_a_table_and_a_figure(library, tmp_path, capsys):
    figure = tmp_path / "similarity.png"
    folders = library / "prompts", library / "others"
    out, err = run("similarity", *folders, f"--figure={figure}", capsys=capsys)
    assert "lora has no prompt (lora2_wo): left out" in err
    named = [line for line in out.splitlines() if "xNeed" in line]
    assert len(named) == 1  # a number stands for it in the two tables
    image = matplotlib.image.imread(figure)
    assert image.shape[0] > 200
    assert len(np.unique(image.reshape(-1, image.shape[2]), axis=0)) > 10


def test_mistakes(library, tmp_path, capsys):
    assert "Did you mean 'nearest'" in fails("neerest", library, capsys=capsys)
    assert "nowhere is not there" in fails("list", tmp_path / "nowhere", capsys=capsys)
    assert "There is no adapter in" in fails("list", tmp_path, capsys=capsys)
    assert "There is no soft prompt in" in fails("nearest", library / "others", capsys=capsys)
    one = library / "prompts" / "sst2"
    assert "two prompts or more" in fails("similarity", one, capsys=capsys)
    np.save(tmp_path / "wide.npy", np.ones((2, D + 1), np.float32))
    error = fails("similarity", one, tmp_path / "wide.npy", capsys=capsys)
    assert f"rows of width {D}" in error
    assert f"of width {D + 1}: they belong to different models" in error
    base = f"--base={library / 'base'}"
    error = fails("nearest", tmp_path / "wide.npy", base, capsys=capsys)
    assert f"has d_model {D}" in error


def test_another_vocabulary_is_refused(library, tmp_path):
    about = {"base": {"path": str(library / "base")}, "vocabulary": "0" * 64}
    rows = {"prompt.table": np.ones((1, D))}
    peft.save_adapter(tmp_path / "a", Adapters.of(PromptTuning(1)), rows, about)
    with pytest.raises(UserError, match="another vocabulary"):
        prompts.prompts("nearest", [str(tmp_path / "a")])
