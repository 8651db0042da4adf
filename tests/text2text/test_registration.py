# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""A user's own data through SeqIO: every template and objective, end to end."""

import dataclasses
import json
import os
import re

import gin
import pytest
import seqio

from mto_jax.data import prepare
from mto_jax.data.dataset import DatasetConfig
from mto_jax.errors import UserError
from mto_jax.metrics import text
from mto_jax.metrics.by_kind import BY_KIND
from mto_jax.text2text import few_shot, record_sets, registration, registry, templates, tokenising
from mto_jax.text2text.record_sets import Wanted
from mto_jax.text2text.records import Triple
from mto_jax.text2text.vocabulary import vocabulary

LENGTHS = {"inputs": 64, "targets": 24}


@pytest.fixture(autouse=True)
def _demo_vocabulary(monkeypatch):
    gin.parse_config("vocabulary.name = 'demo'")
    monkeypatch.setattr(registration, "DATA_SETS", dict(registration.DATA_SETS))
    known = set(seqio.TaskRegistry.names())
    yield
    for task in set(seqio.TaskRegistry.names()) - known:
        seqio.TaskRegistry.remove(task)


def examples(task: str, split: str, lengths=LENGTHS, **settings) -> list[dict]:
    dataset = seqio.get_mixture_or_task(task).get_dataset(
        lengths, split=split, shuffle=False, **settings
    )
    return list(dataset.as_numpy_iterator())


def texts(values) -> list[str]:
    return [value.decode() for value in values]


@pytest.fixture
def facts(tmp_path):
    path = tmp_path / "facts.tsv"
    rows = [f"tool {i}\tcutting {i} {j}" for i in range(200) for j in range(3)]
    path.write_text("tool\tuse\n" + "\n".join(rows) + "\n")
    return path


def register_facts(facts, name="kitchen", **settings):
    defaults = {"phrase": "is used for", "fields": {"head": "tool", "tail": "use"}}
    return registration.register_file(name, facts, **(defaults | settings))


def test_one_call_gives_every_template_and_objective(facts):
    tasks = register_facts(facts)
    named = templates.templates_for("triple")
    assert tasks == [f"kitchen_{template.snake_name}" for template in named]
    vocab = vocabulary()
    for task, template in zip(tasks, named, strict=True):
        first = examples(task, "test")[0]
        record = registration.DATA_SETS["kitchen"].records_of("test")[0]
        expected = templates.render(template, record, templates.Wording("is used for"))
        tokens = tokenising.tokenise(expected, vocab, LENGTHS)
        assert first["inputs"].tolist() == tokens.inputs
        assert first["targets"].tolist() == tokens.targets
        assert first["inputs_pretokenized"].decode() == expected.source_text
        assert first["targets_pretokenized"].decode() == expected.target_text
        assert first["task"].decode() == task
        assert texts(first["references"]) == list(record.tails)
        assert len(first["choices"]) == 0
    for objective in ("span_corruption", "prefix_lm", "lm", "denoising", "in_place_denoising"):
        assert examples(f"kitchen_{objective}", "train", seed=0)


def test_sentences_for_adaptation(facts):
    register_facts(facts)
    vocab = vocabulary()
    first = examples("kitchen_denoising", "validation", seed=0)[0]
    body, tail = (vocab.decode(first[feature]) for feature in ("inputs", "targets"))
    assert re.fullmatch(r"tool \d+ is used for <extra_id_0>", body)
    assert re.fullmatch(r"<extra_id_0> cutting \d+ \d", tail)


def test_a_single_file_is_split_by_heads(facts):
    register_facts(facts)
    data = registration.DATA_SETS["kitchen"]
    heads = {split: {record.head for record in data.records_of(split)} for split in data.readers}
    assert set.union(*heads.values()) == {f"tool {i}" for i in range(200)}
    assert sum(map(len, heads.values())) == 200
    assert 140 < len(heads["train"]) < 180
    assert len(examples("kitchen_mapping", "train")) == 3 * len(heads["train"])
    assert len(examples("kitchen_mapping", "test")) == len(heads["test"])
    assert seqio.TaskRegistry.get("kitchen_mapping").source.input_files == [str(facts)]


