# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The verb `mto evaluate`: which checkpoints, what is printed and written."""

import json
import shutil

import gin
import pytest

from mto_jax import checkpoints
from mto_jax.commands import evaluate as verb
from mto_jax.data import loader
from mto_jax.data.dataset import DatasetConfig
from mto_jax.decoding.generation import Decoding
from mto_jax.errors import UserError
from mto_jax.text2text import vocabulary
from tests.decoding import tiny

HOW = Decoding(max_length=6)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run with three steps, of which step 2 is the best."""
    folder = tmp_path_factory.mktemp("run")
    tiny.checkpoint(folder, {1: 0.2, 2: 0.9, 3: 0.5})
    return folder


@pytest.fixture
def run_dir(trained, tmp_path, monkeypatch):
    """A fresh copy of it, and a data set that stands in for SeqIO's."""
    texts = [
        {"inputs": f"{i} {i + 1}", "targets": "2", "references": ["2", "3 4"]} for i in range(5, 12)
    ]
    data = tiny.prepared(tmp_path, texts, [f"mto_jax.metrics.text:{m}" for m in ("rouge", "bleu")])
    monkeypatch.setattr(loader, "ensure_all", lambda configs: [data])
    monkeypatch.setattr(vocabulary, "vocabulary", lambda name=None: tiny.Numbers())
    monkeypatch.setattr(verb, "use_compilation_cache", lambda: None)
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


DATASET = DatasetConfig("tiny", {"inputs": 16, "targets": 8}, "test")


def run(run_dir, **options):
    return verb.evaluate(
        model_dir=str(run_dir), datasets=[DATASET], decoding=HOW, batch_size=4, **options
    )


def test_a_model_that_gin_cuts_is_evaluated_alike(run_dir, monkeypatch, capsys):
    whole = run(run_dir)[2][0]
    gin.parse_config(["mesh.fsdp = 2", "mesh.tensor = 2"])
    parts = run(run_dir, output_dir=str(run_dir / "cut"))[2][0]
    assert "cut over 8 devices (data=2, fsdp=2, tensor=2)" in capsys.readouterr().err
    assert parts.predictions == whole.predictions
    assert parts.values() == pytest.approx(whole.values())
    gin.bind_parameter("mesh.fsdp", 3)
    monkeypatch.setattr(loader, "ensure_all", lambda configs: pytest.fail("prepares data first"))
    with pytest.raises(UserError, match=r"fsdp=3, tensor=2 does not fit 8 device\(s\)"):
        run(run_dir)


def test_best_checkpoint_table_and_files(run_dir, capsys):
    results = run(run_dir)
    assert list(results) == [2]
    printed = capsys.readouterr().out
    for word in ("tiny", "rougeL", "bleu", "95 % interval", "step 2", "all heads", "distinct"):
        assert word in printed
    # The references are alike, so one of them is the best answer to everything.
    assert results[2][0].constant["rougeL"] == 1
    assert "not above the 1.000 of the best constant answer" in " ".join(printed.split())
    folder = run_dir / "evaluation" / "2"
    rows = [json.loads(line) for line in (folder / "predictions-tiny-test.jsonl").open()]
    assert [row["input"] for row in rows] == [f"{i} {i + 1}" for i in range(5, 12)]
    assert rows[0].keys() >= {"references", "prediction", "raw_prediction", "scores"}
    summary = json.loads((folder / "metrics.json").read_text())
    assert summary["step"] == 2
    (task,) = summary["results"]
    assert task["origin"]["decoding"]["max_length"] == 6
    assert (task["task"], task["split"], task["examples"]) == ("tiny", "test", 7)
    found = task["metrics"]["rougeL"]
    assert found["low"] <= found["value"] <= found["high"]
    assert found["value"] == results[2][0].values()["rougeL"]
    assert sorted(path.name for path in folder.iterdir()) == [
        "metrics.json",
        "predictions-tiny-test.jsonl",
    ]


@pytest.fixture
def decoded(monkeypatch):
    """The calls of `evaluate_dataset`."""
    calls, inner = [], verb.evaluate_dataset

    def counted(*args, **options):
        calls.append(args[1].name)
        return inner(*args, **options)

    monkeypatch.setattr(verb, "evaluate_dataset", counted)
    return calls


def test_what_is_evaluated_is_not_evaluated_again(run_dir, decoded, capsys):
    first = run(run_dir)
    folder = run_dir / "evaluation" / "2"
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    again = run(run_dir)
    assert again == first
    assert decoded == ["tiny"]
    assert "1 of 1 results are taken from" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files


def spoil_predictions(folder, monkeypatch):
    path = folder / "predictions-tiny-test.jsonl"
    path.write_text(path.read_text().replace("5 6", "5 5", 1))


def lose_predictions(folder, monkeypatch):
    (folder / "predictions-tiny-test.jsonl").unlink()


def lose_metrics(folder, monkeypatch):
    (folder / "metrics.json").unlink()


def other_checkpoint(folder, monkeypatch):
    monkeypatch.setattr(checkpoints.Run, "digest", "another")


