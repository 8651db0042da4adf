# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that can be trusted: written in the background by Orbax, verified when read.

A step lives in MODEL_DIR/checkpoints/STEP:

  trainable/, frozen/, optimizer/  arrays (frozen/ only for what is frozen and not in `base`)
  run/metadata                     JSON: the model, step, key, data position, metrics, sums of the
                                   steps not reported yet, array shapes, and `base`: the path and
                                   fingerprints of the model whose frozen parameters are not
                                   stored again
  digest.json                      SHA-256 of all of these

The digest is written before Orbax renames the finished folder to its final name: a step is either
complete with its digest or not there. Orbax itself restores flipped bytes without a word; here a
step that does not verify is reported, set aside, and the newest good one is used.
"""

import contextlib
import dataclasses
import errno
import json
import logging
import math
import os
import pathlib
import shutil
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from mto_jax import files, remote
from mto_jax.errors import UserError
from mto_jax.files import write_digest
from mto_jax.training.state import Parameters, TrainState

# --------------------------------------------------------------------------------- finding steps


def steps(model_dir: str | os.PathLike) -> list[pathlib.Path]:
    """The step folders of a run, oldest first; unfinished ones have other names."""
    folder = pathlib.Path(model_dir) / "checkpoints"
    if not folder.is_dir():
        return []
    return sorted((p for p in folder.iterdir() if p.name.isdigit()), key=lambda p: int(p.name))


def newest_good(model_dir: str | os.PathLike, *, set_aside: bool = False) -> pathlib.Path | None:
    """The newest step that verifies; None if the run has no checkpoint yet.

    Each damaged one that is newer is reported on standard error and, with `set_aside` (for a
    run that continues and will write that step again), moved to MODEL_DIR/damaged.

    Raises:
      UserError: there are checkpoints and all are damaged.
    """
    chosen = -1
    candidates = steps(model_dir)
    if jax.process_index() == 0:
        good = _first_good(reversed(candidates))
        chosen = int(good.name) if good else -1
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        chosen = int(multihost_utils.broadcast_one_to_all(np.int32(chosen)))
    if candidates and chosen < 0:
        raise UserError(
            f"All checkpoints in {pathlib.Path(model_dir) / 'checkpoints'} are damaged "
            f"({', '.join(path.name for path in candidates)}; reasons above). Restore the folder "
            "from a copy, or remove it to start from the beginning."
        )
    newer = [path for path in candidates if int(path.name) > chosen]
    if newer:
        print(f"using the newest good checkpoint instead, step {chosen}", file=sys.stderr)
    if set_aside and jax.process_index() == 0:
        for path in newer:
            aside = pathlib.Path(model_dir) / "damaged" / path.name
            shutil.rmtree(aside, ignore_errors=True)
            aside.parent.mkdir(exist_ok=True)
            path.rename(aside)
            print(f"moved {path} to {aside}", file=sys.stderr)
    return pathlib.Path(model_dir) / "checkpoints" / str(chosen) if candidates else None


def best(model_dir: str | os.PathLike) -> pathlib.Path | None:
    """The step with the best value of the run's `best_metric` that verifies; None without one."""
    scores = {step_dir: _score(step_dir) for step_dir in steps(model_dir)}
    scored = [(score, step_dir) for step_dir, score in scores.items() if score is not None]
    # Of equals the newest, which a clean-up keeps.
    order = sorted(scored, key=lambda pair: (pair[0], int(pair[1].name)), reverse=True)
    return _first_good(step_dir for _, step_dir in order)


def _first_good(step_dirs: Iterable[pathlib.Path]) -> pathlib.Path | None:
    """The first that verifies; damaged ones before it are reported on standard error."""
    for step_dir in step_dirs:
        if (problem := damage(step_dir)) is None:
            return step_dir
        print(f"checkpoint {step_dir} is damaged: {problem}", file=sys.stderr)
    return None