def test_few_shot_reaches_the_task_and_the_seed_matters(facts):
    register_facts(facts)
    drawn = []
    for seed in (0, 1):
        gin.parse_config(f"few_shot.shots = 7\nfew_shot.tails_per_head = 2\nfew_shot.seed = {seed}")
        rows = examples("kitchen_prompting", "train")
        assert len(rows) == 14
        drawn.append({row["inputs_pretokenized"] for row in rows})
        assert len(drawn[-1]) == 7
    assert drawn[0] != drawn[1]
    source = seqio.TaskRegistry.get("kitchen_prompting").source
    assert source.report["train"]["heads drawn"] == 7
    assert source.num_input_examples("train") == 14
    gin.parse_config("evaluation_sample.heads = 5\nevaluation_sample.references = 2")
    rows = examples("kitchen_prompting", "test")
    assert [len(row["references"]) for row in rows] == [2] * 5


def test_given_splits_never_share_a_head(tmp_path):
    for split, rows in {
        "train": "a\tx\nb\ty\nc\tnone\nd\tz\nd\tz\n",
        "test": "b\tw\nb\tv\n",
    }.items():
        (tmp_path / f"{split}.tsv").write_text(rows)
    registration.register_file(
        "own",
        {split: tmp_path / f"{split}.tsv" for split in ("train", "test")},
        columns=("head", "tail"),
        phrase="is used for",
    )
    rows = examples("own_mapping", "train")
    assert texts(row["inputs_pretokenized"] for row in rows) == ["own: a", "own: d"]
    (row,) = examples("own_mapping", "test")
    assert texts(row["references"]) == ["w", "v"]
    assert seqio.TaskRegistry.get("own_mapping").source.report["train"] == {
        "read": 5,
        "dropped: the tail is 'none' or empty": 1,
        "dropped: repeated": 1,
        "dropped: the head is in validation or test": 1,
        "heads": 2,
        "examples": 2,
    }


def test_truncation_is_counted(facts):
    register_facts(facts)
    short = examples("kitchen_masked_prompting", "test", {"inputs": 64, "targets": 4})
    assert all(row["targets_truncated"] == 1 and row["inputs_truncated"] == 0 for row in short)
    assert all(len(row["targets"]) == 4 and row["targets"][-1] == 1 for row in short)


def test_lengths_are_optional_and_shards_are_a_partition(facts):
    register_facts(facts)
    assert len(examples("kitchen_mapping", "test", None)) == len(
        examples("kitchen_mapping", "test")
    )
    shards = [
        examples("kitchen_mapping", "train", shard_info=seqio.ShardInfo(index, 3))
        for index in range(3)
    ]
    whole = examples("kitchen_mapping", "train")
    joined = [row["targets_pretokenized"] for shard in shards for row in shard]
    assert sorted(joined) == sorted(row["targets_pretokenized"] for row in whole)


def test_labelled_text_from_csv(tmp_path):
    path = tmp_path / "mood.csv"
    path.write_text(
        'review,stars\n"good, warm",1\nbad,0\n' + "".join(f"film {i},1\n" for i in range(40))
    )
    registration.register_file(
        "mood",
        path,
        kind="labelled_text",
        fields={"text": "review", "label": "stars"},
        labels={"0": "negative", "1": "positive"},
        related={"negative": "bad", "positive": "great"},
        phrase="It was",
    )
    rows = examples("mood_masked_related_prompting", "train")
    (row,) = (row for row in rows if b"film 1 " in row["inputs_pretokenized"])
    assert row["inputs_pretokenized"].decode() == (
        "mood: film 1 It was <extra_id_0>, so the label is <extra_id_1>"
    )
    assert texts(row["references"]) == ["great positive"]
    assert texts(row["choices"]) == [
        "<extra_id_0> bad <extra_id_1> negative",
        "<extra_id_0> great <extra_id_1> positive",
    ]


