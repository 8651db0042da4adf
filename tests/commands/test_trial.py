# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The verb `mto try`: what can be typed, what is shown, and how it ends."""

import io
import subprocess
import sys

import gin
import numpy as np
import pytest

from mto_jax import checkpoints
from mto_jax.commands import trial
from mto_jax.decoding import generation, scoring, search
from mto_jax.decoding.generation import Decoding
from mto_jax.errors import UserError
from mto_jax.evaluation.evaluator import answer
from mto_jax.text2text import queries, records, templates, tokenising
from mto_jax.text2text.templates import TEMPLATES, Wording
from mto_jax.text2text.vocabulary import vocabulary as load_vocabulary
from tests.decoding import tiny

HOW = Decoding(max_length=5)
QUESTION = records.MultipleChoice(
    "qa", "where?", ("here", "there"), 1, context="A cup.", fact="So."
)
TEXT = records.LabelledText("films", "fine", "good")
SUBJECTS = {
    "triple": trial.Subject(records.Triple("uses", "uses", "cup", ("tea",)), Wording("is for")),
    "multiple_choice": trial.Subject(QUESTION, Wording()),
    "labelled_text": trial.Subject(TEXT, Wording("It was", labels=("bad", "good"))),
    "generation": trial.Subject(
        records.Generation("tell", "a dog", ("A dog.",)), Wording("words: H")
    ),
    "as_registered": trial.Subject(
        records.AsRegistered("plain", "ask: a dog <extra_id_0>", "A dog.", ("A dog.",)), Wording()
    ),
}


@pytest.fixture(scope="module")
def demo():
    return load_vocabulary("demo")


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory, demo):
    folder = tmp_path_factory.mktemp("run")
    tiny.checkpoint(folder, {1: None}, vocabulary=demo, vocab_size=demo.padded_size)
    return folder


@pytest.fixture(scope="module")
def model(run_dir, demo):
    return checkpoints.open(run_dir / "checkpoints" / "1").model(demo)


@pytest.mark.parametrize("kind", SUBJECTS)
def test_every_template_answers_as_when_decoded_alone(kind, model, demo):
    subject = SUBJECTS[kind]
    record = subject.model_record
    answers = trial.answer_all(model, record, subject.wording, HOW, demo)
    plain = [t for t in templates.templates_for(kind, subject.wording) if t.soft == "none"]
    assert [one.template for one in answers] == plain
    for one in answers[:1]:  # the shortest source, which is padded in the batch
        rendered = templates.render(one.template, record, subject.wording)
        assert one.source == rendered.source_text
        inputs = tokenising.tokenise(rendered, demo).inputs
        ((found,),) = generation.decode(model, [inputs], HOW, demo, batch_size=1)
        slots = one.template.slots if one.template.masked else 1
        assert one.predictions == [answer(demo.decode(found.tokens), slots)]
        assert one.log_likelihood == pytest.approx(found.score, rel=1e-5)
        assert (one.ranked is None) == (kind in ("triple", "generation", "as_registered"))


def test_the_likeliest_choice_is_that_of_a_softmax_over_the_choices(model, demo):
    answers = trial.answer_all(model, QUESTION, Wording(), HOW, demo)
    for one in answers[1:2]:
        inputs = tokenising.tokenise(templates.render(one.template, QUESTION), demo).inputs
        choices = templates.candidate_texts(one.template, QUESTION)
        coded = [[*demo.encode(text), demo.eos_id] for text in choices]
        ((sums, _),) = scoring.score_choices(model, [inputs], [coded], demo)
        shares = np.exp(sums) / np.exp(sums).sum()
        assert one.ranked == (
            QUESTION.choices[shares.argmax()],
            pytest.approx(shares.max(), rel=1e-4),
        )


def test_several_outputs_are_all_shown(model, demo):
    how = Decoding(method="sample", max_length=5, num_outputs=3)
    answers = trial.answer_all(model, SUBJECTS["triple"].model_record, Wording("is for"), how, demo)
    assert all(len(one.predictions) == 3 for one in answers)


def test_one_program_for_lines_of_one_bucket(model, demo):
    subject = SUBJECTS["triple"]

    def ask(line):
        trial.answer_all(
            model, queries.of_line(line, subject.model_record), subject.wording, HOW, demo
        )

    search.program.clear_cache()  # of other tests
    ask("a cup")
    before = search.program._cache_size()
    ask("a pot")
    ask("old cups")
    assert search.program._cache_size() == before


