# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which objective and template each task wants from a model: all scores, and what they decide.

The probe tries every pair of objective and template; the other scores say in which form the model
knows the task. What is in the output folder already is not computed again.
"""

import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import gin

from mto_jax import checks, peers, remote, sources
from mto_jax.adaptation import classifier as classifiers
from mto_jax.adaptation.held_out import Heads
from mto_jax.adaptation.make import PairConfig
from mto_jax.console import progress_bar
from mto_jax.decoding.model import Model
from mto_jax.errors import UserError, unknown
from mto_jax.evaluation.task_metrics import metric_names
from mto_jax.files import Store, digest
from mto_jax.matching import adapted, depth_rank, probe, teacher_forcing
from mto_jax.matching.decide import decide
from mto_jax.matching.expert import expert
from mto_jax.matching.length_rule import length_rule
from mto_jax.matching.likelihood import likelihood
from mto_jax.matching.matching import Matching
from mto_jax.matching.unlabelled import cut_at, unlabelled
from mto_jax.matching.verdict import Verdict, vote
from mto_jax.models.encoder_decoder import EncoderDecoder
from mto_jax.text2text import mapping, records, templates
from mto_jax.text2text.mapping import Choice
from mto_jax.text2text.record_sets import Wanted, read
from mto_jax.text2text.task import Task, candidates, minimal_pair, tokenise
from mto_jax.training.finetune import Tuning, complete

SCORES = ("expert", "length_rule", "unlabelled", "ranks", "classifier", "probe")
MOST_SENTENCES = 300  # of a task, that "unlabelled" reads


@gin.configurable
def match(
    *,
    tasks: Sequence[checks.Name],
    initial_checkpoint_path: checks.Place | Model,
    output_dir: checks.Place | None,
    task_feature_lengths: Mapping[str, checks.Count],
    module: str | None = None,
    scores: Sequence[str] = SCORES,
    heads: checks.Count | None = 100,
    references: checks.Count | None = 3,
    examples: Sequence[checks.Natural] = (0, 5),
    examples_tuning: Tuning | None = None,
    objectives: Sequence[str] = ("none",),
    shots: checks.Natural = 30,
    seeds: checks.Count = 3,
    probe_tuning: Tuning | None = None,
    metric: str | None = None,
    pairs: PairConfig | None = None,
    adaptation_tuning: Tuning | None = None,
    classifier_groups: Mapping[str, str] | None = None,
    classifier_tests: Mapping[str, str] | None = None,
    classifier_pairs: checks.Count = 500,
    classifier_tuning: Tuning | None = None,
    decide_by: Sequence[str] = ("probe", "ranked probe", "expert", "MI(5)"),
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
      heads: held-out heads of each task, from its validation split; None for all.
      references: most references of each; None for all.
      examples: the numbers of training examples at which "ranks" are taken.
      examples_tuning: how the model is trained on them; None means `Tuning()`, as gin binds it.
      objectives: what the probe adapts the model under before it tries templates; "none" leaves it
        as it is.
      shots: heads that the probe trains on, with up to three tails each: as many as you will have;
        0 compares what the models answer without training.
      seeds: how often the probe is repeated, on other heads (once where it trains on none).
      probe_tuning: how the probe trains.
      metric: name of the value that the probe compares, such as "rougeL"; None is the one that
        decides of each task's own metrics, such as "matthews" of CoLA.
      pairs: raw text, its `corpus`, and how the sentences become pairs on which the model is
        adapted; sentences about heads of the tasks' validation and test splits are left out.
        "unlabelled" reads those sentences that hold a task's phrase. None or without a corpus: no
        adaptation, and "unlabelled" judges nothing.
      adaptation_tuning: how the model is adapted.
      classifier_groups: {task: "Filling" or "Mapping"}, what the classifier is trained on. A task
        that is to be matched is judged by a classifier that has not seen it.
      classifier_tests: the same, of tasks on which it is tested.
      classifier_pairs: most pairs of each of these tasks.
      classifier_tuning: how the classifier is trained.
      decide_by: names of scores as the table has them, the most trusted first.

    Raises:
      UserError: no tasks, an unknown task, score or objective, no model there, a classifier without
        groups, objectives without a corpus.
    """
    checks.check(match, locals())
    if not tasks:
        raise UserError(
            "match.tasks is empty: name the data sets to match, TASKS=['atomic_xIntent']."
        )
    for name in scores:
        if name not in SCORES:
            raise unknown("score (match.scores) called", name, SCORES)
    if pairs is not None and pairs.corpus is not None:
        pairs = dataclasses.replace(pairs, held_out=[*pairs.held_out, *tasks], module=module)
    else:
        pairs = None
    if "probe" in scores:
        _check_objectives(objectives, pairs is not None)
    path = None if isinstance(initial_checkpoint_path, Model) else initial_checkpoint_path
    model = Model.open(path, "newest") if path is not None else initial_checkpoint_path
    vocabulary = model.vocabulary
    groups = _check_groups(classifier_groups) if "classifier" in scores else {}
    tests = _check_groups(classifier_tests) if groups and classifier_tests else {}
    seeds = seeds if shots else 1
    wanted = [Wanted(task, "train", max(shots * seeds, *examples, 1)) for task in tasks]
    wanted += [Wanted(task, "validation", heads, references) for task in tasks]
    wanted += [Wanted(task, "train", classifier_pairs, 1) for task in groups]
    wanted += [Wanted(task, "validation", heads, references) for task in tests]
    sets, count = read(wanted, module), len(tasks)
    train, held_out = sets[:count], sets[count : 2 * count]
    grouped, tested = sets[2 * count :][: len(groups)], sets[2 * count + len(groups) :]
    todo = [Task.of(*both) for both in zip(train, held_out, strict=True)]
    for task in todo:
        _check_rivals(task, objectives if "probe" in scores else ())
    with_rivals = [task for task in todo if len(candidates(task)) > 1]
    if "probe" in scores:
        for task in todo:
            probe.check_metric(task, candidates(task)[0], metric)
    network = model.network
    lengths = dict(task_feature_lengths)
    tune_few, tune_probe, tune_classifier, tune_adapted = (
        complete(tuning or Tuning())
        for tuning in (examples_tuning, probe_tuning, classifier_tuning, adaptation_tuning)
    )
    threshold = depth_rank.threshold(model.config)

    def ranks(shots: int, task: Task) -> list[Verdict]:
        measured = []
        for template in minimal_pair(task):
            few = tokenise(template, task.shots(shots, 1), task, vocabulary, lengths)
            tuned = tune_few(network, few) if shots else network
            measured.append(teacher_forcing.sentences(tuned, task, template, vocabulary, lengths))
        plain, masked = measured
        return [
            depth_rank.maskability(task.name, shots, plain, masked, threshold),
            depth_rank.normalised(task.name, shots, plain, masked),
            likelihood(task.name, shots, plain, masked),
        ]

    @functools.cache
    def sentences() -> list[str]:
        kept_out = Heads(record.head for task in todo for record in task.held_out)
        return adapted.sentences(pairs, kept_out) if pairs is not None else []

    def from_text(task: Task) -> list[Verdict]:
        cuts = [cut for text in sentences() if (cut := cut_at(text, task.wording.phrase))]
        cuts = [cut for cut in cuts if len(cut[0].split()) > 1][:MOST_SENTENCES]
        return [unlabelled(task.name, network, cuts, vocabulary)] if cuts else []

    def by_expert(task: Task) -> list[Verdict]:
        return [verdict] if (verdict := expert(task.name)) else []

    def by_length(task: Task) -> list[Verdict]:
        questions = [r for r in task.held_out if isinstance(r, records.MultipleChoice)]
        return [length_rule(task.name, questions)] if questions else []

    folds = _folds(tasks, groups)

    @functools.cache
    def classifier(fold: int):
        facts: dict[str, list[classifiers.Pair]] = {
            classifiers.FILLING: [],
            classifiers.MAPPING: [],
        }
        for members in grouped:
            if folds.get(members.task) != fold:
                facts[groups[members.task]] += classifiers.pairs(members.records)
        for group, members in facts.items():
            if not members:
                raise UserError(
                    f"The classifier has no {group} task left to learn from: "
                    "match.classifier_groups needs a task of each group that is not being matched, "
                    "or two."
                )
        return classifiers.train_classifier(
            network, facts, vocabulary, tune_classifier, limit=lengths["inputs"]
        )

    def by_classifier(task: Task) -> list[Verdict]:
        facts = classifiers.pairs(task.held_out)
        trained = classifier(folds.get(task.name, 0))
        margins = classifiers.margins(trained, facts, vocabulary, limit=lengths["inputs"])
        return [vote(task.name, margins)]

    folder = remote.local(output_dir) if output_dir else None
    models = adapted.AdaptedModels(
        model, path, pairs, tune_adapted, lengths, folder and folder / "adaptation"
    )

    @functools.lru_cache(maxsize=1)
    def start(objective: str) -> EncoderDecoder:
        return models(objective)

    def ask(pair: Choice, task: Task, seed: int) -> probe.Answers:
        template, options = templates.TEMPLATES[pair.template], {"shots": shots, "seed": seed}
        origin = start(pair.objective)
        return probe.ask(origin, task, template, vocabulary, lengths, tune_probe, **options)

    text = digest(sentences())
    taught = [list(map(records.to_json, members.records)) for members in grouped]
    # For each method the settings that its result depends on, beside model and records.
    methods: dict[str, dict[str, tuple[Any, Callable[[Task], list[Verdict]]]]] = {
        "expert": {"expert": (None, by_expert)},
        "length_rule": {"length_rule": (None, by_length)},
        "unlabelled": {"unlabelled": (text, from_text)},
        "ranks": {
            f"ranks({n})": ((n, tune_few, lengths, threshold), functools.partial(ranks, n))
            for n in examples
        },
        "classifier": {
            "classifier": ((groups, folds, taught, tune_classifier, lengths), by_classifier)
        },
    }
    chosen = [(n, *s) for score in scores for n, s in methods.get(score, {}).items()]
    kept = _Kept(
        Store(folder / "scores") if folder else None,
        [model.digest, model.config.dtype, vocabulary.digest, _source_digest()],
    )
    cells = [
        (Choice(objective, template.name), task, seed)
        for objective in objectives
        for task in todo
        for template in candidates(task)
        for seed in range(seeds)
        if "probe" in scores
    ]

    def answer(pair: Choice, task: Task, seed: int) -> probe.Answers:
        sentences_of = (pairs, tune_adapted, text) if pair.objective != "none" else None
        return kept.get(
            task,
            "-".join((*pair, str(seed))),
            (pair, seed, shots, tune_probe, lengths, sentences_of),
            functools.partial(ask, pair, task, seed),
        )

    jobs = [
        functools.partial(kept.verdicts, task, *method) for method in chosen for task in with_rivals
    ]
    judged = len(jobs)
    jobs += [
        functools.partial(kept.verdicts, Task.of(members, members), name, *method)
        for name, method in methods["classifier"].items()
        for members in tested
    ]
    scored = len(jobs)
    jobs += [functools.partial(answer, *cell) for cell in cells]
    with progress_bar("match", len(jobs)) as advance:

        def run(part: Sequence[Callable[[], Any]], _) -> list[Any]:
            results = []
            for job in part:
                results.append(job())
                advance(peers.count())
            return results

        done = peers.over(jobs, run)
    verdicts = [verdict for part in done[:judged] for verdict in part]
    of_tests = [verdict for part in done[judged:scored] for verdict in part]
    classified = {
        verdict.task: (known[verdict.task], _share(verdict, known[verdict.task]))
        for part, known in ((verdicts, groups), (of_tests, tests))
        for verdict in part
        if verdict.score == "classifier" and verdict.task in known
    }
    answers: dict[str, dict[Choice, list[probe.Answers]]] = {}
    for (pair, task, _), given in zip(cells, done[scored:], strict=True):
        answers.setdefault(task.name, {}).setdefault(pair, []).append(given)
    probes = {
        task.name: probe.probed(task, answers[task.name], metric)
        for task in todo
        if task.name in answers
    }
    verdicts += [verdict for probed in probes.values() for verdict in probed.verdicts]
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
    notes = []
    if "ranks" in scores and threshold != depth_rank.T5_BASE_THRESHOLD:
        notes.append(
            f"MI is compared with {threshold:g}, where both templates rank the answers alike: the "
            f"published {depth_rank.T5_BASE_THRESHOLD:.2f} was found on T5-base and does not carry "
            "over to this model."
        )
    if "unlabelled" in scores and pairs is None:
        notes.append("'unlabelled' judges nothing: it reads raw text, which CORPUS names.")
    matching = Matching(model.title, verdicts, decisions, probes, classified, notes, folder)
    if folder and peers.index() == 0:
        matching.write(folder)
    return matching


