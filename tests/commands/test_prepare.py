# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The verb `mto prepare`."""

import pytest

from mto_jax import cli
from mto_jax.data import manifest
from mto_jax.data.dataset import DatasetConfig

GIN = """
vocabulary.name = "demo"
DatasetConfig.mixture_or_task_name = "demo_span_corruption"
DatasetConfig.task_feature_lengths = {"inputs": 64, "targets": 16}
DatasetConfig.limit = 20
prepare.datasets = [@DatasetConfig()]
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the verb with GIN and more flags."""
    monkeypatch.setenv("MTO_CACHE_DIR", str(tmp_path / "prepared"))
    (tmp_path / "data.gin").write_text(GIN)
    return lambda *flags: cli.run("prepare", [f"--gin_file={tmp_path}/data.gin", *flags])


def test_it_prepares_and_tells_where(run, tmp_path, capsys):
    run()
    out = capsys.readouterr().out
    (folder,) = (tmp_path / "prepared").glob(f"*/{manifest.MANIFEST}")
    assert f"prepared: {folder.parent}\n" in out
    assert "demo_span_corruption (train): 20 examples" in out
    assert "for inputs 64, targets of " in out
    found = manifest.find(DatasetConfig())
    assert found.path == folder.parent
    assert found.num_examples == 20


def test_the_preview_writes_nothing(run, tmp_path, capsys):
    run("--preview=2")
    out = capsys.readouterr().out
    assert "demo_span_corruption, train, example 1" in out
    assert "<extra_id_0>" in out
    assert not (tmp_path / "prepared").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--gin.prepare.datasets=()"], "error: Nothing to prepare: name the data"),
        (
            ["--gin.DatasetConfig.mixture_or_task_name=demo_spam_corruption"],
            "error: There is no task or mixture 'demo_spam_corruption'. Did you mean "
            "'demo_span_corruption'",
        ),
    ],
)
def test_mistakes_end_with_one_paragraph(run, capsys, flags, message):
    with pytest.raises(SystemExit):
        run(*flags)
    assert message in capsys.readouterr().err