@pytest.mark.parametrize(
    "change", [spoil_predictions, lose_predictions, lose_metrics, other_checkpoint]
)
def test_what_is_not_whole_or_of_another_checkpoint_is(change, run_dir, decoded, monkeypatch):
    first = run(run_dir)
    change(run_dir / "evaluation" / "2", monkeypatch)
    assert run(run_dir) == first
    assert decoded == ["tiny", "tiny"]


def test_another_decoding_is_evaluated_and_other_tasks_stay(
    run_dir, tmp_path, decoded, monkeypatch
):
    run(run_dir)
    texts = [{"inputs": f"{i} 6", "targets": "2", "references": ["2"]} for i in range(5, 9)]
    other = tiny.prepared(tmp_path, texts, name="other")
    monkeypatch.setattr(loader, "ensure_all", lambda configs: [other])
    run(run_dir)
    summary = json.loads((run_dir / "evaluation" / "2" / "metrics.json").read_text())
    assert [entry["task"] for entry in summary["results"]] == ["tiny", "other"]
    verb.evaluate(
        model_dir=str(run_dir),
        datasets=[DATASET],
        decoding=Decoding(max_length=6, seed=1),
        batch_size=4,
    )
    assert decoded == ["tiny", "other", "other"]


def test_new_checkpoints(run_dir, decoded, capsys):
    assert list(run(run_dir)) == [2]
    assert list(run(run_dir, checkpoints="new")) == [1, 3]
    capsys.readouterr()
    assert run(run_dir, checkpoints="new") == {}
    assert "nothing new" in capsys.readouterr().out
    assert list(run(run_dir, checkpoints="all")) == [1, 2, 3]
    assert len(decoded) == 3


def test_a_report_for_each_step(run_dir, capsys):
    results = run(run_dir, checkpoints="all", report=True)
    for step, (result,) in results.items():
        page = (run_dir / "evaluation" / str(step) / "report.html").read_text()
        assert f"{result.values()['rougeL']:.3f}" in page
        for text in ("step 1", "step 2", "step 3", "method=", "max_length=6", "2 + 2 layers"):
            assert text in page
    assert (
        f"the report is {run_dir / 'evaluation' / '3' / 'report.html'}" in capsys.readouterr().out
    )


def test_broken_metrics_are_told(run_dir):
    run(run_dir)
    (run_dir / "evaluation" / "2" / "metrics.json").write_text("{")
    with pytest.raises(UserError, match=r"metrics\.json does not read as JSON.*Remove it"):
        run(run_dir)


def test_all_newest_and_one_step(run_dir, tmp_path):
    assert list(run(run_dir, checkpoints="all", output_dir=str(tmp_path / "out"))) == [1, 2, 3]
    assert (tmp_path / "out" / "3" / "metrics.json").exists()
    for which, step in (("newest", 3), (1, 1), ("1", 1)):
        assert [c.path.name for c in checkpoints.open_all(str(run_dir), which)] == [str(step)]
    step_dir = run_dir / "checkpoints" / "1"
    assert [c.path for c in checkpoints.open_all(str(step_dir), "best")] == [step_dir]


def test_damaged_checkpoints_are_left_out(run_dir, capsys):
    victim = next(
        p for p in (run_dir / "checkpoints" / "3" / "trainable").rglob("*") if p.is_file()
    )
    victim.write_bytes(b"")
    assert [c.path.name for c in checkpoints.open_all(str(run_dir), "all")] == ["1", "2"]
    assert "3 is damaged" in capsys.readouterr().err
    with pytest.raises(UserError, match="damaged"):
        checkpoints.open_all(str(run_dir), 3)


def test_errors(run_dir, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="Did you mean 'newest'"):
        checkpoints.open_all(str(run_dir), "newst")
    with pytest.raises(UserError, match="step '7'"):
        checkpoints.open_all(str(run_dir), 7)
    with pytest.raises(UserError, match="is not there"):
        checkpoints.open_all(str(tmp_path / "nothing"), "best")
    with pytest.raises(UserError, match=r"evaluate\.datasets is empty"):
        verb.evaluate(model_dir=str(run_dir), datasets=[])


def test_model_of_another_vocabulary(run_dir, tmp_path, monkeypatch):
    class Other(tiny.Numbers):
        digest = "other"

    texts = [{"inputs": "5", "targets": "6", "references": ["6"]}]
    data = tiny.prepared(tmp_path, texts, vocabulary=Other(), name="other")
    monkeypatch.setattr(loader, "ensure_all", lambda configs: [data])
    with pytest.raises(UserError, match="prepared with the vocabulary 'numbers'"):
        run(run_dir)

    def numbers(name=None):
        return Other() if name == "other" else tiny.Numbers()

    gin.bind_parameter("vocabulary.name", "other")
    monkeypatch.setattr(vocabulary, "vocabulary", numbers)
    with pytest.raises(UserError, match="was trained with the vocabulary 'numbers'"):
        run(run_dir)