@dataclasses.dataclass(frozen=True)
class _Kept:
    """Results on disk, by all that they depend on; without a store, nothing is kept."""

    store: Store | None
    identity: Sequence[Any]

    def get(self, task: Task, name: str, settings: Any, compute: Callable[[], Any]) -> Any:
        """The result of `compute`, which is JSON."""
        if self.store is None:
            return compute()
        data = digest(list(map(records.to_json, (*task.train, *task.held_out))))
        metrics = [task.metrics.decides, *metric_names(task)]
        parts = [name, repr(settings), task.name, repr(task.wording), metrics, data]
        return self.store.get([*self.identity, *parts], compute, f"{task.name}-{name}")

    def verdicts(
        self, task: Task, name: str, settings: Any, compute: Callable[[Task], list[Verdict]]
    ) -> list[Verdict]:
        if name == "expert":  # its word may change between runs and costs nothing
            return compute(task)
        fields = self.get(task, name, settings, lambda: [*map(dataclasses.asdict, compute(task))])
        return [Verdict(**verdict) for verdict in fields]


def _share(verdict: Verdict, group: str) -> float:
    """The share of pairs that were put into this group, of a classifier's verdict."""
    assert verdict.value is not None
    return (1 + verdict.value) / 2 if group == classifiers.FILLING else (1 - verdict.value) / 2


