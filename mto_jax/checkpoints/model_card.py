# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The card of an exported model or adapter: its use, and its training as far as that is recorded.

The head of a card, in YAML, is what the Hugging Face hub reads: licence, language and base model
(those of the base's card where nobody states others), and the measured metrics.
"""

import json
import pathlib
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from mto_jax import __version__, hub
from mto_jax.checkpoints import peft_form, runs
from mto_jax.checkpoints.contents import family
from mto_jax.console import markdown_table
from mto_jax.files import read_record
from mto_jax.models.adapters import Adapters
from mto_jax.models.config import ModelConfig

_TASK = "text2text-generation"


def text(
    config: ModelConfig,
    name: str,
    source: str,
    step_dir: pathlib.Path | None,
    stated: Mapping[str, Any] | None = None,
) -> str:
    """Returns the README.md of a model in Markdown.

    Args:
      name: of the exported folder, or of its repository.
      source: the checkpoint that was exported; "" for a model in memory.
      step_dir: its folder RUN/checkpoints/STEP, if it is of a run; what RUN holds (the operative
        configuration, metrics.jsonl, evaluation/STEP) goes into the card.
      stated: fields of the head that somebody states, such as {"license": "apache-2.0"}.
    """
    gin_text, entries, example = "", [], "A <extra_id_0> walks into a bar."
    base = source
    if step_dir is not None:
        gin_text = _gin_text(step_dir.parent.parent)
        entries = _entries(step_dir)
        example = _first_input(step_dir) or example
        base = _value(_values(gin_text), "train.initial_checkpoint_path").strip("'\"")
    results = [
        (entry["task"], entry["split"], metric, interval["value"])
        for entry in entries
        for metric, interval in entry["metrics"].items()
    ]
    made = f"mto convert --from={source} --to=hf --output={name.split('/')[-1]}\n" if source else ""
    place = f"{hub.PREFIX}{name}" if "/" in name else name
    parts = [
        _head(name, base, results, stated, library_name="transformers"),
        f"# {name}",
        f"An encoder-decoder of the family {family(config)} with {config.num_encoder_layers} + "
        f"{config.num_decoder_layers} layers and d_model {config.d_model}, written by MTO-JAX "
        f"{__version__}.",
        "## Use",
        f"""```python
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{name}")
model = AutoModelForSeq2SeqLM.from_pretrained("{name}")
batch = tokenizer({json.dumps(example, ensure_ascii=False)}, return_tensors="pt")
print(tokenizer.decode(model.generate(**batch)[0]))
```""",
        f"""With MTO-JAX:

```
{made}mto infer --gin.MODEL_DIR={place} --input_file=inputs.txt
mto train --gin_file=runs/finetune.gin --gin.INITIAL_CHECKPOINT_PATH={place}
```""",
    ]
    if step_dir is not None:
        parts += _training(step_dir, gin_text, entries)
    return "\n\n".join(parts) + "\n"


def of_adapter(
    name: str,
    adapters: Adapters,
    description: Mapping[str, Any],
    in_peft: bool,
    stated: Mapping[str, Any] | None = None,
) -> str:
    """Returns the README.md of an adapter folder in Markdown.

    Args:
      name: of the folder, or of its repository.
      description: of the adapter, see `peft.save_adapter`.
      in_peft: the folder has PEFT's form.
      stated: see `text`.
    """
    info, task = description.get("info") or {}, description.get("task") or ""
    base = str((description.get("base") or {}).get("path") or "")
    values = info.get("held_out") or {}
    results = [(task, "held-out heads", metric, value) for metric, value in values.items()]
    fields = {"library_name": "peft"} if in_peft else {}
    place = f"{hub.PREFIX}{name}" if "/" in name else name
    what = f"An adapter ({adapters.label}) of {base or 'a T5'}"
    trained = f", trained on {task} under the template {description.get('template')}"
    parts = [
        _head(name, base, results, stated, base_model_relation="adapter", **fields),
        f"# {name}",
        f"{what}{trained if task else ''}, written by MTO-JAX {__version__}.",
        "## Use",
    ]
    example = info.get("example") or {}
    if example:
        parts.append(
            f"A source is `{example['source']}`, which it answers with `{example['prediction']}`."
        )
    if in_peft:
        parts += [
            _peft_use(name, description, example),
            *peft_form.differences(adapters, description),
        ]
    parts.append(
        f"""With MTO-JAX:

```
mto try --gin_file=runs/try.gin --gin.MODEL_DIR={shlex.quote(place)} --task={task or "TASK"}
```"""
    )
    if values:
        rows = [(metric, f"{value:.4g}") for metric, value in values.items()]
        parts += ["## Held-out heads", markdown_table([("metric", "value"), *rows])]
    gin_text = str(info.get("gin") or "").strip()
    if "tune.tasks" in gin_text:
        parts += [
            "## Training",
            "`mto tune --gin_file=config.gin` with this as config.gin repeats the training.",
            f"```\n{gin_text}\n```",
        ]
    elif settings := info.get("settings"):
        rows = [(key, f"`{value}`") for key, value in settings.items()]
        parts += ["## Training", markdown_table([("setting", "value"), *rows])]
    return "\n\n".join(parts) + "\n"


def _peft_use(name: str, description: Mapping[str, Any], example: Mapping[str, str]) -> str:
    """The lines of Python that answer with PEFT."""
    known = peft_form.base_fields(description)["base_model_name_or_path"]
    base = known or "DIR"
    if known:
        imported, load = "AutoPeftModelForSeq2SeqLM", "AutoPeftModelForSeq2SeqLM"
        load = f'{load}.from_pretrained("{name}")'
    else:
        imported = "PeftModel"
        load = (
            f'PeftModel.from_pretrained(AutoModelForSeq2SeqLM.from_pretrained("{base}"), "{name}")'
        )
    source = re.sub(r"\s*<(?:shared_)?prompt>", "", example.get("source", "...")).strip()
    more = "" if known else "AutoModelForSeq2SeqLM, "
    return f"""```python
from peft import {imported}
from transformers import {more}AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{base}")
model = {load}
batch = tokenizer({json.dumps(source, ensure_ascii=False)}, return_tensors="pt")
print(tokenizer.decode(model.generate(**batch)[0]))
```"""


def _head(
    name: str,
    base: str,
    results: Sequence[tuple[str, str, str, float]],
    stated: Mapping[str, Any] | None,
    **fields: Any,
) -> str:
    """The card's head in YAML; `results` are (task, split, metric, value)."""
    from huggingface_hub import EvalResult, ModelCardData

    measured = [
        EvalResult(_TASK, task, f"{task} ({split})", metric, value)
        for task, split, metric, value in results
    ]
    if measured:
        fields |= {"model_name": name.rpartition("/")[2], "eval_results": measured}
    in_hub = base if base.startswith(hub.PREFIX) else hub.name_in_hub(pathlib.Path(base)) or ""
    if in_hub:
        fields["base_model"] = in_hub.removeprefix(hub.PREFIX).partition("@")[0]
    else:
        fields.pop("base_model_relation", None)
    fields = {**_inherited(base), **fields, **(stated or {})}
    data = ModelCardData(pipeline_tag=_TASK, tags=["t5", "mto-jax"], **fields)
    return f"---\n{data.to_yaml()}\n---"


def _inherited(base: str) -> dict[str, Any]:
    """Licence and language as the card of the base model has them, if that is on this machine."""
    from huggingface_hub import ModelCard

    path = hub.cached(base, "README.md") if base else None
    try:
        data = ModelCard.load(path).data.to_dict() if path else {}
    except Exception:  # a card that its author has malformed states nothing
        return {}
    return {key: data[key] for key in ("license", "language") if data.get(key)}


def _training(
    step_dir: pathlib.Path, gin_text: str, entries: Sequence[Mapping[str, Any]]
) -> list[str]:
    known = runs.description(step_dir)
    step = known["step"]
    metrics = _metrics(step_dir.parent.parent / "metrics.jsonl", step) | known["metrics"]
    parts = []
    if data := _data(gin_text):
        parts += ["## Data", markdown_table([("use", "task or mixture", "split", "tokens"), *data])]
    if metrics:
        rows = [(key, f"{value:.6g}") for key, value in metrics.items()]
        parts += [f"## Metrics at step {step}", markdown_table([("metric", "value"), *rows])]
    if entries:
        head = ("task", "split", "metric", "value (95 %)")
        parts += ["## Evaluation", markdown_table([head, *_results(entries)])]
    if gin_text:
        parts += [
            "## Configuration",
            "`mto train --gin_file=config.gin` with this as config.gin repeats the training.",
            f"```\n{gin_text}\n```",
        ]
    return parts


def _gin_text(run_dir: pathlib.Path) -> str:
    files = [run_dir / name for name in ("operative_config.gin", "config.gin")]
    return next((file.read_text().strip() for file in files if file.is_file()), "")


def _values(gin_text: str) -> dict[str, str]:
    """The bindings of a configuration, as it writes them."""
    whole = re.sub(r"\\\n\s*", "", gin_text)
    return dict(re.findall(r"^([\w./]+) = (.+)$", whole, re.MULTILINE))


def _value(values: Mapping[str, str], name: str) -> str:
    """The value of a binding, that of the macro which it names, or ""."""
    text = values.get(name, "")
    return values.get(text[1:], text) if text.startswith("%") else text


def _entries(step_dir: pathlib.Path) -> list[Mapping[str, Any]]:
    """What `mto evaluate` has left of a step, an entry for each task."""
    path = _evaluation(step_dir) / "metrics.json"
    return read_record(path, unsigned=True)["results"] if path.is_file() else []


def _first_input(step_dir: pathlib.Path) -> str | None:
    """The first source that `mto evaluate` has asked at a step, as text."""
    for path in sorted(_evaluation(step_dir).glob("predictions-*.jsonl")):
        with path.open() as file:
            for line in file:
                return json.loads(line).get("input")
    return None


def _evaluation(step_dir: pathlib.Path) -> pathlib.Path:
    return step_dir.parent.parent / "evaluation" / step_dir.name


def _data(gin_text: str) -> list[Sequence[str]]:
    """A row for each data set that the configuration names: its scope, task, split and lengths."""
    values = _values(gin_text)
    fields = ("mixture_or_task_name", "split", "task_feature_lengths")
    suffix = f"DatasetConfig.{fields[0]}"
    scopes = [name.removesuffix(suffix) for name in values if name.endswith(suffix)]
    return [
        (
            scope.rstrip("/"),
            *(_code(_value(values, f"{scope}DatasetConfig.{field}")) for field in fields),
        )
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
