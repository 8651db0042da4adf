# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Find the pre-training objective, and with it the template, that each task wants from a model.

    mto match --gin_file=runs/match.gin --gin.TASKS="['atomic_xIntent', 'atomic_xAttr']" \\
      --gin.INITIAL_CHECKPOINT_PATH=runs/base --gin.OUTPUT_DIR=runs/match

Prints a table of scores by task and writes it (table.md), its figure (figure.png), everything as
JSON (match.json) and the mapping (mapping.gin), which every other verb takes with --gin_file.
Scores that are there already are not computed again.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gin

from mto_jax import checkpoints, sources
from mto_jax.adaptation import classifier as classifiers
from mto_jax.console import progress_bar, wide
from mto_jax.errors import UserError, unknown
from mto_jax.evaluation.evaluator import metric_names
from mto_jax.files import Store, digest, file_digest, write_atomically
from mto_jax.matching import report, teacher_forcing
from mto_jax.matching.agreement import agreements
from mto_jax.matching.decide import decide
from mto_jax.matching.depth_rank import maskability, normalised
from mto_jax.matching.expert import expert
from mto_jax.matching.length_rule import length_rule
from mto_jax.matching.likelihood import likelihood
from mto_jax.matching.probe import probe
from mto_jax.matching.unlabelled import cut_at, unlabelled
from mto_jax.matching.verdict import Verdict, vote
from mto_jax.text2text import records, templates
from mto_jax.text2text.readers import lines
from mto_jax.text2text.record_sets import Wanted, read
from mto_jax.text2text.task import Task, rivals, tokenise
from mto_jax.training.finetune import Tuning, complete
from mto_jax.training.performance import use_compilation_cache

SCORES = ("expert", "length_rule", "unlabelled", "ranks", "classifier", "probe")


