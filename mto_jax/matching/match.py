# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which objective and template each task wants from a model: all scores, and what they decide.

Scores that are in the output folder already are not computed again.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gin
import rich.table

from mto_jax import sources
from mto_jax.adaptation import classifier as classifiers
from mto_jax.console import markdown_table, progress_bar
from mto_jax.decoding.model import Model
from mto_jax.errors import UserError, unknown
from mto_jax.evaluation.evaluator import metric_names
from mto_jax.files import Store, digest, file_digest, write_atomically
from mto_jax.frames import frame
from mto_jax.matching import outputs, teacher_forcing
from mto_jax.matching.agreement import Agreement, agreements
from mto_jax.matching.decide import Decision, decide
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
from mto_jax.text2text.task import Task, minimal_pair, tokenise
from mto_jax.training.finetune import Tuning, complete

SCORES = ("expert", "length_rule", "unlabelled", "ranks", "classifier", "probe")


@dataclasses.dataclass(frozen=True)
class Matching:
    """The verdicts on some tasks, and what they decide.

    Attributes:
      model: its name for a person.
      verdicts: of all scores on all tasks.
      decisions: objective and template of each task, and the verdict that decided.
      folder: where all this is written; None for nowhere.
    """

    model: str
    verdicts: list[Verdict]
    decisions: dict[str, Decision]
    folder: pathlib.Path | None = None

    @property
    def templates(self) -> dict[str, str]:
        """The name of the template of each task."""
        return {task: decision.choice.template for task, decision in self.decisions.items()}

    @functools.cached_property
    def agreements(self) -> list[Agreement]:
        """How far each score agrees with the probe; none without a probe."""
        return agreements(self.verdicts) if any(v.score == "probe" for v in self.verdicts) else []

    def to_pandas(self) -> Any:
        """Returns a `pandas.DataFrame`: a row a verdict."""
        return frame(map(dataclasses.asdict, self.verdicts))

    def tables(self) -> list[rich.table.Table]:
        """Returns the verdicts, and the agreements if there are any, as tables for the terminal."""
        rows = outputs.verdict_rows(self.verdicts, self.decisions)
        shown = [outputs.table("fill: Mask-Filling, map: Map-Phrasal, ?: no clear winner", rows)]
        if self.agreements:
            rows = outputs.agreement_rows(self.agreements)
            shown.append(outputs.table("agreement with the probe", rows))
        return shown

    def write(self, folder: pathlib.Path) -> None:
        """Write table.md, figure.png, mapping.gin and match.json into a folder."""
        text = markdown_table(outputs.verdict_rows(self.verdicts, self.decisions))
        if self.agreements:
            rows = outputs.agreement_rows(self.agreements)
            text += "\nAgreement with the probe:\n\n" + markdown_table(rows)
        write_atomically(folder / "table.md", text)
        outputs.figure(self.verdicts).savefig(folder / "figure.png", dpi=150)
        write_atomically(folder / "mapping.gin", outputs.mapping_gin(self.decisions, self.model))
        decisions = self.decisions.items()
        content = {
            "model": self.model,
            "verdicts": [dataclasses.asdict(verdict) for verdict in self.verdicts],
            "mapping": {task: list(decision.choice) for task, decision in decisions},
            "decided_by": {task: decision.by.score for task, decision in decisions},
            "agreement": [dataclasses.asdict(agreement) for agreement in self.agreements],
        }
        write_atomically(folder / "match.json", json.dumps(content, indent=1) + "\n")


