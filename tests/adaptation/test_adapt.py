# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""`mto adapt` from a corpus to an adapted checkpoint, its second start, and what it refuses."""

import json

import gin
import pytest

from mto_jax import checkpoints, config
from mto_jax.adaptation import pairs
from mto_jax.adaptation.adapt import adapt as verb
from mto_jax.checkpoints import runs
from mto_jax.commands.convert import convert
from mto_jax.errors import UserError
from mto_jax.matching import outputs
from mto_jax.matching.decide import Decision
from mto_jax.matching.verdict import MASK_FILLING, Verdict
from mto_jax.text2text import vocabulary
from mto_jax.text2text.mapping import Choice
from tests import tiny

MACROS = {
    "VOCABULARY": "demo",
    "CORPUS": "demo",
    "METHOD": "phrases",
    "GROUPS": "length",
    "OBJECTIVE": "mixed",
    "EPOCHS": 1,
    "BATCH_SIZE": 8,
    "TASK_FEATURE_LENGTHS": {"inputs": 48, "targets": 24},
}
FACTS = {"demo_AtLocation": "Filling", "demo_xIntent": "Mapping"}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    tiny.write(folder)
    return folder


@pytest.fixture
def adapt(base, tmp_path):
    """Runs `mto adapt --gin_file=runs/adapt.gin` with macros and bindings changed."""

    def run(files=(), **changes):
        values = {
            **MACROS,
            "INITIAL_CHECKPOINT_PATH": str(base),
            "MODEL_DIR": str(tmp_path / "run"),
            "PairConfig.max_pairs": 40,
            "DatasetConfig.prepared_dir": str(tmp_path / "prepared"),
            "eval/DatasetConfig.limit": 20,
            **changes,
        }
        gin_lines = [f"{name} = {value!r}" for name, value in values.items()]
        gin.clear_config()
        config.load(["runs/adapt.gin", *files], gin_lines)
        return verb()

    return run


def test_from_sentences_to_a_model(adapt, tmp_path, base, capsys):
    settings = {
        "OBJECTIVE": "in_place_mixed",
        "adapt.pairs_dir": str(tmp_path / "shared"),
        "GROUPS": "classifier",
        "REPLAY": "demo_span_corruption",
        "REPLAY_SHARE": 0.5,
        "PairConfig.facts": FACTS,
        "PairConfig.facts_per_task": 6,
        "classifier/Tuning.epochs": 1,
    }
    metrics = adapt(**settings)
    assert {"dev/adaptation_in_place_mixed/loss", "dev/demo_span_corruption/loss"} <= set(metrics)
    run = tmp_path / "run"
    rows = list(pairs.read(tmp_path / "shared" / "pairs.jsonl"))
    report = json.loads((tmp_path / "shared" / "report.json").read_text())["report"]
    assert report["kept"] == len(rows) == 40
    # 39 pairs to train on, as many replayed, 8 a step
    assert runs.newest_good(run).name == "10"
    model = checkpoints.open(run).model(vocabulary.vocabulary())
    assert model.config.d_model == tiny.CONFIG.d_model
    assert model.config.dropout_rate == 0.1
    assert "adaptation_in_place_mixed_replay" in (run / "config.gin").read_text()
    capsys.readouterr()

    assert adapt(**settings).items() <= metrics.items()
    assert "is trained to step 10 already" in capsys.readouterr().out

    # A damaged report does not matter, as pairs are a function of what they are made from.
    report_file = tmp_path / "shared" / "report.json"
    whole = report_file.read_bytes()
    report_file.write_bytes(whole.replace(b"40", b"41"))
    assert adapt(**settings).items() <= metrics.items()
    assert f"{report_file} has changed since it was written" in capsys.readouterr().err
    assert report_file.read_bytes() == whole
    settings_file = run / "adaptation.json"
    settings_whole = settings_file.read_bytes()
    settings_file.write_bytes(settings_whole[:-5])
    with pytest.raises(UserError, match="adaptation.json does not read as JSON"):
        adapt(**settings)
    settings_file.write_bytes(settings_whole)

    with pytest.raises(UserError, match="objective is 'in_place_mixed' there and 'lm' now"):
        adapt(**{**settings, "OBJECTIVE": "lm"})


