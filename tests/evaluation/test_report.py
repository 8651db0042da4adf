# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The report: a page that loads nothing, escapes everything, and shows the given numbers."""

import dataclasses
import html.parser
import math
import re

import pytest

from mto_jax.evaluation import report
from mto_jax.evaluation.result import Result
from mto_jax.metrics.statistics import Interval

VOID = {"meta", "link", "line", "rect", "circle", "wbr"}


class Page(html.parser.HTMLParser):
    """The texts and tags of a page; fails on tags that do not match."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.texts, self.links = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [v for k, v in attributes if k in ("src", "href", "action", "data", "srcset")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self):
        return " ".join("".join(self.texts).split())


def row(i, score, prediction="a cup", references=("a cup",), **more):
    return {
        "input": f"input {i}",
        "references": list(references),
        "prediction": prediction,
        "raw_prediction": f"<extra_id_0> {prediction}",
        "log_likelihood": -float(i),
        "scores": {"rouge1": 0.5, "rougeL": score},
        **more,
    }


def result(rows, task="uses", **metrics):
    metrics = metrics or {"rougeL": Interval(0.25, 0.125, 0.375), "distinct_1": Interval(0.75)}
    return Result(task, "test", metrics, rows)


def page(*results, history=None, **facts):
    return report.page("runs/a", facts, results, history or {7: results}, 7, "train.seed = 0")


def test_a_page_for_one_task():
    rows = [row(i, score) for i, score in enumerate((1.0, 0.0, 0.5, 1.0))]
    shown = Page(page(result(rows), command="mto evaluate --report", model="runs/a/checkpoints/7"))
    for text in (
        *("runs/a", "mto evaluate --report", "runs/a/checkpoints/7", "train.seed = 0"),
        *("0.250", "0.125 to 0.375", "0.750", "uses (test): 4 examples", "Best by rougeL"),
    ):
        assert text in shown.text
    assert "Scores by checkpoint" not in shown.text
    assert "What was answered for what" not in shown.text


def test_the_best_constant_answer_stands_beside_the_scores():
    rows = [row(0, 1.0), row(1, 0.5, prediction="tea")]
    text = Page(page(dataclasses.replace(result(rows), constant={"rougeL": 0.625}))).text
    assert "the same for every example: rougeL 0.625. 100 % of the" in text
    assert "rougeL 0.250 is not above the 0.625" in text
    assert "the same for every example" not in Page(page(result(rows))).text


def test_a_page_loads_nothing_from_elsewhere_and_runs_nothing():
    text = page(result([row(0, 1.0)]))
    assert Page(text).links == ["data:,"]  # the icon: without one a browser would ask the server
    assert not {"script", "img", "iframe", "object"} & set(Page(text).tags)
    assert not re.search(r"@import|url\(|https?:", text)
    assert "default-src 'none'" in text


@pytest.mark.parametrize(
    "evil", ["<script>alert(1)</script>", '"><img src=x onerror=y>', "a & b {{ 7 * 7 }}"]
)
def test_every_text_is_escaped(evil):
    rows = [
        row(0, 1.0, evil, [evil], choices=[evil, "b"], ranked_prediction=evil) for _ in range(2)
    ]
    rows[1]["input"] = evil
    text = report.page(
        evil,
        {"command": evil, "data": evil},
        [result(rows, evil, **{evil: Interval(0.5)})],
        {1: [result(rows, evil)], 2: [result(rows, evil)]},
        1,
        evil,
    )
    shown = Page(text)
    assert {"script", "img"}.isdisjoint(shown.tags)
    assert shown.text.count(evil) >= 14
    assert evil.replace("&", "&amp;") in text if "&" in evil else evil not in text


def test_best_and_worst_are_those_of_a_full_sort():
    scores = [0.3, 1.0, 0.0, 0.3, 0.7, 0.0, 1.0, 0.1, 0.2, 0.9, 0.4, 0.6, 0.5, 0.8]
    rows = [row(i, score) for i, score in enumerate(scores)]
    best, worst = report.best_and_worst(result(rows))
    assert [one.row["input"] for one in best] == [f"input {i}" for i in (1, 6, 9, 13, 4, 11)]
    # The two zeros: the one with the higher log-likelihood first.
    assert [one.row["input"] for one in worst] == [f"input {i}" for i in (2, 5, 7, 8, 0, 3)]
    assert (best[0].score, best[0].log_likelihood) == ("1.00", -1.0)


@pytest.mark.parametrize("count, ends", [(1, (1, 0)), (2, (1, 1)), (5, (3, 2)), (30, (6, 6))])
def test_no_example_is_both_best_and_worst(count, ends):
    best, worst = report.best_and_worst(result([row(i, 0.0) for i in range(count)]))
    assert (len(best), len(worst)) == ends
    inputs = [one.row["input"] for one in (*best, *worst)]
    assert len(set(inputs)) == len(inputs)


def test_a_task_without_predictions_is_ordered_by_perplexity():
    rows = [
        {"input": f"{i}", "references": ["x"], "log_likelihood": -value, "tokens": tokens}
        for i, (value, tokens) in enumerate([(6.0, 2), (3.0, 3), (9.0, 4)])
    ]
    found = result(rows, perplexity=Interval(7.4, 6.0, 9.0))
    best, worst = report.best_and_worst(found)
    assert [one.row["input"] for one in (*best, *worst)] == ["1", "2", "0"]
    assert best[0].score == f"{math.e:.2f}"
    assert report.lengths(found) is None
    assert "Lengths" not in Page(page(found)).text


def test_lengths():
    rows = [row(0, 1.0, "a b c", ["a", "a b c"]), row(1, 1.0, "", ["a"])]
    found = report.lengths(result(rows))
    assert (found.predictions, found.references) == (1.5, pytest.approx(5 / 3))
    assert [bin.label for bin in found.bins] == ["0", "1", "2", "3"]
    # Half of the predictions have 0 and 3 words; two of three references 1, the highest bar.
    assert [bin.predictions for bin in found.bins] == [75, 0, 0, 75]
    assert [bin.references for bin in found.bins] == [0, 100, 0, 50]
    assert found.bins[1].title == "1 words: 0% of predictions, 67% of references"


def test_long_texts_share_bins():
    found = report.lengths(result([row(0, 1.0, "a " * 99, ["a"])]))
    assert len(found.bins) <= 16
    assert found.bins[-1].title.startswith("98 to 104 words: 100% of predictions")


def labelled(pairs, choices, **more):
    return [row(i, 0.0, p, [r], choices=choices, **more) for i, (r, p) in enumerate(pairs)]


def test_confusion_of_labels():
    pairs = [("no", "no"), ("no", "Yes"), ("yes", "yes"), ("yes", "maybe"), ("no", "no")]
    rows = labelled(pairs, ["yes", "no"])
    for one, ranked in zip(rows, ["no", "no", "yes", "yes", "yes"], strict=True):
        one["ranked_prediction"] = f"<extra_id_0> {ranked}"
    generated, ranked = report.confusions(result(rows))
    assert (generated.title, ranked.title) == ("Generated", "Ranked by likelihood")
    assert generated.labels == ranked.labels == ranked.columns == ["yes", "no"]
    assert generated.columns == ["yes", "no", "(none)"]
    assert generated.counts == [[1, 0, 1], [1, 2, 0]]
    assert ranked.counts == [[2, 0], [1, 2]]
    assert "What was answered for what" in Page(page(result(rows))).text


def test_confusion_of_choices_is_by_their_number():
    rows = [row(0, 1.0, "office", ["office"], choices=["class", "office"])]
    rows += [
        row(1, 0.0, "bank choice1", ["river choice2"], choices=["bank choice1", "river choice2"])
    ]
    rows[0]["ranked_prediction"] = "<extra_id_0> class"
    rows[1]["ranked_prediction"] = "<extra_id_0> river <extra_id_1> choice2"
    generated, ranked = report.confusions(result(rows))
    assert generated.labels == ["1", "2"]
    assert generated.counts == [[0, 0], [1, 1]]  # nothing is right that is the first choice
    assert ranked.counts == [[0, 0], [1, 1]]
    Page(page(result(rows)))


def test_rare_classes_are_put_together():
    classes = [f"class {i}" for i in range(15)]
    pairs = [(name, name) for i, name in enumerate(classes) for _ in range(20 - i)]
    (found,) = report.confusions(result(labelled([*pairs, ("class 0", "class 14")], classes)))
    assert found.labels == found.columns == [*classes[:12], "(others)"]
    assert found.counts[0][0] == 20
    assert found.counts[0][12] == 1
    assert found.counts[12][12] == 8 + 7 + 6


def test_no_confusion_where_any_text_is_an_answer():
    assert report.confusions(result([row(0, 1.0)])) == []


def test_scores_by_task_are_sorted_and_lonely_metrics_stay_with_their_task():
    rows = [row(0, 1.0)]
    results = [
        result(rows, "uses", rougeL=Interval(0.2), bleu=Interval(0.3)),
        result(rows, "wants", rougeL=Interval(0.4), unique=Interval(12.0)),
    ]
    shared, bleu, unique = report.by_task(results)
    assert shared.title == "rougeL"
    assert [bar.label for bar in shared.rows] == ["wants", "uses"]
    assert (bleu.title, bleu.rows[0].label) == ("uses", "bleu")
    assert (unique.title, unique.rows[0].label) == ("wants", "unique")
    twice = [results[0], Result("uses", "validation", results[0].metrics, rows)]
    assert [bar.label for bar in report.by_task(twice)[0].rows] == [
        "uses (test)",
        "uses (validation)",
    ]


def test_places_on_an_axis():
    bars = report.bars("x", [("a", Interval(0.2, 0.1, 0.3)), ("b", Interval(0.4))], "b")
    assert bars.ticks == ["0", "0.2", "0.4"]
    assert [(bar.at, bar.low, bar.high) for bar in bars.rows] == [(50, 25, 75), (100, None, None)]
    assert [bar.marked for bar in bars.rows] == [False, True]
    below = report.bars("x", [("a", Interval(-0.05, -0.1, 0.1))])
    assert (below.ticks, below.zero, below.rows[0].at) == (["-0.1", "0", "0.1"], 50, 25)
    assert report.bars("x", [("a", Interval(0.0))]).ticks == ["0", "0.5", "1"]


def test_scores_by_checkpoint():
    rows = [row(0, 1.0)]
    history = {
        2000: [result(rows, rougeL=Interval(0.4))],
        1000: [result(rows, rougeL=Interval(0.2))],
    }
    (bars,) = report.by_step(history, 2000)
    assert bars.title == "uses (test): rougeL"
    assert [(bar.label, bar.at) for bar in bars.rows] == [("step 1,000", 50), ("step 2,000", 100)]
    assert [bar.marked for bar in bars.rows] == [False, True]
    assert "Scores by checkpoint" in Page(page(*history[2000], history=history)).text
