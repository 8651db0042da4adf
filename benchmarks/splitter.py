# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
r"""How often a splitter finds the tail of a fact that it has not seen, by each of its searches.

  python benchmarks/splitter.py --checkpoint=runs/demo/pretrain \
    [--facts=demo|atomic] [--each=60] [--epochs=8]

A splitter is taught the training facts (`--each` of a relation) as `mto adapt` teaches it, then
asked about facts of the validation split. Printed for each search: the share of sentences that give
a pair, and the share whose tail is the fact's. With "atomic", MTO_DATA_DIR must hold ATOMIC-2020.
"""

import argparse

import gin

from mto_jax import checkpoints
from mto_jax.adaptation import pairs, teaching
from mto_jax.adaptation.sentences import clean
from mto_jax.text2text import record_sets, templates
from mto_jax.training.finetune import Tuning
from mto_jax.training.optimizers import Optimizer

DEMO = (
    "AtLocation ObjectUse CapableOf HasProperty MadeUpOf isFilledBy xAttr xIntent xNeed xWant "
    "xEffect"
)
TASKS = {"demo": [f"demo_{name}" for name in DEMO.split()], "atomic": [*teaching.ATOMIC_FACTS]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--facts", choices=TASKS, default="demo")
    parser.add_argument("--each", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=8)
    arguments = parser.parse_args()
    checkpoint = checkpoints.open(arguments.checkpoint)
    with gin.unlock_config():
        vocabulary = checkpoint.adopt_vocabulary()
    tasks = TASKS[arguments.facts]
    taught = record_sets.read([record_sets.Wanted(t, "train", arguments.each) for t in tasks])
    asked = record_sets.read([record_sets.Wanted(t, "validation", 12, 1) for t in tasks])

    lessons = [pair for one in taught for pair in teaching.fact_pairs(one, arguments.each, 0)]
    examples = teaching.splitter_examples(lessons, vocabulary)
    optimizer = Optimizer("adamw", 1e-3, schedule="linear", warmup=0.1)
    splitter = Tuning(arguments.epochs, 20, optimizer)(
        checkpoint.model(vocabulary), examples, seed=0
    )
    facts = [fact for one in asked for fact in templates.pairs(one.records, one.wording)]
    sentences = [clean(pairs.restore(body, tail)) for body, tail in facts]
    print(f"{len(examples)} facts taught, {len(sentences)} others asked")
    for name, search in teaching.SEARCHES.items():
        found = search(splitter, sentences, vocabulary)
        cuts = [pairs.at_prediction(*one) for one in zip(sentences, found, strict=True)]
        kept = sum(not isinstance(cut, str) for cut in cuts)
        right = sum(tail == clean(gold) for tail, (_, gold) in zip(found, facts, strict=True))
        print(
            f"{name}: {kept / len(facts):.1%} give a pair, {right / len(facts):.1%} the right one"
        )


if __name__ == "__main__":
    main()
