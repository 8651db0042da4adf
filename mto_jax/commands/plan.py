# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Say what a training would cost on TPUs that are not here: memory, traffic, time, per mesh.

Takes the gin files of `mto train` and compiles its step for a TPU slice with libtpu, which needs no
TPU but minutes for each mesh; costs are kept in MTO_CACHE_DIR (~/.cache/mto_jax). MODEL_DIR and
MIXTURE_OR_TASK_NAME may be left out. For GPUs only what a formula gives is printed. Example:

  mto plan --gin_file=models/t5_1_1_xxl.gin --gin_file=runs/pretrain.gin \\
    --gin_file=hardware/tpu.gin --topology=v5p:4x4x8 --search
"""

import copy
import inspect
import os
import pathlib
import sys
import time

import gin
from jax.sharding import AbstractMesh

from mto_jax import checks, errors
from mto_jax.files import Store
from mto_jax.models import flops
from mto_jax.models.adapters import Adapters
from mto_jax.models.config import RUNTIME_FIELDS, model_config
from mto_jax.planning import candidates, report, topologies
from mto_jax.planning.cost import Cost, state_bytes
from mto_jax.runs.train import train
from mto_jax.training import memory, sharding
from mto_jax.training.optimizers import Optimizer
from mto_jax.training.program import Settings

# Macros that runs require and a plan does not need.
OPTIONAL_MACROS = ("MODEL_DIR", "MIXTURE_OR_TASK_NAME", "INITIAL_CHECKPOINT_PATH")


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
    """Print what the step of a training costs on `topology`, for one mesh or several.

    Args:
      topology: the chips.
      slices: TPU slices of this topology, joined by the network of the data centre.
      search: also compile the meshes that a formula of their traffic prefers.
      most: meshes that are compiled at most.
      disk_rate: bytes a second at which checkpoints are written, for their seconds.

    Raises:
      UserError: no such topology, no training in the gin files, a mesh or batch that does not fit
        the chips, libtpu is not installed, or the step fits no mesh (says what would).
    """
    checks.check(plan, locals())
    chips = topologies.parse(topology, slices)
    settings = _settings()
    devices = chips.devices() if chips.is_tpu else []
    meshes = _meshes(settings, chips, search, most)
    for line in report.head(settings, chips, state_bytes(settings, (1, 1, 1)), disk_rate):
        print(line)
    if not chips.is_tpu:
        print("GPUs: by formula only, nothing is compiled; temporaries and traffic are not known")
        print(f"\n{report.meshes([Cost.by_formula(settings, m) for m in meshes], settings, chips)}")
        return
    store = Store(
        pathlib.Path(os.environ.get("MTO_CACHE_DIR") or "~/.cache/mto_jax").expanduser() / "plans"
    )
    costs = []
    for number, sizes in enumerate(meshes, 1):
        data, fsdp, tensor = sizes
        print(
            f"{number} of {len(meshes)}: data={data} fsdp={fsdp} tensor={tensor}, compiling (takes "
            f"minutes; {time.strftime('%H:%M:%S')}) ...",
            file=sys.stderr,
            flush=True,
        )
        mesh = sharding.mesh(data, fsdp, tensor, devices=devices, slices=slices)
        costs.append(Cost.compiled(settings, mesh, chips, store))
    print(f"\n{report.meshes(costs, settings, chips)}\n")
    best = report.best(costs, settings, chips)
    if best is None:
        mesh = sharding.mesh(*meshes[0], devices=devices, slices=slices)
        too_large = memory.TooLarge(costs[0].peak, chips.chip.memory)
        raise errors.UserError(memory.advice(settings, mesh, too_large))
    print("sent by each chip in a step (in brackets what is hidden behind computation):")
    print(f"\n{report.traffic(costs)}\n\nthe best of these:\n\n{report.gin_lines(best, chips)}")


def _settings() -> Settings:
    """Returns what decides the step, as gin binds it for `train`."""
    bound = gin.get_bindings("train", resolve_references=False)
    if not {"train_dataset", "batch_size", "train_steps"} <= bound.keys():
        raise errors.UserError(
            "mto plan needs the gin files of a training, for instance "
            "--gin_file=models/t5_1_1_base.gin --gin_file=runs/pretrain.gin."
        )
    parameters = inspect.signature(inspect.unwrap(train)).parameters
    values = {name: parameter.default for name, parameter in parameters.items()}
    values |= copy.deepcopy(bound)  # which is how gin follows references
    checks.check(inspect.unwrap(train), values)
    if values["model"] is None:
        model = model_config()
        if not gin.get_bindings(type(model).__name__).keys() - {*RUNTIME_FIELDS}:
            raise errors.UserError(
                "mto plan needs the sizes of the model: --gin_file=models/t5_1_1_base.gin, ..."
            )
        values["model"] = model
    return Settings(
        values["model"],
        values["batch_size"],
        values["train_dataset"].task_feature_lengths,
        values["optimizer"] or Optimizer(),
        values["train_steps"],
        trainable=values["trainable"] or ("adapters" if values["adapters"] else "all"),
        adapters=Adapters.of(values["adapters"]),
        microbatches=values["microbatches"],
        z_loss=values["z_loss"],
        label_smoothing=values["label_smoothing"],
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