@gin.configurable
def match(
    *,
    tasks: Sequence[str],
    initial_checkpoint_path: str,
    output_dir: str,
    task_feature_lengths: Mapping[str, int],
    module: str | None = None,
    scores: Sequence[str] = SCORES,
    heads: int = 100,
    references: int = 3,
    examples: Sequence[int] = (0, 5),
    examples_tuning: Tuning | None = None,
    shots: int = 30,
    seeds: int = 1,
    probe_tuning: Tuning | None = None,
    metric: str | None = None,
    classifier_groups: Mapping[str, str] | None = None,
    classifier_pairs: int = 500,
    classifier_tuning: Tuning | None = None,
    sentences_file: str | None = None,
    decide_by: Sequence[str] = ("probe", "expert", "MI(5)"),
) -> list[Verdict]:
    """Score the tasks, decide, write the mapping; returns all verdicts.

    Args:
      tasks: names of data sets without a template, e.g. ["atomic_xIntent", "commonsenseqa"].
      initial_checkpoint_path: the model: a run directory, a step folder, or any other checkpoint
        (`checkpoints.open`).
      output_dir: where everything is written.
      task_feature_lengths: most tokens of inputs and targets.
      module: user module(s) that register tasks, comma-separated.
      scores: which of "expert", "length_rule" (questions), "unlabelled", "ranks" (MI, nDR,
        likelihood), "classifier", "probe".
      heads: held-out heads of each task, from its validation split.
      references: most references of each.
      examples: the numbers of training examples at which "ranks" are taken.
      examples_tuning: how the model is trained on them; None means `Tuning()`, as gin binds it.
      shots: heads that the probe trains on, with up to three tails each.
      seeds: how often the probe is repeated, on other heads.
      probe_tuning: how the probe trains.
      metric: name of the value that the probe compares, such as "rougeL"; None is the one that
        decides of each task's own metrics, such as "matthews" of CoLA.
      classifier_groups: {task: "Filling" or "Mapping"}, what the classifier is trained on. A task
        that is to be matched is judged by a classifier that has not seen it.
      classifier_pairs: most pairs of each of these tasks.
      classifier_tuning: how the classifier is trained.
      sentences_file: raw text, a sentence a line, for "unlabelled"; lines that hold a task's phrase
        are the task's. None makes sentences of the training records.
      decide_by: names of scores as the table has them, the most trusted first.

    Raises:
      UserError: no tasks, an unknown task or score, no model there, a classifier without groups.
    """
    if not tasks:
        raise UserError(
            "match.tasks is empty: name the data sets to match, TASKS=['atomic_xIntent']."
        )
    for name in scores:
        if name not in SCORES:
            raise unknown("score (match.scores) called", name, SCORES)
    use_compilation_cache()
    checkpoint = checkpoints.open(initial_checkpoint_path)
    vocabulary = checkpoint.adopt_vocabulary()
    groups = _check_groups(classifier_groups) if "classifier" in scores else {}
    wanted = [Wanted(task, "train", max(shots * seeds, *examples, 1)) for task in tasks]
    wanted += [Wanted(task, "validation", heads, references) for task in tasks]
    wanted += [Wanted(task, "train", classifier_pairs, 1) for task in groups]
    found = read(wanted, module)
    train, held_out, grouped = (
        found[: len(tasks)],
        found[len(tasks) : 2 * len(tasks)],
        found[2 * len(tasks) :],
    )
    todo = [Task.of(*both) for both in zip(train, held_out, strict=True)]
    model = checkpoint.model(vocabulary)
    lengths = dict(task_feature_lengths)
    examples_tuning, probe_tuning, classifier_tuning = (
        complete(one or Tuning()) for one in (examples_tuning, probe_tuning, classifier_tuning)
    )

    def ranks(shots: int, task: Task) -> list[Verdict]:
        measured = []
        for template in rivals(task):
            few = tokenise(template, task.shots(shots, 1), task, vocabulary, lengths)
            tuned = examples_tuning(model, few) if shots else model
            measured.append(teacher_forcing.sentences(tuned, task, template, vocabulary, lengths))
        return [
            score(task.name, shots, *measured) for score in (maskability, normalised, likelihood)
        ]

    def from_text(task: Task) -> list[Verdict]:
        cuts = [cut for cut in _cuts(task, sentences_file) if len(cut[0].split()) > 1]
        return [unlabelled(task.name, model, cuts, vocabulary)] if cuts else []

    def by_expert(task: Task) -> list[Verdict]:
        return [verdict] if (verdict := expert(task.name)) else []

    def by_length(task: Task) -> list[Verdict]:
        question = task.kind == "multiple_choice"
        return [length_rule(task.name, task.held_out)] if question else []

    folds = _folds(tasks, groups)

    @functools.cache
    def classifier(fold: int):
        pairs: dict[str, list[classifiers.Pair]] = {
            classifiers.FILLING: [],
            classifiers.MAPPING: [],
        }
        for one in grouped:
            if folds.get(one.task) != fold:
                pairs[groups[one.task]] += classifiers.pairs(one.records)
        for group, members in pairs.items():
            if not members:
                raise UserError(
                    f"The classifier has no {group} task left to learn from: "
                    "match.classifier_groups needs a task of each group that is not being matched, "
                    "or two."
                )
        return classifiers.train_classifier(
            model, pairs, vocabulary, classifier_tuning, limit=lengths["inputs"]
        )

    def by_classifier(task: Task) -> list[Verdict]:
        pairs = classifiers.pairs(task.held_out)
        trained = classifier(folds.get(task.name, 0))
        found = classifiers.margins(trained, pairs, vocabulary, limit=lengths["inputs"])
        return [vote(task.name, found)]

    def by_probe(task: Task) -> list[Verdict]:
        options = {"shots": shots, "seeds": seeds, "metric": metric}
        return [probe(model, task, vocabulary, lengths, probe_tuning, **options)]

    text = sentences_file and file_digest(sentences_file)
    taught = [list(map(records.to_json, one.records)) for one in grouped]
    # For each method the settings that its result depends on, beside model and records.
    methods: dict[str, dict[str, tuple[Any, Callable[[Task], list[Verdict]]]]] = {
        "expert": {"expert": (None, by_expert)},
        "length_rule": {"length_rule": (None, by_length)},
        "unlabelled": {"unlabelled": (text, from_text)},
        "ranks": {
            f"ranks({n})": ((n, examples_tuning, lengths), functools.partial(ranks, n))
            for n in examples
        },
        "classifier": {
            "classifier": ((groups, folds, taught, classifier_tuning, lengths), by_classifier)
        },
        "probe": {"probe": ((shots, seeds, probe_tuning, lengths, metric), by_probe)},
    }
    chosen = [(n, *s) for score in scores for n, s in methods[score].items()]
    folder = pathlib.Path(output_dir)
    identity = [
        checkpoint.digest,
        checkpoint.config.dtype,
        vocabulary.digest,
        _source_digest(),
    ]
    store = Store(folder / "scores")
    data = {
        task.name: digest(list(map(records.to_json, (*task.train, *task.held_out))))
        for task in todo
    }
    verdicts: list[Verdict] = []
    with progress_bar("match", len(chosen) * len(todo)) as advance:
        for name, settings, compute in chosen:
            for task in todo:
                if name == "expert":  # its word may change between runs and costs nothing
                    verdicts += compute(task)
                else:
                    metrics = [task.metrics.decides, *metric_names(task)]
                    parts = [name, repr(settings), task.name, repr(task.wording), metrics]
                    stored = store.get(
                        [*identity, *parts, data[task.name]],
                        lambda f=compute, task=task: list(map(dataclasses.asdict, f(task))),
                        f"{task.name}-{name}",
                    )
                    verdicts += [Verdict(**fields) for fields in stored]
                advance(1)
    decisions = {
        task.name: decide(task, mine, decide_by)
        for task in todo
        if (mine := [verdict for verdict in verdicts if verdict.task == task.name])
    }
    if not decisions:
        raise UserError(
            f"No score of match.scores ({', '.join(scores)}) judges any of the tasks: add 'ranks' "
            "or 'probe'."
        )
    _write(folder, checkpoint.title, verdicts, decisions)
    return verdicts


