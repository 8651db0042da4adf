# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""From a path to a `Checkpoint`: a foreign one, a step of a run, or an adapter on its base.

>>> checkpoint = checkpoints.open("hf://google/flan-t5-small")  # or runs/a, or a folder of T5X
>>> vocabulary = checkpoint.adopt_vocabulary()
>>> model = checkpoint.model(vocabulary)
"""

import dataclasses
import functools
import os
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import gin

from mto_jax import hub, remote
from mto_jax.checkpoints import huggingface, peft, runs, t5x, tensorstore
from mto_jax.checkpoints.checkpoint import Checkpoint, UnknownVocabulary
from mto_jax.checkpoints.contents import Contents, File, Options, describe_file
from mto_jax.checkpoints.lazy import Tensor, in_memory
from mto_jax.errors import UserError, unknown
from mto_jax.files import DIGEST, digest
from mto_jax.models.adapters import Adapters, is_adapter
from mto_jax.models.config import ModelConfig, from_record
from mto_jax.text2text import vocabulary as vocabularies
from mto_jax.text2text.vocabulary import Vocabulary

_SEVERAL = ("all", "new")
_CHOICES = ("best", "newest", *_SEVERAL)


@gin.configurable
def base_checkpoint(path: str | None = None) -> str | None:
    """Returns the path of an adapter's frozen model, if it was moved since training."""
    return path


def open(
    path: str | os.PathLike, prefer: str | int = "newest", *, options: Options | None = None
) -> Checkpoint:
    """The checkpoint at a path; its arrays are not read yet.

    Args:
      path: a run directory or a step folder of one; a folder of Hugging Face or T5X, a file of T5X,
        or hf://org/name[@revision], which is downloaded unless it is in the cache; or an adapter
        (`mto tune`, PEFT, a prompt in a .npy file), which stands for its base with the adapter on.
      prefer: of a run directory, "newest", "best" or the number of a step.
      options: None means `Options()`, as gin binds it (load_checkpoint).

    Raises:
      UserError: nothing there, damaged, or the hub does not give it.
    """
    if prefer in _SEVERAL:
        raise UserError(
            f"The checkpoint is {prefer}, but it must be one: 'best', 'newest' or the number of a "
            "step."
        )
    return open_all(path, prefer, options=options)[-1]


def open_all(
    path: str | os.PathLike, which: str | int, *, options: Options | None = None
) -> list[Checkpoint]:
    """The checkpoints of a path; of a run directory those that `which` names.

    Args:
      which: "best" (by the run's dev metric, else the newest), "newest", the number of a step, or
        "all" (also called "new"), of which damaged ones are reported and left out.

    Raises:
      UserError: there is no such checkpoint, or only damaged ones.
    """
    which = int(which) if str(which).isdigit() else which
    options = options or Options()
    if remote.is_address(path):
        path = remote.local(path)
    if os.fspath(path).startswith(hub.PREFIX):
        path = hub.resolve(path, allow_pickle=options.allow_pickle)
        kind = Adapted if peft.is_adapter(path) else Foreign
    else:
        kind = _kind(path)
    if kind is not Run:
        remote.fetch(path)
    if kind is not Run:
        if which not in _CHOICES:
            raise UserError(
                f"{path} is no run directory, so it has no step {which}: name the checkpoint "
                "itself."
            )
        if kind is Adapted:
            return [Adapted(pathlib.Path(path), options)]
        return [Foreign(hub.resolve(path, allow_pickle=options.allow_pickle), options)]
    if isinstance(which, int):
        steps = {int(step_dir.name): step_dir for step_dir in runs.steps(path)}
        if which not in steps:
            raise unknown(f"checkpoint in {path} of step", str(which), map(str, steps))
        return [Run(runs.resolve(steps[which]), options)]
    if which not in _CHOICES:
        raise unknown("choice of checkpoints", which, (*_CHOICES, "the number of a step"))
    good = []
    for step_dir in runs.steps(path) if which in _SEVERAL else ():
        if (problem := runs.damage(step_dir)) is None:
            good.append(Run(step_dir, options))
        else:
            print(f"checkpoint {step_dir} is damaged and left out: {problem}", file=sys.stderr)
    prefer = "best" if which == "best" else "newest"
    return good or [Run(runs.resolve(path, prefer), options)]


