# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""When along pre-training to adapt: every checkpoint of a run, as it is and tuned, what it is good
at and what tuning makes it forget. After Sun and Dredze, arXiv 2408.06663."""

from collections.abc import Mapping, Sequence
from typing import Any

import gin
import numpy as np

from mto_jax import checks, remote
from mto_jax.checkpoints import runs
from mto_jax.data.dataset import DatasetConfig
from mto_jax.errors import UserError
from mto_jax.experiments.course import Course
from mto_jax.experiments.course_figures import CourseFigure, ReplayFigure
from mto_jax.experiments.run import run_grid
from mto_jax.experiments.runner import few_shot
from mto_jax.files import only_writer, write_json
from mto_jax.training.finetune import Tuning


@gin.configurable
def trajectory(
    *,
    tasks: Sequence[checks.Name],
    templates: Sequence[checks.Name],
    output_dir: checks.Place,
    task_feature_lengths: Mapping[str, checks.Count],
    run: checks.Place | None = None,
    steps: str | Sequence[checks.Count] = "all",
    checkpoints: Mapping[str, checks.Place] | None = None,
    asked: Sequence[checks.Name] = (),
    recall: bool = False,
    losses: Sequence[checks.Name] = (),
    shots: Sequence[checks.Count | None] = (4, 30),
    seeds: Sequence[checks.Seed] = (0, 1, 2),
    replay: DatasetConfig | None = None,
    replay_shares: Sequence[checks.Share] = (0.0,),
    tuning: Tuning | None = None,
    tails: checks.Count = 3,
    test_heads: checks.Count | None = 100,
    references: checks.Count = 3,
    test_split: str = "test",
    module: str | None = None,
    retry_failed: bool = False,
) -> dict[str, Any]:
    """Compute what is missing, write tables, figures and a page; returns trajectory.json's content.

    A grid of checkpoint x template x task x shots, with the axes "asked" and "replay": its store,
    so the same command resumes where it was interrupted, and several processes may share it.

    Args:
      tasks: names of data sets without a template, to tune on and to be asked about.
      templates: applied to their records.
      output_dir: where everything is written.
      task_feature_lengths: most tokens of inputs and targets.
      run: a run directory with kept steps (`train.keep_steps`).
      steps: of the run: "all", a list, or "log:8", those nearest to eight steps evenly by
        logarithm.
      checkpoints: {name: path} of any kind, in order, in place of `run`.
      asked: more tasks that tuned models are asked about, on which none is tuned.
      recall: whether all models are asked for the facts of all tasks, as sentences of a text.
      losses: SeqIO tasks, such as those of the pre-training, of which all models' loss is taken.
      shots: heads to tune on; None takes all.
      seeds: of the heads that are drawn, and of their order.
      replay: what the run was pre-trained with, for `replay_shares`.
      replay_shares: of the rows of tuning at the last checkpoint and the most shots.
      tuning: None means `Tuning()`, as gin binds it.
      tails, test_heads, references, test_split, module: as `FewShot` has them.
      retry_failed: compute failed cells again.

    Raises:
      UserError: fewer than two checkpoints, something unknown, checkpoints of different
        vocabularies; or, after the tables are written, cells that failed.
    """
    checks.check(trajectory, locals())
    folder = remote.local(output_dir)
    models = _models(run, steps, checkpoints)
    shares = [share or None for share in replay_shares]
    everything = [*dict.fromkeys((*tasks, *asked))]
    measures = [f"recall:{task}" for task in everything if recall]
    measures += [f"loss:{name}" for name in losses]
    course = Course(
        [*models],
        [*tasks],
        everything,
        [*templates],
        [*shots],
        [*dict.fromkeys([None, *shares])],
        measures,
    )
    runner = few_shot(locals(), stages_dir=folder / "stages")
    several = ", so their scores are not averaged or compared. Give each its own command."
    grid = course.grid(seeds, runner.tasks.metric(everything, several))
    with only_writer(folder, make_folder=True):
        results = run_grid(
            grid=grid,
            runner=runner,
            output_dir=folder,
            tables=course.tables(),
            figures=[CourseFigure(course), *([ReplayFigure(course)] if course.replays else [])],
            retry_failed=retry_failed,
        )
        summary = course.summary(results, grid.metric)
        write_json(folder / "trajectory.json", summary)
    for task, judged in summary["tasks"].items():
        print(f"{task}: {judged['class']} ({judged['why']})")
    for line in summary["forgetting"]["text"]:
        print(line)
    return summary


def _models(
    run: Any, steps: str | Sequence[int], checkpoints: Mapping[str, Any] | None
) -> dict[str, str]:
    """{name: path} of the checkpoints, in order."""
    if (run is None) == (checkpoints is None):
        raise UserError("Give trajectory.run or trajectory.checkpoints, and not both.")
    if checkpoints is not None:
        models = {name: str(path) for name, path in checkpoints.items()}
    else:
        there = {int(path.name): str(path) for path in runs.steps(remote.local(run))}
        wanted = there if steps == "all" else steps
        if isinstance(wanted, str):
            even = runs.kept_steps(wanted, max(there, default=1), "trajectory.steps")
            wanted = [
                min(there, key=lambda s: abs(np.log(s / step)), default=step) for step in even
            ]
        for step in wanted:
            if step not in there:
                raise UserError(
                    f"{run} has no checkpoint of step {step} (trajectory.steps). It has those of "
                    f"{', '.join(map(str, there)) or 'no step'}."
                )
        models = {f"step {step}": there[step] for step in dict.fromkeys(wanted)}
    if len(models) < 2:
        raise UserError(
            f"A trajectory needs two checkpoints at least, and {run or 'checkpoints'} gives "
            f'{len(models)}. Train with train.keep_steps = "log:12", which keeps twelve.'
        )
    return models