def _check_groups(groups: Mapping[str, str] | None) -> Mapping[str, str]:
    if not groups:
        raise UserError(
            "The score 'classifier' learns from tasks of known group: bind match.classifier_groups "
            "= {'atomic_xAttr': 'Filling', ...}, or leave 'classifier' out of match.scores."
        )
    for group in groups.values():
        if group not in (classifiers.FILLING, classifiers.MAPPING):
            raise unknown(
                "group (match.classifier_groups)", group, (classifiers.FILLING, classifiers.MAPPING)
            )
    return groups


def _folds(tasks: Sequence[str], groups: Mapping[str, str]) -> dict[str, int]:
    """Returns which of two classifiers leaves a task out: tasks of a known group take turns."""
    return {
        task: i % 2
        for group in (classifiers.FILLING, classifiers.MAPPING)
        for i, task in enumerate(task for task in tasks if groups.get(task) == group)
    }


def _cuts(task: Task, sentences_file: str | None) -> list[tuple[str, str]]:
    if sentences_file is None:
        pairs = templates.pairs(task.train, task.wording)
        return [cut for cut in pairs if "<extra_id_" not in cut[0]]
    cuts = (cut_at(text, task.wording.phrase) for _, text in lines(sentences_file))
    return [cut for cut in cuts if cut]


def _source_digest() -> str:
    """Of the code of the scores: another definition is another score."""
    rooms = ("matching", "evaluation", "metrics", "decoding", "models", "commands.match")
    return digest(sources.definitions(["mto_jax.commands.match"], [f"mto_jax.{r}" for r in rooms]))


def _write(folder: pathlib.Path, model: str, verdicts: Sequence[Verdict], decisions) -> None:
    rows = report.verdict_rows(verdicts, decisions)
    compared = agreements(verdicts) if any(v.score == "probe" for v in verdicts) else []
    text = report.markdown(rows)
    shown = [report.table("fill: Mask-Filling, map: Map-Phrasal, ?: no clear winner", rows)]
    if compared:
        rows = report.agreement_rows(compared)
        text += "\nAgreement with the probe:\n\n" + report.markdown(rows)
        shown.append(report.table("agreement with the probe", rows))
    write_atomically(folder / "table.md", text)
    report.figure(verdicts).savefig(folder / "figure.png", dpi=150)
    write_atomically(folder / "mapping.gin", report.mapping_gin(decisions, model))
    content = {
        "model": model,
        "verdicts": [dataclasses.asdict(verdict) for verdict in verdicts],
        "mapping": {task: list(decision.choice) for task, decision in decisions.items()},
        "decided_by": {task: decision.by.score for task, decision in decisions.items()},
        "agreement": [dataclasses.asdict(one) for one in compared],
    }
    write_atomically(folder / "match.json", json.dumps(content, indent=1) + "\n")
    console = wide()
    console.print(*shown, sep="\n")
    print(f"mapping, table, figure and JSON are in {folder}")