def open_base(path: str, options: Options | None = None) -> Checkpoint:
    """`open` for the model that an adapter or a run was trained on."""
    try:
        return open(path, options=options)
    except UserError as error:
        raise UserError(
            f"The frozen parameters of this checkpoint are those of {path}, which is not to be "
            f"had: {error} If it has moved, bind base_checkpoint.path (in training, "
            "INITIAL_CHECKPOINT_PATH)."
        ) from error


def _kind(path: str | os.PathLike) -> type[Checkpoint]:
    place = pathlib.Path(path).expanduser()
    if peft.is_adapter(place) or (place.suffix == ".npy" and place.is_file()):
        return Adapted
    ours = (place / "run").is_dir() or (place / "checkpoints").is_dir()
    kinds = (huggingface.is_checkpoint, t5x.is_checkpoint, _is_mesh_tensorflow)
    return Foreign if not ours and any(kind(place) for kind in kinds) else Run


def _is_mesh_tensorflow(path: pathlib.Path) -> bool:
    return any(path.glob("*.ckpt-*.index"))


class Foreign(Checkpoint):
    """A checkpoint of another program: Hugging Face or T5X."""

    @functools.cached_property
    def _read(self) -> tuple[File, ModelConfig | UserError]:
        """The file, and the model in it or the reason why it is none."""
        if huggingface.is_checkpoint(self.path):
            return huggingface.read(self.path, allow_pickle=self.options.allow_pickle)
        if _is_mesh_tensorflow(self.path):
            raise UserError(
                f"{self.path} is a checkpoint of Mesh TensorFlow, which this program does not "
                "read. The same models are published for T5X "
                "(gs://t5-data/pretrained_models/t5x) and on the Hugging Face hub."
            )
        file = t5x.read(self.path)
        try:
            return file, t5x.config(file.tensors)
        except UserError as error:
            return file, error

    @property
    def _recorded_vocabulary(self) -> tuple[str, str]:
        try:
            beside = self._vocabulary_beside
            return (beside, vocabularies.load(beside).digest) if beside else ("", "")
        except UserError as error:
            raise UnknownVocabulary(str(error)) from error

    @functools.cached_property
    def contents(self) -> Contents:
        """The tensors of the files: those of the model, and the others."""
        file, config = self._read
        if isinstance(config, UserError):
            raise UserError(f"{file.path} ({file.format}) is not a T5: {config}") from config
        return Contents.of(file, config)

    @property
    def step(self) -> int:
        return self.contents.file.step or 0

    @property
    def _stored_config(self) -> ModelConfig:
        return self.contents.model

    def assign(
        self, config: ModelConfig | None = None, adapters: Adapters | None = None
    ) -> tuple[dict[str, Tensor], list[str]]:
        return self.contents.assign(config, self.options.assignment_map)

    def describe(self) -> str:
        file, config = self._read
        if isinstance(config, UserError):
            return describe_file(file, str(config))
        return self.contents.describe()