def damage(step_dir: pathlib.Path) -> str | None:
    """`files.damage` of a step, which is fetched first if it lies in an object store."""
    remote.fetch(step_dir)
    return files.damage(step_dir)


def resolve(path: str | os.PathLike, prefer: str = "newest") -> pathlib.Path:
    """The verified step folder that `path` means: a run directory or a step folder.

    `prefer` is "newest" or "best" and chooses among the steps of a run directory.

    Raises:
      UserError: nothing there, or it is damaged.
    """
    folder = pathlib.Path(path)
    if (folder / "run").is_dir():
        problem = damage(folder)
        if problem is not None:
            raise UserError(
                f"The checkpoint {folder} is damaged: {problem}. Name another step of "
                f"{folder.parent}, or the run directory itself, which takes the newest good one."
            )
        return folder
    step_dir = (best(folder) if prefer == "best" else None) or newest_good(folder)
    if step_dir is None:
        what = "is not there"
        if folder.exists():
            what = "holds no checkpoint: neither a folder checkpoints/ with a whole one (a run of "
            what += "this program), nor config.json (Hugging Face), nor the files of one of T5X"
        raise UserError(
            f"{folder} {what}. Give the directory of a run, one step of it, such as "
            "runs/a/checkpoints/1000, or a folder of Hugging Face or T5X."
        )
    return step_dir


def description(step_dir: pathlib.Path) -> dict[str, Any]:
    """The record of a step, all but its arrays (the JSON in run/metadata)."""
    return json.loads((step_dir / "run" / "metadata").read_text())


def _score(step_dir: pathlib.Path) -> float | None:
    """Value of the metric that the run is judged by, greater is better; None if not evaluated."""
    try:
        return description(step_dir)["score"]
    except (OSError, ValueError, KeyError):
        return None  # damaged: found out, and said, when somebody wants to restore it


# -------------------------------------------------------------------------------------- writing


@dataclasses.dataclass
class _NewestAndBest:
    """Orbax preservation policy: the newest `keep`, the best `keep_best` by score, and `steps`."""

    keep: int
    keep_best: int
    steps: Collection[int]
    scores: dict[int, float]

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        del context
        present = [info.step for info in checkpoints]
        scored = sorted((s for s in present if s in self.scores), key=lambda s: self.scores[s])
        kept = {*present[-self.keep :], *(scored[-self.keep_best :] if self.keep_best else ())}
        return [step in kept or step in self.steps for step in present]


def kept_steps(
    given: str | Sequence[int], train_steps: int, name: str = "train.keep_steps"
) -> tuple[int, ...]:
    """Returns the steps of a run whose checkpoints stay.

    >>> kept_steps("log:5", 1000)   # five steps, evenly by logarithm
    (1, 6, 32, 178, 1000)

    Args:
      given: "log:N", or the steps themselves.
      name: of the parameter, for a user.

    Raises:
      UserError: neither; or a step beyond the end.
    """
    if isinstance(given, str):
        kind, _, number = given.partition(":")
        if kind != "log" or not number.isdecimal() or int(number) < 2:
            raise UserError(
                f'{name} is {given!r}; expected a list of steps, or "log:N", N of them '
                'evenly by logarithm and 2 at least, such as "log:12".'
            )
        return tuple(
            np.unique(np.geomspace(1, train_steps, int(number)).round().astype(int)).tolist()
        )
    if late := [step for step in given if step > train_steps]:
        raise UserError(f"{name} holds {late[0]}, but TRAIN_STEPS = {train_steps}.")
    return tuple(sorted(given))