def test_questions_from_jsonl_and_accuracy(tmp_path):
    path = tmp_path / "quiz.jsonl"
    rows = [{"q": f"which {i}?", "options": ["yes", f"no {i}"], "gold": "B"} for i in range(60)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    registration.register_file(
        "quiz",
        path,
        kind="multiple_choice",
        fields={"question": "q", "choices": "options", "answer": "gold"},
    )
    rows = examples("quiz_masked_answer_prompting", "test")
    task = seqio.TaskRegistry.get("quiz_masked_answer_prompting")
    assert task.metric_fns == [text.accuracy]
    references = [texts(row["references"]) for row in rows]
    predictions = [
        row["targets_pretokenized"].decode().removeprefix("<extra_id_0> ") for row in rows
    ]
    assert text.accuracy(references, predictions) == {"accuracy": 1.0}
    # Ranking: one of the candidates is the target, written the same way.
    for row in rows:
        assert row["targets_pretokenized"] in list(row["choices"])


def test_a_generation_task(tmp_path):
    path = tmp_path / "story.tsv"
    path.write_text("".join(f"dog {i}\tThe dog runs {i}.\n" for i in range(40)))
    registration.register_file(
        "story", path, kind="generation", columns=("source", "target"), phrase="words: H"
    )
    row = examples("story_masked_prompting", "train")[0]
    assert row["inputs_pretokenized"] == b"story: words: dog 0 <extra_id_0>"


def test_mixtures_of_templates(facts):
    tasks = register_facts(facts)
    seqio.MixtureRegistry.add("kitchen_all", tasks[:2], default_rate=1.0)
    rows = seqio.get_mixture_or_task("kitchen_all").get_dataset(
        LENGTHS, split="train", seed=0, num_epochs=1
    )
    masked = {int(row["targets"][0]) == vocabulary().sentinel_id(0) for row in rows.take(50)}
    assert masked == {True, False}
    seqio.MixtureRegistry.remove("kitchen_all")


# ---- Registering twice ------------------------------------------------------------------------


def test_the_same_again_changes_nothing_and_another_thing_is_an_error(facts):
    assert register_facts(facts) == register_facts(facts)
    with pytest.raises(UserError, match="already a data set 'kitchen'"):
        register_facts(facts, phrase="can be used for")


def test_another_vocabulary_takes_the_place(facts, data_dir):
    register_facts(facts)
    before = examples("kitchen_mapping", "test")[0]["inputs"].tolist()
    gin.parse_config(f"vocabulary.name = '{data_dir}/vocab/t5_sentencepiece.model'")
    register_facts(facts)
    assert examples("kitchen_mapping", "test")[0]["inputs"].tolist() != before


def test_a_corpus_does_not_take_the_name_of_facts(facts, tmp_path):
    register_facts(facts)
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    with pytest.raises(UserError, match="already a task or mixture 'kitchen_\\w+' of other data"):
        registry.register_text("kitchen", str(tmp_path / "a.txt"))


def test_a_task_of_someone_else_is_not_replaced(facts):
    seqio.TaskRegistry.add("taken_mapping", source=None, output_features={}, preprocessors=[])
    with pytest.raises(UserError, match="already a task 'taken_mapping'"):
        register_facts(facts, name="taken")


# ---- Bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"kind": "tripel"}, "no kind of record 'tripel'. Did you mean 'triple'"),
        ({"phrase": ""}, "relation 'kitchen' has no phrase"),
        ({"phrase": "H is near H"}, "more than once"),
        ({"fields": {"haed": "tool"}}, "no field of a triple record 'haed'. Did you mean 'head'"),
        ({"name": "my kitchen"}, "cannot be called 'my kitchen'"),
        ({"kind": "labelled_text", "fields": {}}, "no labels"),
        (
            {"kind": "labelled_text", "fields": {}, "labels": ("a", "b"), "related": {"a": "x"}},
            "no related word for: b",
        ),
    ],
)
def test_bad_registrations(facts, settings, message):
    with pytest.raises(UserError, match=message):
        register_facts(facts, **settings)


@pytest.mark.parametrize(
    "mapped, name, message",
    [
        # The mapping misspells the task: the data set is bare.
        ("kitchn", "kitchen", "'kitchen' is a data set without a template.*mapping.tasks"),
        (
            "kitchn",
            "kitchn",
            "no task or mixture 'kitchn_prompting'. Did you mean 'kitchen_prompting'",
        ),
        ("kitchen", "kitchen_promptin", "Did you mean 'kitchen_prompting'"),
    ],
)
def test_a_mapping_of_an_unknown_task(facts, monkeypatch, mapped, name, message):
    register_facts(facts)
    monkeypatch.setattr(prepare, "register", lambda config: None)  # done above
    gin.bind_parameter("mapping.tasks", {mapped: ("lm", "Prompting")})
    with pytest.raises(UserError, match=message):
        prepare.preview(DatasetConfig(name, LENGTHS), 1)