@dataclasses.dataclass(frozen=True)
class Run(Checkpoint):
    """A step of a run of ours; its frozen parameters may be in the base that it started from.

    Attributes:
      base_path: where that base is, if it is not where the step says.
    """

    base_path: str | None = None

    @functools.cached_property
    def record(self) -> dict[str, Any]:
        """The description of the step that is stored beside its arrays: see `runs`."""
        return runs.description(self.path)

    @property
    def step(self) -> int:
        return self.record["step"]

    @property
    def run_dir(self) -> pathlib.Path:
        return self.path.parent.parent

    @property
    def step_dir(self) -> pathlib.Path:
        return self.path

    @property
    def adapters(self) -> Adapters:
        return Adapters.from_dict(self.record.get("adapters", {}))

    @functools.cached_property
    def digest(self) -> str:
        return digest((self.path / DIGEST).read_bytes())

    @property
    def _stored_config(self) -> ModelConfig:
        return from_record(self.record["model"])

    @property
    def _recorded_vocabulary(self) -> tuple[str, str]:
        record = self.record.get("vocabulary", {})
        return record.get("name", ""), record.get("digest", "")

    @functools.cached_property
    def contents(self) -> Contents:
        """The parameters that the step itself stores."""
        tensors = {}
        for item in ("trainable", "frozen"):
            if (self.path / item).is_dir():
                tensors |= tensorstore.orbax(self.path / item)
        file = File(
            path=str(self.path),
            format="MTO-JAX",
            side="ours",
            tensors=tensors,
            step=self.step,
            layers="scanned",
        )
        return Contents.of(file, self._stored_config)

    def describe(self) -> str:
        return self.contents.describe()

    def assign(
        self, config: ModelConfig | None = None, adapters: Adapters | None = None
    ) -> tuple[dict[str, Tensor], list[str]]:
        contents, report = self.contents, []
        if self.record.get("base"):
            inherited, report = open_base(self._base_path, self.options).assign()
            inherited = {
                name: tensor for name, tensor in inherited.items() if self._from_base(name)
            }
            contents = dataclasses.replace(contents, tensors={**inherited, **contents.tensors})
        adapters = self.adapters if adapters is None else adapters
        tensors, more = contents.assign(config, adapters=adapters)
        return tensors, [*report, *more]

    @property
    def _base_path(self) -> str:
        return self.base_path or base_checkpoint() or self.record["base"]["path"]

    def _from_base(self, name: str) -> bool:
        base = self.record.get("base")
        return (
            bool(base) and name in base["fingerprints"] and name not in self.contents.file.tensors
        )

    def _check_base(self, present: Mapping[str, str]) -> None:
        base = self.record["base"]
        different = [name for name in present if present[name] != base["fingerprints"][name]]
        if different:
            raise UserError(
                f"This checkpoint was trained on the frozen parameters of {base['path']}, but "
                f"{self._base_path} has others: {', '.join(different[:3])}"
                f"{' and more' if len(different) > 3 else ''} differ. Name the base that it "
                "belongs to (base_checkpoint.path; in training, INITIAL_CHECKPOINT_PATH)."
            )

    def adapter_description(self) -> dict[str, Any]:
        """The description of the adapters, for `peft.save_adapter`."""
        base = {"path": str(self.path)}
        if self.record.get("base") and all(map(is_adapter, self.contents.tensors)):
            numbers = self.record["base"]["fingerprints"]
            base = {"path": self._base_path, "fingerprint": peft.one_fingerprint(numbers)}
        base["family"] = self.config.family
        description = {"base": base, "info": {"run": str(self.run_dir), "step": self.step}}
        if "vocabulary" in self.record:
            description["vocabulary"] = self.record["vocabulary"]["digest"]
        return description


class Adapted(Checkpoint):
    """An adapter folder, ours or PEFT's, or a bare prompt: its base with the adapter on it."""

    @functools.cached_property
    def _content(self) -> tuple[Adapters, Mapping[str, Any], Mapping[str, Any]]:
        return peft.load_adapter(self.path, allow_pickle=self.options.allow_pickle)

    @property
    def adapters(self) -> Adapters:
        return self._content[0]

    @functools.cached_property
    def base(self) -> Checkpoint:
        """The model that the adapter was trained on."""
        if not self._base_path:
            raise UserError(
                f"The adapter {self.path} does not say what model it is for: bind "
                "base_checkpoint.path to that."
            )
        return open_base(self._base_path, self.options)

    @property
    def _base_path(self) -> str | None:
        return base_checkpoint() or self._content[2].get("base", {}).get("path")

    @property
    def step_dir(self) -> pathlib.Path | None:
        return self.base.step_dir

    @property
    def _stored_config(self) -> ModelConfig:
        return self.base._stored_config

    def describe(self) -> str:
        return peft.inspect(self.path)

    def find_vocabulary(self) -> tuple[str, Vocabulary]:
        return self.base.find_vocabulary()

    def check_vocabulary(self, vocabulary: Vocabulary) -> None:
        self.base.check_vocabulary(vocabulary)

    def assign(
        self, config: ModelConfig | None = None, adapters: Adapters | None = None
    ) -> tuple[dict[str, Tensor], list[str]]:
        wanted = self.adapters if adapters is None else adapters.folded
        own, absent = peft.completed(wanted, self._content[1], config or self.config, self.path)
        tensors, report = self.base.assign(config)
        own = {name: in_memory(value) for name, value in own.items()}
        return {**tensors, **own}, [*report, *absent]

    def _from_base(self, name: str) -> bool:
        return "fingerprint" in self._content[2].get("base", {}) and not is_adapter(name)

    def _check_base(self, present: Mapping[str, str]) -> None:
        if peft.one_fingerprint(present) != self._content[2]["base"]["fingerprint"]:
            raise UserError(
                f"The adapter {self.path} was trained on another model than {self.base.title}, or "
                "that has changed since. Name the one that it belongs to with base_checkpoint.path."
            )

    def adapter_description(self) -> dict[str, Any]:
        """The description of the adapter, for `peft.save_adapter`."""
        description = self._content[2]
        base = {"path": self._base_path, "family": self.config.family}
        return {**description, "base": {**description.get("base", {}), **base}}
