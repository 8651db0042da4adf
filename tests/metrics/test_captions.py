# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""METEOR and CIDEr against COMET-ATOMIC's published scores and cases worked by hand."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

from mto_jax.errors import UserError
from mto_jax.metrics import captions, ngrams, statistics


def comet(data_dir):
    folder = data_dir / "metric_fixtures" / "comet_atomic2020"
    rows = [json.loads(line) for line in (folder / "comet-bart_gens.jsonl").open()]
    scores = json.loads((folder / "comet-bart_scores.jsonl").read_text())
    return [row["references"] for row in rows], [row["generation"] for row in rows], scores


def cider(references, predictions):
    return captions.cider_scores(ngrams.Texts.of(references, predictions))


def test_cider_equals_every_score_of_comet(data_dir):
    """On COMET's words (between spaces, case kept) all 5000 scores agree to the 8 decimals that are
    stored."""
    targets, predictions, scores = comet(data_dir)
    references = [[text.split() for text in texts] for texts in targets]
    found = cider(references, [text.split() for text in predictions])
    np.testing.assert_allclose(found, scores["all_scores"]["CIDEr"], atol=6e-9)
    assert found.mean() == pytest.approx(float(scores["scores"]["CIDEr"]), abs=1e-8)


def test_cider_by_hand():
    """Two examples. log(2 / 1) weighs what one of them has, and what both have ("a") weighs
    nothing.

    "a cup" against "a cup": unigrams (0, w) and bigrams (w) equal, no longer n-grams: (1 + 1) / 4 x
    10 = 5. Against "a red cup" as well: its unigrams (0, w, w) have the cosine w w / (w sqrt(2) w)
    with "a cup", its bigrams none in common, one word more: (1 / sqrt(2)) / 4 x exp(-1 / 72); then
    the mean of both.
    """
    references = [["a cup", "a red cup"], ["a dog"]]
    found = captions.cider.statistics(references, ["A cup.", "a horse"]).per_example["cider"]
    second = 10 / 4 * math.exp(-1 / 72) / math.sqrt(2)
    np.testing.assert_allclose(found, [(5 + second) / 2, 0.0])


def test_cider_clips_and_survives_short_texts():
    """ "cup cup" against "cup": min(2 w, w) w / (2 w w) = 1/2, two words against one; then no
    n-gram at all."""
    scores = cider([[["cup"]], [["dog"], []]], [["cup", "cup"], []])
    np.testing.assert_allclose(scores, [10 / 4 / 2 * math.exp(-1 / 72), 0.0])
    assert captions.cider([["alone"]], ["alone"]) == {"cider": 0.0}
    np.testing.assert_array_equal(cider([[[]]], [[]]), [0.0])


def test_meteor_without_synonyms_beside_comet(data_dir):
    """COMET took NLTK's METEOR with synonyms and four decimals: 87 % of its first 2000 scores need
    none.

    Ours is higher in 13 of them, where NLTK cut the text into sentences before its words.
    """
    targets, predictions, scores = comet(data_dir)
    known = captions.meteor_stem.statistics(targets[:2000], predictions[:2000])
    found = known.per_example["meteor_stem"]
    expected = np.array(scores["all_scores"]["METEOR"][:2000])
    assert np.mean(np.abs(found - expected) <= 5.1e-5) > 0.87
    assert np.sum(found > expected + 5.1e-5) <= 13


def test_meteor_by_hand():
    """ "He cups a tea" has 3 of the 4 words of "a cup of tea" (a stem and two equal), in 2 pieces.

    P = R = 3/4, F = 3/4, less half of (2 pieces / 3 words)^3; the other reference has less.
    """
    score = 0.75 * (1 - 0.5 * (2 / 3) ** 3)
    references = [["nothing", "a cup of tea"], ["a dog"]]
    found = captions.meteor_stem.statistics(references, ["a cups he tea", "horses"])
    np.testing.assert_allclose(found.per_example["meteor_stem"], [score, 0.0])


def test_meteor_takes_synonyms(monkeypatch):
    """Members of a synset match: with "house", one chunk of two words, 1 - 0.5 (1/2)^3."""
    import nltk.corpus

    synset = SimpleNamespace(lemmas=lambda: [SimpleNamespace(name=lambda: "hound")])
    wordnet = SimpleNamespace(
        get_version=lambda: "0", synsets=lambda word: [synset] if word == "dog" else []
    )
    monkeypatch.setattr(nltk.corpus, "wordnet", wordnet)
    assert captions.meteor.ready() == "WordNet 0"
    found = captions.meteor([["hound house"]], ["dog house"])["meteor"]
    assert found == pytest.approx(1 - 0.5 / 8)
    stems = captions.meteor_stem([["hound house"]], ["dog house"])["meteor_stem"]
    assert stems == pytest.approx(0.5 * (1 - 0.5))


def test_meteor_tells_how_to_get_wordnet(monkeypatch):
    import nltk.corpus

    def missing():
        raise LookupError("Resource wordnet not found.")

    monkeypatch.setattr(nltk.corpus, "wordnet", SimpleNamespace(get_version=missing))
    with pytest.raises(UserError, match=r"nltk\.downloader wordnet.*meteor_stem"):
        captions.meteor.ready()
    with pytest.raises(UserError, match="WordNet"):
        captions.meteor([["a"]], ["a"])


@pytest.mark.parametrize("name", ["meteor_stem", "cider"])
def test_intervals_and_empty_predictions(name):
    function = getattr(captions, name)
    targets = [["to earn money"], ["a cup of tea"], ["red"]]
    found = function.statistics(targets, ["to earn money", "a cup", ""])
    interval = statistics.bootstrap(found, samples=50)[name]
    assert interval.low <= interval.value <= interval.high
    assert found.per_example[name][2] == 0.0
