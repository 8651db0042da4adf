# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The model card of an exported checkpoint: how to use it, and how it came to be, as far as the run tells."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from mto_jax import __version__
from mto_jax.interop.checkpoint import family
from mto_jax.models.config import T5Config


def text(config: T5Config, name: str, source: str, run_dir: pathlib.Path | None) -> str:
    """README.md in Markdown.

    Args:
      name: of the exported folder.
      source: the checkpoint that was exported.
      run_dir: where config.gin, model.json and metrics.jsonl of the training run may lie.
    """
    parts = [
        "---\nlibrary_name: transformers\npipeline_tag: text2text-generation\ntags:\n- t5\n- mto-jax\n---",
        f"# {name}",
        f"A {family(config)} with {config.num_encoder_layers} encoder and {config.num_decoder_layers} decoder "
        f"layers, d_model {config.d_model}, written by MTO-JAX {__version__}.",
        "## Use",
        f"""```python
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{name}")
model = AutoModelForSeq2SeqLM.from_pretrained("{name}")
batch = tokenizer("A <extra_id_0> walks into a bar.", return_tensors="pt")
print(tokenizer.decode(model.generate(**batch)[0]))
```""",
        f"""```
mto convert --from={source} --to=hf --output={name}
mto train --gin_file=... --gin.INITIAL_CHECKPOINT_PATH={name}
```""",
    ]
    if run_dir is not None:
        parts += _training(run_dir)
    return "\n\n".join(parts) + "\n"


def _training(run_dir: pathlib.Path) -> list[str]:
    parts = []
    config = next(
        (run_dir / n for n in ("operative_config.gin", "config.gin") if (run_dir / n).is_file()),
        None,
    )
    if config is not None:
        gin_text = config.read_text().strip()
        data = [line for line in gin_text.splitlines() if "mixture_or_task" in line.lower()]
        if data:
            parts += ["## Data", "```\n" + "\n".join(data) + "\n```"]
        parts += [
            "## Configuration",
            "`mto train --gin_file=config.gin` with this file repeats the run.",
            f"```\n{gin_text}\n```",
        ]
    metrics = _last_metrics(run_dir / "metrics.jsonl")
    if metrics:
        rows = [f"| {key} | {value:.6g} |" for key, value in metrics.items()]
        parts += ["## Metrics", "\n".join(["| metric | last value |", "|---|---|", *rows])]
    return parts


def _last_metrics(path: pathlib.Path) -> Mapping[str, Any]:
    """The last value of every number in a file of JSON lines."""
    metrics: dict[str, Any] = {}
    if path.is_file():
        for line in path.read_text().splitlines():
            try:
                entry = json.loads(line)
            except ValueError:  # the line that a crash cut short
                continue
            metrics |= {k: v for k, v in entry.items() if isinstance(v, int | float)}
    return metrics