def test_lama_is_one_call(tmp_path):
    """A cloze probe in its authors' files: the gap stands inside the phrase."""
    row = {"sub_label": "Fermi", "obj_label": "Rome", "predicate_id": "P19", "evidences": []}
    (tmp_path / "P19.jsonl").write_text(json.dumps(row) + "\n")
    registration.register_file(
        "lama_P19",
        {"test": tmp_path / "P19.jsonl"},
        fields={"head": "sub_label", "tail": "obj_label"},
        phrase="H was born in T .",
    )
    (row,) = examples("lama_P19_masked_prompting", "test")
    assert row["inputs_pretokenized"] == b"lama_P19: Fermi was born in <extra_id_0> ."
    assert row["targets_pretokenized"] == b"<extra_id_0> Rome"


def test_a_missing_file_is_told_at_once(tmp_path):
    with pytest.raises(UserError, match=r"no file .*nowhere\.tsv"):
        registration.register_file("kitchen", tmp_path / "nowhere.tsv", phrase="is used for")


def test_bad_rows_are_told_when_the_data_are_read(tmp_path):
    (tmp_path / "a.tsv").write_text("head\ttail\nknife\tcutting\nfork\t\n")
    registration.register_file("kitchen", {"train": tmp_path / "a.tsv"}, phrase="is used for")
    with pytest.raises(UserError, match=r"a\.tsv, line 3: the field 'tail'"):
        examples("kitchen_mapping", "train")


def test_a_missing_split_names_task_and_cure(facts, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "register", lambda config: None)
    registration.register_file("own", {"train": facts}, phrase="is used for", columns="ab")
    cure = r"'own' has no split 'validation', only train\. Register it with .*divided by heads"
    with pytest.raises(UserError, match=cure):
        record_sets.read([Wanted("own", "validation", 3)])
    with pytest.raises(UserError, match=cure):
        prepare.prepare(DatasetConfig("own_mapping", LENGTHS, "validation"))


def test_a_split_without_records(tmp_path):
    (tmp_path / "a.tsv").write_text("head\ttail\nknife\tnone\n")
    registration.register_file("kitchen", {"train": tmp_path / "a.tsv"}, phrase="is used for")
    with pytest.raises(UserError, match="'train' has no records left"):
        examples("kitchen_mapping", "train")


def questions(tmp_path, words=(3, 50, 4, 80, 5)):
    path = tmp_path / "quiz.jsonl"
    rows = [{"question": "why " * n, "choices": ["so", "no {é"], "answer": 1} for n in words]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    registration.register_file("quiz", {"test": path}, kind="multiple_choice")


def test_examples_that_cannot_fit_say_what_the_file_needs(tmp_path):
    questions(tmp_path)
    short = {"inputs": 70, "targets": 8}
    with pytest.raises(Exception, match=r"'quiz: why why.* and 1 others do not fit: ") as error:
        examples("quiz_answer_prompting", "test", short)
    needed = int(re.search(r"TASK_FEATURE_LENGTHS\['inputs'\] = (\d+)", str(error.value))[1])
    assert len(examples("quiz_answer_prompting", "test", short | {"inputs": needed})) == 5
    with pytest.raises(Exception, match=f"and 0 others|does not fit.*= {needed}"):
        examples("quiz_answer_prompting", "test", short | {"inputs": needed - 1})


