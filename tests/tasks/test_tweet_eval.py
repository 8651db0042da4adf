# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""TweetEval in its authors' files."""

import gin
import pytest
import seqio

from mto_jax.errors import UserError
from mto_jax.tasks import tweet_eval
from mto_jax.text2text import templates
from mto_jax.text2text.records import LabelledText


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MTO_DATA_DIR", str(tmp_path))
    path = tmp_path / "tweet_eval/stance/climate"
    path.mkdir(parents=True)
    (path / "val_text.txt").write_text('@user it rains \na\ttab, a "quote" \U0001f602\n')
    (path / "val_labels.txt").write_text("2\n0\n")
    return path


def test_words_of_every_set():
    gin.parse_config("vocabulary.name = 'demo'")
    tweet_eval.register()
    known = set(seqio.TaskRegistry.names())
    assert len(tweet_eval.SETS) == 11
    for name, tweets in tweet_eval.SETS.items():
        assert len(set(tweets.labels)) == len(tweets.labels)
        related = dict(zip(tweets.labels, tweets.related, strict=False))
        applicable = templates.templates_for("labelled_text", templates.Wording(related=related))
        assert {f"tweet_eval_{name}_{template.snake_name}" for template in applicable} <= known
        assert f"tweet_eval_{name}_masked_prompting" in known


def test_texts_and_labels_go_together(folder):
    assert list(tweet_eval.reader("stance_climate", "validation")()) == [
        LabelledText("tweet_eval_stance_climate", "@user it rains", "favor"),
        LabelledText("tweet_eval_stance_climate", 'a\ttab, a "quote" \U0001f602', "none"),
    ]


@pytest.mark.parametrize(
    "labels, message",
    [
        (
            "2\n3\n",
            r"val_text\.txt, line 2: the field 'label' .*is '3', which is not in the label set",
        ),
        ("2\n", r"line 2: there is no column 'label'"),
        ("2\n0\n1\n", r"2 rows, .*val_labels\.txt has 3 lines"),
    ],
)
def test_bad_labels(folder, labels, message):
    (folder / "val_labels.txt").write_text(labels)
    with pytest.raises(UserError, match=message):
        list(tweet_eval.reader("stance_climate", "validation")())


def test_a_missing_file_of_labels_is_named(folder):
    (folder / "val_labels.txt").unlink()
    with pytest.raises(UserError, match=r"no column 'label'.*no file .*climate/val_labels\.txt"):
        list(tweet_eval.reader("stance_climate", "validation")())
