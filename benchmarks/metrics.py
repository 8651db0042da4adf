# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""How long the metrics of each kind of task take, 95 % intervals included.

  python benchmarks/metrics.py [--examples=10000] [--references=3]

Predictions and references are different random sentences of 1 to 14 words (a tail of ATOMIC has 3,
a sentence of CommonGen 11), drawn from 20 000 words by Zipf's law; a prediction shares some words
with its references. Target: the metrics of each kind in under a minute for 100 000 predictions. The
processor's time is printed beside the clock's, for machines that do other things as well.
"""

import argparse
import time

import numpy as np

from mto_jax.evaluation.evaluator import score
from mto_jax.metrics import captions
from mto_jax.metrics import labels as label_metrics
from mto_jax.metrics import text as text_metrics

SETS = {
    "triple": (
        text_metrics.rouge,
        text_metrics.bleu,
        text_metrics.exact_match,
        text_metrics.diversity,
    ),
    "generation": (text_metrics.rouge, text_metrics.bleu, captions.meteor_stem, captions.cider),
    "multiple choice": (text_metrics.accuracy,),
    "labelled text": (text_metrics.accuracy, label_metrics.label_f1, label_metrics.matthews),
    "numbers": (label_metrics.correlation,),
    "others": (text_metrics.rouge_l_coco, text_metrics.token_f1, text_metrics.chrf),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=10_000)
    parser.add_argument("--references", type=int, default=3)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    sentences = random_sentences(rng, arguments.examples, arguments.references)
    labels = rng.choice(["yes", "no", "maybe"], (arguments.examples, 2))
    numbers = rng.integers(0, 26, (arguments.examples, 2)) / 5
    data = dict.fromkeys(SETS, sentences) | {
        "labelled text": pairs(labels),
        "numbers": pairs(numbers),
    }
    for name, functions in SETS.items():
        for function in functions:
            function([["1"]], ["1"])  # imports its library
        wall, work = time.perf_counter(), time.process_time()
        score(functions, *data[name])
        wall, work = time.perf_counter() - wall, time.process_time() - work
        names = ", ".join(function.__name__ for function in functions)
        print(f"{name}: {wall:.1f} s, {work:.1f} s of processor time ({names})", flush=True)


def random_sentences(rng, examples: int, references: int) -> tuple[list[list[str]], list[str]]:
    """(references of every example, predictions)."""
    words = np.array([f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in range(334)])
    chance = 1 / np.arange(1, len(words) + 1)
    drawn = iter(rng.choice(words, examples * (references + 1) * 14, p=chance / chance.sum()))

    def sentence() -> list[str]:
        return [next(drawn) for _ in range(rng.integers(1, 15))]

    targets = [[sentence() for _ in range(references)] for _ in range(examples)]
    predictions = [[*texts[0][:3], *sentence()[:10]] for texts in targets]
    return [[" ".join(text) for text in texts] for texts in targets], list(
        map(" ".join, predictions)
    )


def pairs(values_Nx2: np.ndarray) -> tuple[list[list[str]], list[str]]:
    """(one reference of every example, predictions)."""
    return [[str(true)] for true, _ in values_Nx2], [str(said) for _, said in values_Nx2]


if __name__ == "__main__":
    main()