def test_examples_that_cannot_fit_are_left_out_on_demand(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(prepare, "register", lambda config: None)
    questions(tmp_path)
    config = DatasetConfig(
        "quiz_answer_prompting", {"inputs": 70, "targets": 8}, "test", prepared_dir=str(tmp_path)
    )
    with pytest.raises(UserError, match=r"and 1 others do not fit.*DatasetConfig.too_long"):
        prepare.prepare(config)
    prepared = prepare.prepare(dataclasses.replace(config, too_long="skip"))
    assert prepared.num_examples == 3
    assert prepared.manifest["too_long"] == 2
    printed = capsys.readouterr().out
    assert "warning: 2 examples were too long, and were left out." in printed
    assert "warning: 3 of 3 targets have characters that the vocabulary lacks (e.g. 'é')" in printed
    with pytest.raises(UserError, match="Did you mean 'skip'"):
        dataclasses.replace(config, too_long="skipp")


def test_targets_without_words_for_their_metric_are_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(prepare, "register", lambda config: None)
    path = tmp_path / "a.tsv"
    path.write_text("head\ttail\nhello\tسلام\nagain\tworld\n")
    registration.register_file("greet", {"test": path}, phrase="is")
    prepare.prepare(DatasetConfig("greet_mapping", LENGTHS, "test", prepared_dir=str(tmp_path)))
    assert "warning: 1 of 2 references have no word in [a-z0-9]" in capsys.readouterr().out


def test_records_of_a_function():
    def train():
        yield Triple("AtLocation", "AtLocation", "a pillow", ("a bed",))

    tasks = registration.register_records(
        "house", kind="triple", splits={"train": train}, phrase=lambda: "is found in"
    )
    (row,) = examples(tasks[3], "train")
    assert row["inputs_pretokenized"] == b"AtLocation: a pillow is found in <extra_id_0>"
    assert few_shot.normal(row["task"].decode()) == "house_masked_prompting"


# ---- Records ----------------------------------------------------------------------------------


def test_record_sets_have_the_metrics_of_their_task(facts):
    def shouts(targets, predictions):
        return {"shouts": float(all(map(str.isupper, predictions)))}

    register_facts(facts, name="plain")
    register_facts(facts, name="own", metric_fns=(shouts, text.exact_match), metric="exact_match")
    plain, own = record_sets.read([Wanted("plain", "train", 3), Wanted("own", "test", 2)])
    assert plain.metrics == BY_KIND["triple"]
    assert own.metrics == ((shouts, text.exact_match), "exact_match")
    assert len({record.head for record in plain.records}) == 3
    with pytest.raises(
        UserError, match="already a data set 'own' with other data, words or metrics"
    ):
        register_facts(facts, name="own")


def test_a_changed_file_is_read_again(facts):
    register_facts(facts)
    assert len(registration.DATA_SETS["kitchen"].records_of("train")) > 1
    facts.write_text("tool\tuse\n" + "".join(f"rope {i}\tclimbing\n" for i in range(40)))
    os.utime(facts, (0, 0))
    heads = {record.head for record in registration.DATA_SETS["kitchen"].records_of("train")}
    assert all(head.startswith("rope") for head in heads)


def test_a_registered_template_is_a_task_of_every_data_set(facts, monkeypatch):
    monkeypatch.setattr(templates, "TEMPLATES", dict(templates.TEMPLATES))

    def instruction(record, template, wording):
        body = (
            templates.Words(f"What {wording.phrase} a tool?"),
            templates.Words(record.head, True),
        )
        return templates.Frame(body, (templates.Words(record.tails[0], True),))

    asked = templates.Template(
        "MaskedAsked", masked=True, verbalised=True, kinds=("triple",), frame=instruction
    )
    templates.register_template(asked)
    tasks = register_facts(facts)
    assert "kitchen_masked_asked" in tasks
    first = examples("kitchen_masked_asked", "validation")[0]
    head = texts([first["inputs_pretokenized"]])[0]
    assert re.fullmatch(r"kitchen: What is used for a tool\? tool \d+ <extra_id_0>", head)
    assert texts([first["targets_pretokenized"]])[0].startswith("<extra_id_0> cutting")
    assert asked.objective == "denoising"

    with pytest.raises(UserError, match="already: rename 'Masked_asked'"):
        templates.register_template(dataclasses.replace(asked, name="Masked_asked"))
    for field, message in (
        ({"soft": "befor"}, "Did you mean 'before'"),
        ({"kinds": ("tripel",)}, "Did you mean 'triple'"),
        ({"slots": 3}, "expected 1 or 2"),
    ):
        with pytest.raises(UserError, match=message):
            templates.register_template(dataclasses.replace(asked, name="Other", **field))