class Checkpointer:
    """Writes the checkpoints of a run in the background.

    Args:
      model_dir: the run directory.
      identity: JSON that goes into each checkpoint as it is: the model, its vocabulary, ...
      keep: how many of the newest steps stay.
      keep_best: how many of the best by `best_metric` stay besides.
      best_metric: name of a dev metric; lower is better if it ends in "loss", else higher.
      keep_steps: steps that stay in any case.
      base: {"path", "fingerprints"} of the checkpoint that the frozen parameters came from, which
        then are not stored; None stores them.

    Raises:
      UserError: the directory cannot be written, here or in any method; the disk is full.
    """

    def __init__(
        self,
        model_dir: str | os.PathLike,
        identity: Mapping[str, Any],
        *,
        keep: int = 2,
        keep_best: int = 1,
        best_metric: str | None = None,
        keep_steps: Collection[int] = (),
        base: Mapping[str, Any] | None = None,
    ):
        import orbax.checkpoint as ocp

        if keep < 1:
            raise UserError(f"train.keep is {keep}: at least the newest checkpoint must stay.")
        # What goes wrong in Orbax's threads is raised here in words, without its own traces before.
        logging.getLogger("absl").setLevel(logging.CRITICAL)
        self.directory = (pathlib.Path(model_dir) / "checkpoints").absolute()
        self.identity = dict(identity)
        self.base = base
        self.best_metric = best_metric
        self._ocp = ocp
        self._saving: int | None = None
        scores = {int(path.name): _score(path) for path in steps(model_dir)}
        scores = {step: score for step, score in scores.items() if score is not None}
        self._policy = _NewestAndBest(keep, keep_best if best_metric else 0, keep_steps, scores)
        with self._explained():
            self.directory.mkdir(parents=True, exist_ok=True)
            options = ocp.CheckpointManagerOptions(
                preservation_policy=self._policy,
                cleanup_tmp_directories=True,
                enable_async_checkpointing=True,
                async_options=ocp.AsyncOptions(post_finalization_callback=self._finished_writing),
            )
            self._manager = ocp.CheckpointManager(self.directory, options=options)

    def save(
        self,
        state: TrainState,
        data_state: Any,
        metrics: Mapping[str, float] | None = None,
        window: Mapping[str, Any] | None = None,
    ) -> None:
        """Start writing `state`; returns as soon as the arrays are copied from the devices.

        Args:
          data_state: JSON, the place in the data (the same on all processes).
          metrics: dev metrics at this step.
          window: JSON, the sums over the steps that were not reported yet.
        """
        step = int(state.step)
        metrics = dict(metrics or {})
        score = metrics.get(self.best_metric or "", math.nan)
        score = -score if (self.best_metric or "").endswith("loss") else score
        arrays = _arrays(state)
        if self.base is not None:
            arrays["frozen"] = {}
        run = {
            **self.identity,
            "base": self.base,
            "step": step,
            "key": np.asarray(state.key).tolist(),
            "data": data_state,
            "metrics": metrics,
            "window": window,
            "score": score if math.isfinite(score) else None,
            "shapes": {item: _shapes(tree) for item, tree in arrays.items()},
        }
        args = self._ocp.args
        items = {item: args.StandardSave(tree) for item, tree in arrays.items() if tree}
        with self._explained():
            self._manager.wait_until_finished()
            self._saving = step
            if math.isfinite(score):
                self._policy.scores[step] = score
            self._manager.save(step, args=args.Composite(run=args.JsonSave(run), **items))

    def _finished_writing(self) -> None:
        """Called by Orbax in its thread when all files of a step are there, before the commit."""
        if jax.process_index() == 0:
            written = sorted(self.directory.glob(f"{self._saving}.orbax-checkpoint-tmp*"))
            write_digest(written[-1] if written else self.directory / str(self._saving))

    def check(self) -> None:
        """Raise what went wrong in the background, without waiting for a save in progress."""
        if not self._manager.is_saving_in_progress():
            self.wait()

    def wait(self) -> None:
        """Block until the checkpoint that is being written is complete."""
        with self._explained():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Wait, then end the background threads."""
        with self._explained():
            self._manager.close()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            reasons = {
                errno.ENOSPC: "the disk is full",
                errno.EDQUOT: "the disk quota is used up",
                errno.EACCES: "permission denied",
                errno.EROFS: "the file system is read-only",
                errno.ENOTDIR: "a part of the path is a file",
            }
            # TensorStore reports the operating system's message inside its own.
            said = f"{error} {error.__cause__ or ''}"
            for number, reason in reasons.items():
                if getattr(error, "errno", None) == number or os.strerror(number) in said:
                    free = ""
                    with contextlib.suppress(OSError):
                        free = f" ({shutil.disk_usage(self.directory).free / 1e9:.2f} GB free)"
                    raise UserError(
                        f"A checkpoint could not be written to {self.directory}: {reason}{free}. "
                        "Free some space, lower train.keep, or point MODEL_DIR elsewhere; the same "
                        "command then resumes from the last complete checkpoint."
                    ) from error
            raise


def check_space(model_dir: str | os.PathLike, target: TrainState) -> None:
    """Raises a `UserError` if no checkpoint of `target` fits on the disk of `model_dir`."""
    need = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(target))
    folder = pathlib.Path(model_dir).absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < need:
        raise UserError(
            f"One checkpoint of this run takes {need / 1e9:.2f} GB, but the disk of {model_dir} "
            f"has only {free / 1e9:.2f} GB free. Free some space or point MODEL_DIR elsewhere."
        )


def _arrays(state: TrainState) -> dict[str, dict[str, Any]]:
    """The arrays of a state as flat dicts, one for each folder of a checkpoint."""
    leaves = jax.tree_util.tree_leaves_with_path(state.optimizer)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves]
    optimizer = dict(zip(names, (leaf for _, leaf in leaves), strict=True))
    return {"trainable": state.trainable, "frozen": state.frozen, "optimizer": optimizer}


def _shapes(tree: Mapping[str, Any]) -> dict[str, list]:
    return {name: [str(leaf.dtype), *leaf.shape] for name, leaf in tree.items()}


# -------------------------------------------------------------------------------------- reading


def restore(
    step_dir: pathlib.Path, target: TrainState, base: Parameters | None = None
) -> tuple[TrainState, Any]:
    """The state and the place in the data, read from a verified step straight to the devices.

    Args:
      base: the frozen parameters of a step that does not store them (`base` of its record).
      target: shapes and shardings, from `state.abstract_state`; the mesh may differ from the one
        that wrote the checkpoint.

    Raises:
      UserError: the checkpoint is of another model or optimizer.
    """
    run = description(step_dir)
    arrays = {
        item: base
        if item == "frozen" and base is not None
        else _read(step_dir, item, run["shapes"][item], tree)
        for item, tree in _arrays(target).items()
    }
    treedef = jax.tree.structure(target.optimizer)
    state = TrainState(
        step=jax.device_put(np.int32(run["step"]), target.step.sharding),
        trainable=arrays["trainable"],
        frozen=arrays["frozen"],
        optimizer=jax.tree.unflatten(treedef, arrays["optimizer"].values()),
        key=jax.device_put(np.array(run["key"], np.uint32), target.key.sharding),
    )
    return state, run["data"]


def _read(step_dir: pathlib.Path, item: str, stored: Mapping, target: Mapping) -> dict[str, Any]:
    import orbax.checkpoint as ocp

    _check_fit(step_dir, item, stored, target)
    if not target:
        return {}
    with ocp.StandardCheckpointer() as reader:
        arrays = reader.restore((step_dir / item).absolute(), dict(target))
    return {name: arrays[name] for name in target}


def _check_fit(step_dir: pathlib.Path, what: str, stored: Mapping, target: Mapping) -> None:
    wanted = _shapes(target)
    different = [
        f"{name} is {stored.get(name, 'absent')} there and {wanted.get(name, 'absent')} here"
        for name in sorted({*stored, *wanted})
        if stored.get(name) != wanted.get(name)
    ]
    if different:
        more = f" (and {len(different) - 1} more)" if len(different) > 1 else ""
        raise UserError(
            f"The {what} in {step_dir} do not fit this configuration: {different[0]}{more}. Use "
            "the model, trainable filter and optimizer that wrote it, or another MODEL_DIR."
        )
