# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Say what a training, or decoding, would cost on TPUs that are not here: memory, traffic, time.

Takes the gin files of `mto train`, or of `mto infer`, and compiles its program for a TPU slice with
libtpu, which needs no TPU but minutes for each mesh; costs are kept in MTO_CACHE_DIR
(~/.cache/mto_jax). MODEL_DIR and MIXTURE_OR_TASK_NAME may be left out. For GPUs only what a formula
gives is printed. Examples:

  mto plan --gin_file=models/t5_1_1_xxl.gin --gin_file=runs/pretrain.gin \\
    --gin_file=hardware/tpu.gin --topology=v5p:4x4x8 --search
  mto plan --gin_file=models/t5_1_1_xxl.gin --gin_file=runs/infer.gin --topology=v5e:2x4 \\
    --gin.load_checkpoint.dtype=bfloat16 --gin.T5Config.dtype=bfloat16
"""

import copy
import inspect
import os
import pathlib
import sys
import time
from collections.abc import Iterator, Sequence

import gin
from jax.sharding import AbstractMesh

from mto_jax import checkpoints, checks, errors
from mto_jax.commands.infer import infer
from mto_jax.decoding.generation import Decoding
from mto_jax.files import Store
from mto_jax.models import flops
from mto_jax.models.adapters import Adapters
from mto_jax.models.config import RUNTIME_FIELDS, ModelConfig, model_config
from mto_jax.planning import candidates, decoding, report, topologies
from mto_jax.planning.cost import Cost, state_bytes
from mto_jax.runs.train import train
from mto_jax.training import memory, sharding
from mto_jax.training.optimizers import Optimizer
from mto_jax.training.program import Settings

# Macros that runs require and a plan does not need.
OPTIONAL_MACROS = ("MODEL_DIR", "MIXTURE_OR_TASK_NAME", "INITIAL_CHECKPOINT_PATH")
_NOT_COMPILED = "GPUs: by formula only, nothing is compiled; temporaries and traffic are not known"


def add_flags(parser) -> None:
    parser.add_argument(
        "--topology",
        metavar="NAME",
        help="a TPU slice such as v5e:2x2, v6e:8x8 or v5p:4x4x8, or GPUs such as h100:8",
    )
    parser.add_argument("--slices", type=int, metavar="N", help="TPU slices of this topology")
    parser.add_argument(
        "--search",
        action="store_true",
        default=None,
        help="compile the most promising meshes too, plan.most of them",
    )


@gin.configurable
def plan(
    topology: checks.Name,
    slices: checks.Count = 1,
    search: bool = False,
    most: checks.Count = 4,
    disk_rate: checks.Positive = 1e9,
) -> None:
    """Print what a step of a training, or decoding, costs on `topology`, for one mesh or several.

    Args:
      topology: the chips; for decoding those of one process, which decodes on its own.
      slices: TPU slices of this topology, joined by the network of the data centre.
      search: also compile other meshes: those that a formula of their traffic prefers; for
        decoding every other division of the heads.
      most: meshes that are compiled at most.
      disk_rate: bytes a second at which checkpoints are written, for their seconds.

    Raises:
      UserError: no such topology, no training or decoding in the gin files, a mesh or batch that
        does not fit the chips, libtpu is not installed, or the program fits no mesh (says what
        would).
    """
    checks.check(plan, locals())
    chips = topologies.parse(topology, slices)
    if gin.get_bindings("infer", resolve_references=False) and not gin.get_bindings(
        "train", resolve_references=False
    ):
        _plan_decoding(chips, search, most)
    else:
        _plan_training(chips, search, most, disk_rate)


def _plan_training(chips: topologies.Topology, search: bool, most: int, disk_rate: float) -> None:
    settings = _settings()
    devices = chips.devices() if chips.is_tpu else []
    meshes = _meshes(settings, chips, search, most)
    for line in report.head(settings, chips, state_bytes(settings, (1, 1, 1)), disk_rate):
        print(line)
    if not chips.is_tpu:
        print(_NOT_COMPILED)
        print(f"\n{report.meshes([Cost.by_formula(settings, m) for m in meshes], settings, chips)}")
        return
    costs = []
    for sizes in _told(meshes):
        mesh = sharding.mesh(*sizes, devices=devices, slices=chips.slices)
        costs.append(Cost.compiled(settings, mesh, chips, _store()))
    print(f"\n{report.meshes(costs, settings, chips)}\n")
    best = report.best(costs, settings, chips)
    if best is None:
        mesh = sharding.mesh(*meshes[0], devices=devices, slices=chips.slices)
        too_large = memory.TooLarge(costs[0].peak, chips.chip.memory)
        raise errors.UserError(memory.advice(settings, mesh, too_large))
    print("sent by each chip in a step (in brackets what is hidden behind computation):")
    print(f"\n{report.traffic(costs)}\n\nthe best of these:\n\n{report.gin_lines(best, chips)}")


def _plan_decoding(chips: topologies.Topology, search: bool, most: int) -> None:
    if chips.slices > 1:
        raise errors.UserError("A process decodes on one slice: leave --slices out.")
    signature = inspect.signature(inspect.unwrap(infer)).parameters
    values = {name: parameter.default for name, parameter in signature.items()}
    values |= {"model_dir": "-"} | gin.get_bindings("infer")
    checks.check(inspect.unwrap(infer), values)
    settings = decoding.Settings(
        _model(),
        values["batch_size"],
        values["input_length"],
        values["decoding"] or Decoding(),
        checkpoints.Options().dtype,
    )
    meshes = decoding.meshes(settings, chips, search)[:most]
    for line in report.decoding_head(settings, chips):
        print(line)
    if chips.is_tpu:
        costs = [
            decoding.DecodingCost.compiled(settings, sizes, chips, _store())
            for sizes in _told(meshes)
        ]
    else:
        print(_NOT_COMPILED)
        costs = [decoding.DecodingCost.by_formula(settings, sizes) for sizes in meshes]
    print(f"\n{report.decoding(costs, settings, chips)}")
    if all(cost.fits is False for cost in costs):
        raise errors.UserError(
            f"Decoding fits on none of these meshes of {chips.name}. Lower BATCH_SIZE or "
            "infer.input_length, keep the matrices in bfloat16 (load_checkpoint.dtype), or take "
            "more chips."
        )


def _told(meshes: Sequence[candidates.Sizes]) -> Iterator[candidates.Sizes]:
    """Yields the meshes; says on standard error which one is compiled."""
    for number, sizes in enumerate(meshes, 1):
        named = " ".join(f"{a}={n}" for a, n in zip(sharding.MESH_AXES, sizes, strict=True))
        print(
            f"{number} of {len(meshes)}: {named}, compiling (takes minutes; "
            f"{time.strftime('%H:%M:%S')}) ...",
            file=sys.stderr,
            flush=True,
        )
        yield sizes


def _store() -> Store:
    """What was compiled before."""
    cache = os.environ.get("MTO_CACHE_DIR") or "~/.cache/mto_jax"
    return Store(pathlib.Path(cache).expanduser() / "plans")


def _model() -> ModelConfig:
    """Returns the sizes of the model, as gin binds them."""
    model = model_config()
    if not gin.get_bindings(type(model).__name__).keys() - {*RUNTIME_FIELDS}:
        raise errors.UserError(
            "mto plan needs the sizes of the model: --gin_file=models/t5_1_1_base.gin, ..."
        )
    return model


def _settings() -> Settings:
    """Returns what decides the step, as gin binds it for `train`."""
    bound = gin.get_bindings("train", resolve_references=False)
    if not {"train_dataset", "batch_size", "train_steps"} <= bound.keys():
        raise errors.UserError(
            "mto plan needs the gin files of a training or of decoding, for instance "
            "--gin_file=models/t5_1_1_base.gin --gin_file=runs/pretrain.gin (or runs/infer.gin)."
        )
    parameters = inspect.signature(inspect.unwrap(train)).parameters
    values = {name: parameter.default for name, parameter in parameters.items()}
    values |= copy.deepcopy(bound)  # which is how gin follows references
    checks.check(inspect.unwrap(train), values)
    values["model"] = values["model"] or _model()
    return Settings(
        values["model"],
        values["batch_size"],
        values["train_dataset"].task_feature_lengths,
        values["optimizer"] or Optimizer(),
        values["train_steps"],
        trainable=values["trainable"] or ("adapters" if values["adapters"] else "all"),
        adapters=Adapters.of(values["adapters"]),
        pack=values["pack"],
        microbatches=values["microbatches"],
        z_loss=values["z_loss"],
        label_smoothing=values["label_smoothing"],
        reduce_dtype=values["reduce_dtype"],
    )


def _meshes(
    settings: Settings, topology: topologies.Topology, search: bool, most: int
) -> list[candidates.Sizes]:
    """Returns the meshes to look at: that of the gin files, then those of the search.

    Where gin says nothing of the mesh, the model is cut over all chips of a slice.
    """
    bound = gin.get_bindings("mesh")
    if bound.pop("slices", None) not in (None, topology.slices):
        raise errors.UserError(
            f"mesh.slices is bound, but --slices={topology.slices}: say the same to both."
        )
    asked = {"data": -1, "fsdp": 1, "tensor": 1} | bound
    if not bound:
        asked = {"data": topology.slices, "fsdp": -1, "tensor": 1}
    sizes = sharding.mesh_sizes(**asked, count=topology.size)
    sharding.check_batch(
        settings.batch_size, AbstractMesh(sizes, sharding.MESH_AXES), settings.microbatches
    )
    if not search:
        return [sizes]
    others = candidates.meshes(settings, topology, flops.num_parameters(settings.model))
    return [sizes, *(other for other in others if other != sizes)][:most]
