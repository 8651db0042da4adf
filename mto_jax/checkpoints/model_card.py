# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The model card of an exported checkpoint: its use, and its training as far as the run says."""

import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mto_jax import __version__
from mto_jax.checkpoints import runs
from mto_jax.checkpoints.contents import family
from mto_jax.console import markdown_table
from mto_jax.files import read_record
from mto_jax.models.config import T5Config


def text(config: T5Config, name: str, source: str, step_dir: pathlib.Path | None) -> str:
    """README.md in Markdown.

    Args:
      name: of the exported folder.
      source: the checkpoint that was exported; "" for a model in memory.
      step_dir: its folder RUN/checkpoints/STEP, if it is of a run; what RUN holds (the operative
        configuration, metrics.jsonl, evaluation/STEP) goes into the card.
    """
    made = f"mto convert --from={source} --to=hf --output={name}\n" if source else ""
    parts = [
        "---\nlibrary_name: transformers\npipeline_tag: text2text-generation\n"
        "tags:\n- t5\n- mto-jax\n---",
        f"# {name}",
        f"An encoder-decoder of the family {family(config)} with {config.num_encoder_layers} + "
        f"{config.num_decoder_layers} layers and d_model {config.d_model}, written by MTO-JAX "
        f"{__version__}.",
        "## Use",
        f"""```python
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{name}")
model = AutoModelForSeq2SeqLM.from_pretrained("{name}")
batch = tokenizer("A <extra_id_0> walks into a bar.", return_tensors="pt")
print(tokenizer.decode(model.generate(**batch)[0]))
```""",
        f"""With MTO-JAX:

```
{made}mto infer --gin_file=runs/infer.gin --gin.MODEL_DIR={name} --input_file=inputs.txt
mto train --gin_file=... --gin.INITIAL_CHECKPOINT_PATH={name}
```""",
    ]
    if step_dir is not None:
        parts += _training(step_dir)
    return "\n\n".join(parts) + "\n"


def _training(step_dir: pathlib.Path) -> list[str]:
    run_dir = step_dir.parent.parent
    known = runs.description(step_dir)
    step = known["step"]
    files = [run_dir / name for name in ("operative_config.gin", "config.gin")]
    gin_text = next((file.read_text().strip() for file in files if file.is_file()), "")
    metrics = _metrics(run_dir / "metrics.jsonl", step) | known["metrics"]
    results = run_dir / "evaluation" / str(step) / "metrics.json"
    parts = []
    if data := _data(gin_text):
        parts += ["## Data", markdown_table([("use", "task or mixture", "split", "tokens"), *data])]
    if metrics:
        rows = [(key, f"{value:.6g}") for key, value in metrics.items()]
        parts += [f"## Metrics at step {step}", markdown_table([("metric", "value"), *rows])]
    if results.is_file():
        head = ("task", "split", "metric", "value (95 %)")
        rows = [head, *_results(read_record(results, unsigned=True)["results"])]
        parts += ["## Evaluation", markdown_table(rows)]
    if gin_text:
        parts += [
            "## Configuration",
            "`mto train --gin_file=config.gin` with this as config.gin repeats the training.",
            f"```\n{gin_text}\n```",
        ]
    return parts


def _data(gin_text: str) -> list[Sequence[str]]:
    """A row for each data set that the configuration names: its scope, task, split and lengths."""
    whole = re.sub(r"\\\n\s*", "", gin_text)
    values = dict(re.findall(r"^([\w./]+) = (.+)$", whole, re.MULTILINE))

    def value(name: str) -> str:
        text = values.get(name, "")
        return values.get(text[1:], text) if text.startswith("%") else text

    fields = ("mixture_or_task_name", "split", "task_feature_lengths")
    suffix = f"DatasetConfig.{fields[0]}"
    scopes = [name.removesuffix(suffix) for name in values if name.endswith(suffix)]
    return [
        (scope.rstrip("/"), *(_code(value(f"{scope}DatasetConfig.{field}")) for field in fields))
        for scope in scopes
    ]


def _metrics(path: pathlib.Path, step: int) -> dict[str, Any]:
    """The last value of each training metric up to `step` in a file of JSON lines."""
    metrics: dict[str, Any] = {}
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            entry = json.loads(line)
        except ValueError:  # the line that a crash cut short
            continue
        if entry.get("step", 0) <= step:
            metrics |= {k: v for k, v in entry.items() if k.startswith("train/")}
    return metrics


def _results(entries: Sequence[Mapping[str, Any]]) -> list[Sequence[str]]:
    """A row for each metric of each task that `mto evaluate` has left."""
    rows = []
    for entry in entries:
        for name, metric in entry["metrics"].items():
            low, high = metric["low"], metric["high"]
            bounds = "" if low is None else f" ({low:.3f} to {high:.3f})"
            rows.append((entry["task"], entry["split"], name, f"{metric['value']:.3f}{bounds}"))
    return rows


def _code(value: str) -> str:
    return f"`{value}`" if value else ""