def _check_objectives(objectives: Sequence[str], corpus: bool) -> None:
    """Raises a `UserError` for objectives that there are not, or without text to adapt on."""
    if isinstance(objectives, str) or not objectives:
        raise UserError(
            f"match.objectives = {objectives!r}: give a list of one or more of "
            f"{', '.join(mapping.objectives())}."
        )
    for objective in objectives:
        if objective not in mapping.objectives():
            raise unknown("objective (match.objectives)", str(objective), mapping.objectives())
        if objective != probe.NO_ADAPTATION and not corpus:
            raise UserError(
                f"The objective {objective!r} (match.objectives) needs raw text to adapt the model "
                "on: name it, CORPUS=sentences.txt (match.pairs), or leave out adaptation with "
                "OBJECTIVES=['none']."
            )


def _check_rivals(task: Task, objectives: Collection[str]) -> None:
    """Raises a `UserError` for a task with one template and nothing else to compare."""
    if len(candidates(task)) == 1 and not {*objectives} > {probe.NO_ADAPTATION}:
        raise UserError(
            f"The SeqIO task {task.name!r} has no records to apply templates to, so only "
            "objectives can be compared on it, by the probe: keep 'probe' in match.scores, and "
            "give OBJECTIVES=['none', 'lm'] or others beside 'none', and a CORPUS."
        )


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


def _source_digest() -> str:
    """Returns the digest of the code that the scores depend on."""
    packages = ("matching", "adaptation", "evaluation", "metrics", "decoding", "models")
    within = [f"mto_jax.{name}" for name in packages]
    return digest(sources.definitions(["mto_jax.matching.match"], within))