@gin.configurable
def match(
    *,
    tasks: Sequence[str],
    initial_checkpoint_path: str | Model,
    output_dir: str | None,
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
) -> Matching:
    """Score the tasks, decide, and write what is found to `output_dir`.

    Args:
      tasks: names of data sets without a template, e.g. ["atomic_xIntent", "commonsenseqa"].
      initial_checkpoint_path: the model: a run directory, a step folder, or any other checkpoint
        (`checkpoints.open`); or a model in memory.
      output_dir: receives a table (table.md), its figure (figure.png), everything as JSON
        (match.json) and the mapping (mapping.gin). None writes nothing.
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
    model = initial_checkpoint_path
    if not isinstance(model, Model):
        model = Model.open(model, "newest")
    vocabulary = model.vocabulary
    groups = _check_groups(classifier_groups) if "classifier" in scores else {}
    wanted = [Wanted(task, "train", max(shots * seeds, *examples, 1)) for task in tasks]
    wanted += [Wanted(task, "validation", heads, references) for task in tasks]
    wanted += [Wanted(task, "train", classifier_pairs, 1) for task in groups]
    sets, count = read(wanted, module), len(tasks)
    train, held_out, grouped = sets[:count], sets[count : 2 * count], sets[2 * count :]
    todo = [Task.of(*both) for both in zip(train, held_out, strict=True)]
    network = model.network
    lengths = dict(task_feature_lengths)
    tune_few, tune_probe, tune_classifier = (
        complete(tuning or Tuning())
        for tuning in (examples_tuning, probe_tuning, classifier_tuning)
    )

    def ranks(shots: int, task: Task) -> list[Verdict]:
        measured = []
        for template in minimal_pair(task):
            few = tokenise(template, task.shots(shots, 1), task, vocabulary, lengths)
            tuned = tune_few(network, few) if shots else network
            measured.append(teacher_forcing.sentences(tuned, task, template, vocabulary, lengths))
        return [
            score(task.name, shots, *measured) for score in (maskability, normalised, likelihood)
        ]

    def from_text(task: Task) -> list[Verdict]:
        cuts = [cut for cut in _cuts(task, sentences_file) if len(cut[0].split()) > 1]
        return [unlabelled(task.name, network, cuts, vocabulary)] if cuts else []

    def by_expert(task: Task) -> list[Verdict]:
        return [verdict] if (verdict := expert(task.name)) else []

    def by_length(task: Task) -> list[Verdict]:
        questions = [r for r in task.held_out if isinstance(r, records.MultipleChoice)]
        return [length_rule(task.name, questions)] if questions else []

    folds = _folds(tasks, groups)

    @functools.cache
    def classifier(fold: int):
        pairs: dict[str, list[classifiers.Pair]] = {
            classifiers.FILLING: [],
            classifiers.MAPPING: [],
        }
        for members in grouped:
            if folds.get(members.task) != fold:
                pairs[groups[members.task]] += classifiers.pairs(members.records)
        for group, members in pairs.items():
            if not members:
                raise UserError(
                    f"The classifier has no {group} task left to learn from: "
                    "match.classifier_groups needs a task of each group that is not being matched, "
                    "or two."
                )
        return classifiers.train_classifier(
            network, pairs, vocabulary, tune_classifier, limit=lengths["inputs"]
        )

    def by_classifier(task: Task) -> list[Verdict]:
        pairs = classifiers.pairs(task.held_out)
        trained = classifier(folds.get(task.name, 0))
        margins = classifiers.margins(trained, pairs, vocabulary, limit=lengths["inputs"])
        return [vote(task.name, margins)]

    def by_probe(task: Task) -> list[Verdict]:
        options = {"shots": shots, "seeds": seeds, "metric": metric}
        return [probe(network, task, vocabulary, lengths, tune_probe, **options)]

    text = sentences_file and file_digest(sentences_file)
    taught = [list(map(records.to_json, members.records)) for members in grouped]
    # For each method the settings that its result depends on, beside model and records.
    methods: dict[str, dict[str, tuple[Any, Callable[[Task], list[Verdict]]]]] = {
        "expert": {"expert": (None, by_expert)},
        "length_rule": {"length_rule": (None, by_length)},
        "unlabelled": {"unlabelled": (text, from_text)},
        "ranks": {
            f"ranks({n})": ((n, tune_few, lengths), functools.partial(ranks, n)) for n in examples
        },
        "classifier": {
            "classifier": ((groups, folds, taught, tune_classifier, lengths), by_classifier)
        },
        "probe": {"probe": ((shots, seeds, tune_probe, lengths, metric), by_probe)},
    }
    chosen = [(n, *s) for score in scores for n, s in methods[score].items()]
    identity = [model.digest, model.config.dtype, vocabulary.digest, _source_digest()]
    folder = pathlib.Path(output_dir) if output_dir else None
    store = Store(folder / "scores") if folder else None
    data = {
        task.name: digest(list(map(records.to_json, (*task.train, *task.held_out))))
        for task in todo
    }
    verdicts: list[Verdict] = []
    with progress_bar("match", len(chosen) * len(todo)) as advance:
        for name, settings, compute in chosen:
            for task in todo:
                # The expert's word may change between runs and costs nothing.
                if store is None or name == "expert":
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
        task.name: decide(task, of_task, decide_by)
        for task in todo
        if (of_task := [verdict for verdict in verdicts if verdict.task == task.name])
    }
    if not decisions:
        raise UserError(
            f"No score of match.scores ({', '.join(scores)}) judges any of the tasks: add 'ranks' "
            "or 'probe'."
        )
    matching = Matching(model.title, verdicts, decisions, folder)
    if folder:
        matching.write(folder)
    return matching


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
    """Returns the digest of the code that the scores depend on."""
    rooms = ("matching", "evaluation", "metrics", "decoding", "models")
    return digest(sources.definitions(["mto_jax.matching.match"], [f"mto_jax.{r}" for r in rooms]))