def test_an_unknown_task_to_replay_is_told_before_the_pairs_are_made(adapt, tmp_path):
    with pytest.raises(UserError, match="'demo_span_corruptoin'.*'demo_span_corruption'"):
        adapt(REPLAY="demo_span_corruptoin")
    assert not (tmp_path / "run").exists()


def test_from_a_foreign_checkpoint_with_its_vocabulary(adapt, tmp_path, base):
    gin.clear_config()
    convert(source=str(base), to="hf", output=str(tmp_path / "hf"))
    foreign = {"INITIAL_CHECKPOINT_PATH": str(tmp_path / "hf"), "VOCABULARY": None}
    adapt(**foreign, **{"TRAIN_STEPS": 1, "DROPOUT_RATE": 0.0, "eval/DatasetConfig.limit": 2})
    run = json.loads((tmp_path / "run" / "model.json").read_text())
    assert run["vocabulary"]["digest"] == vocabulary.vocabulary("demo").digest
    assert run["model"]["d_model"] == tiny.CONFIG.d_model


def test_none_is_the_base_itself(adapt, tmp_path, capsys):
    assert adapt(OBJECTIVE="none") == {}
    assert "as it is" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


def test_the_mapping_says_the_objective_unless_one_is_given(adapt, tmp_path, capsys):
    """A mapping that `mto match` writes decides what `mto adapt` trains."""
    by = Verdict("demo_xIntent", "probe", 0.1, 0.05, 0.2, 0.0, MASK_FILLING)
    for objective, given, trained in (
        ("lm", None, "lm"),
        ("denoising", None, "denoising"),
        ("denoising", "lm", "lm"),
    ):
        decision = Decision(Choice(objective, "Prompting"), by)
        written = tmp_path / "mapping.gin"
        written.write_text(outputs.mapping_gin({"demo_xIntent": decision}, "a model"))
        run = str(tmp_path / f"run-{objective}-{given}")
        changes = {"TASK": "demo_xIntent", "OBJECTIVE": given, "MODEL_DIR": run, "TRAIN_STEPS": 1}
        metrics = adapt(**changes, files=[str(written)])
        assert f"dev/adaptation_{trained}/loss" in metrics
    assert "objective denoising, of demo_xIntent in the mapping" in capsys.readouterr().out
    (tmp_path / "mapping.gin").write_text('mapping.tasks = {"demo_xIntent": ("lmm", "Prompting")}')
    with pytest.raises(UserError, match=r"objective \(mapping.tasks\['demo_xIntent'\]\)"):
        adapt(OBJECTIVE=None, TASK="demo_xIntent", files=[str(written)])
    with pytest.raises(UserError, match="Did you mean 'demo_xIntent'"):
        adapt(OBJECTIVE=None, TASK="demo_xIntnt", files=["mappings/expert.gin"])


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"OBJECTIVE": None}, "pass --gin.OBJECTIVE=..., one of none, "),
        ({"OBJECTIVE": None, "TASK": "demo_xIntent"}, "there is no mapping"),
        ({"OBJECTIVE": "denoissing"}, "Did you mean 'denoising'"),
        ({"OBJECTIVE": "none", "REPLAY": "demo_span_corruption"}, "nothing to mix"),
        ({"METHOD": "phrase"}, "Did you mean 'phrases'"),
        ({"REPLAY": "demo_span_corruption", "REPLAY_SHARE": 1.5}, "between 0 and 1"),
        ({"INITIAL_CHECKPOINT_PATH": "nowhere"}, "nowhere is not there"),
        ({"CORPUS": "demmo"}, "Did you mean 'demo'"),
        ({"EPOCHS": 0}, "epochs is 0"),
        ({"PairConfig.phrases": ["zzz"]}, r"gave 0 pairs .*\d+ no phrase between"),
    ],
)
def test_refusals(adapt, changes, told):
    with pytest.raises(UserError, match=told):
        adapt(**changes)


def test_empty_corpora(adapt, tmp_path):
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(UserError, match="empty"):
        adapt(CORPUS=str(tmp_path / "empty.txt"))