@pytest.mark.parametrize(
    "rows, soft",
    [(0, {"none"}), (10, {"none", "first", "before", "after"}), (20, set(templates.SOFT))],
)
def test_templates_with_a_soft_prompt_need_a_model_with_rows_for_it(rows, soft):
    fitting = trial.applicable("triple", Wording("is for"), rows)
    assert {template.soft for template in fitting} == soft


def test_records_are_shown_as_they_would_be_typed():
    lines = {kind: trial.line_of(subject.model_record) for kind, subject in SUBJECTS.items()}
    assert lines == {
        "triple": "cup",
        "multiple_choice": "So. A cup. where? | here | there",
        "labelled_text": "fine",
        "generation": "a dog",
        "as_registered": "ask: a dog <extra_id_0>",
    }
    for kind, line in lines.items():
        again = queries.of_line(line, SUBJECTS[kind].model_record)
        template = TEMPLATES["AsRegistered" if kind == "as_registered" else "Mapping"]
        source = templates.render(template, SUBJECTS[kind].model_record).source_text
        assert templates.render(template, again).source_text == source


def type_in(monkeypatch, text, run_dir, **options):
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    monkeypatch.setattr(trial, "use_compilation_cache", lambda: None)
    monkeypatch.setenv("COLUMNS", "240")  # no cell is broken into lines
    gin.bind_parameter("vocabulary.name", "demo")
    trial.trial(model_dir=str(run_dir), decoding=HOW, **options)


def test_a_pipe_is_answered_up_to_an_empty_line(run_dir, monkeypatch, capsys):
    lines = "PersonX [b]runs[/b]\nrelation xNed\nrelation xNeed\nPersonX sleeps\n\nnot read\n"
    type_in(monkeypatch, lines, run_dir, relation="xIntent")
    printed = capsys.readouterr().out
    words = " ".join(printed.replace("│", " ").split())
    assert "xIntent: PersonX [b]runs[/b]" in words  # typed text is no markup
    assert (
        "error: There is no postfix phrase for the relation 'xNed'. Did you mean 'xNeed'?" in words
    )
    assert "In call to configurable" not in printed
    assert "xNeed: PersonX sleeps before that they need <extra_id_0>" in words
    assert "not read" not in printed
    assert words.count("MaskedPrompting") == 2


def test_help_tells_what_to_type_and_gives_examples(run_dir, monkeypatch, capsys):
    subject = trial.Subject(QUESTION, Wording(), ("who? | me | you",))
    monkeypatch.setattr(trial, "of_task", lambda task, module: subject)
    type_in(monkeypatch, "help\nwho?\nwho? | me | you", run_dir, task="qa")
    printed = capsys.readouterr().out
    assert "question | choice | choice ..." in printed
    assert "for example     who? | me | you" in printed
    assert "error: A line of the kind 'multiple_choice' is" in printed
    assert "likeliest of" in printed


def test_control_c_ends_without_an_error(run_dir, monkeypatch, capsys):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(trial, "answer_all", interrupted)
    type_in(monkeypatch, "PersonX runs\nPersonX eats\n", run_dir, relation="xIntent")
    assert capsys.readouterr().out == "\n"


@pytest.mark.parametrize(
    "options, message",
    [
        ({}, "Give either a relation"),
        ({"relation": "xIntent", "task": "qa"}, "Give either a relation"),
        ({"relation": "xIntend"}, "Did you mean 'xIntent'"),
        ({"relation": "xIntent", "checkpoint": "all"}, "must be one"),
        ({"relation": "xIntent", "checkpoint": 7}, "of step '7'"),
    ],
)
def test_errors_before_any_line_is_read(options, message, run_dir, monkeypatch):
    with pytest.raises(UserError, match=message):
        type_in(monkeypatch, "PersonX runs\n", run_dir, **options)


def test_whole_command_without_tensorflow(run_dir):
    program = f"""
import sys
from mto_jax import cli
cli.main(["try", "--gin_file=runs/try.gin", "--gin.VOCABULARY=demo", "--relation=xWant",
    "--gin.MODEL_DIR={run_dir}", "--gin.Decoding.max_length=4"])
assert "tensorflow" not in sys.modules and "seqio" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", program], input="PersonX runs\n", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "MaskedPrompting" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_registered_task_gives_its_kind_words_and_examples():
    gin.bind_parameter("vocabulary.name", "demo")
    subject = trial.of_task("demo_xIntent")
    assert subject.kind == "triple"
    assert subject.wording.phrase == "because they intended"
    assert len(subject.examples) == 3
    assert all(line.startswith("PersonX") for line in subject.examples)
