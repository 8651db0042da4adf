# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""What chips send for the head of T5 v1.1 base, compiled for four TPUs that are not here."""

import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import pytest

pytest.importorskip("libtpu", reason="libtpu is there on Linux x86_64 only")

# In a process of its own: the TPU compiler wants variables of the environment before JAX starts.
ENVIRONMENT = {
    **os.environ,
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "XLA_FLAGS": "",
}
D, V = 768, 32128
# 128 x 114 targets: a loop over seven slices of the logits.
COMPILE = """
import functools, json
import jax, jax.numpy as jnp
from mto_jax.models import losses, partitioning
from mto_jax.planning import collectives, topologies
from mto_jax.training import sharding
from tests.training.test_collectives import D, V

B, T = 128, 114
mesh = sharding.mesh(1, 4, 1, devices=topologies.parse("v5e:2x2").devices())
rows = sharding.batch_sharding(mesh)
cut = sharding.parameter_sharding(("embed", "vocab"), (D, V), mesh)
hidden = jax.ShapeDtypeStruct((B, T, D), jnp.bfloat16, sharding=rows)
head = jax.ShapeDtypeStruct((D, V), jnp.float32, sharding=cut)
targets = jax.ShapeDtypeStruct((B, T), jnp.int32, sharding=rows)

def loss(hidden, head, targets, dtype):
    with partitioning.use_rules(mesh, sharding.RULES, dtype):
        return losses.cross_entropy(hidden, head, targets, jnp.ones((B, T)), z_loss=1e-4)[0]

def sent(dtype):
    gradient = jax.grad(functools.partial(loss, dtype=dtype), argnums=(0, 1))
    program = jax.jit(gradient, out_shardings=(rows, cut)).lower(hidden, head, targets)
    operations = collectives.read(program.compile().as_text(), 4)
    return [[o.kind, o.times, o.bytes, o.sent] for o in operations if o.bytes > 1000]

print(json.dumps({dtype: sent(dtype) for dtype in ("float32", "bfloat16")}))
"""
# Kind, times, kB of the result or of what is reduced, kB sent by each chip; sums of scalars are
# left out. In theory 3/4 of the head in bfloat16 is sent for the gather, 37011 kB, and 3/4 of its
# gradient, 74023 kB in float32; the compiler is given 32768 columns in place of 32128 (see
# partitioning). Whoever changes these numbers says why.
SENT = {
    "float32": """
all-gather 1 49349 37011
reduce-scatter 1 100663 75497
""",
    "bfloat16": """
all-gather 1 49349 37011
reduce-scatter 1 50332 37749
""",
}


# Topology, mesh, rows and columns of a gradient, and how its sum over chips is compiled.
SUMS = [
    ("v5e:2x2", (1, 4, 1), (768, 250112), ["reduce-scatter"]),  # the head of mT5 base
    ("v5e:4x4", (2, 8, 1), (2048, 4096), ["all-reduce", "reduce-scatter"]),
    # The compiler's doing, whatever the shape: it was given a reduce-scatter.
    ("v5e:4x4", (1, 16, 1), (2048, 4096), ["all-reduce"]),
]
COMPILE_SUMS = """
import json
import jax, jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from mto_jax.models import partitioning
from mto_jax.planning import collectives, topologies
from mto_jax.training import sharding
from tests.training.test_collectives import SUMS

def kinds(name, sizes, shape):
    chips = topologies.parse(name)
    mesh = sharding.mesh(*sizes, devices=chips.devices())

    def total(x_GxDxE):
        with partitioning.use_rules(mesh, sharding.RULES):
            return partitioning.sum_over_batch(x_GxDxE, "embed", "vocab")

    G, where = sizes[0] * sizes[1], sharding.batch_sharding(mesh)
    x_GxDxE = jax.ShapeDtypeStruct((G, *shape), jnp.float32, sharding=where)
    text = jax.jit(total).lower(x_GxDxE).compile().as_text()
    return sorted(operation.kind for operation in collectives.read(text, chips.size))

print(json.dumps([kinds(*case[:3]) for case in SUMS]))
"""


def run(program: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=ENVIRONMENT,
        cwd=pathlib.Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def compiled() -> dict[str, list]:
    return run(COMPILE)


@pytest.mark.parametrize("dtype", SENT)
def test_the_head_is_gathered_once_and_its_gradient_is_not_reduced_whole(compiled, dtype):
    lines = [
        f"{kind} {times} {size / 1e3:.0f} {sent / 1e3:.0f}"
        for kind, times, size, sent in sorted(compiled[dtype])
    ]
    assert "\n".join(lines) == SENT[dtype].strip()


def test_sums_of_gradients_are_reduce_scattered_where_the_compiler_knows_how():
    assert run(COMPILE_SUMS) == [kinds for *_, kinds in SUMS]
