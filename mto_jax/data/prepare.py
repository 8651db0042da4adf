# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Write a SeqIO task or mixture as ArrayRecord files and a manifest, in TensorFlow.

`python -m mto_jax.data.prepare REQUEST.json` is how a process without TensorFlow has data prepared;
see `mto_jax.data.loader.ensure_all`. People use `mto prepare`.
"""

import contextlib
import dataclasses
import errno
import functools
import importlib
import json
import os
import pathlib
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import gin
import numpy as np
import rich.progress
import seqio
import tensorflow as tf

from mto_jax import errors, remote, sources
from mto_jax.console import progress_console
from mto_jax.data import manifest, shards
from mto_jax.data.dataset import DatasetConfig
from mto_jax.data.summary import PROGRESS, Summary
from mto_jax.files import digest, lock, write_record
from mto_jax.metrics import by_kind
from mto_jax.text2text import registration, registry, seqio_tasks, vocabulary

FEATURES: tuple[str, ...] = ("inputs", "targets")


# Writes a task's examples into a folder, and returns what the manifest says about them. A second
# folder, which a killed process leaves for the next, holds what is made on the way.
Write = Callable[[DatasetConfig, seqio.Task, pathlib.Path, pathlib.Path], dict]


def prepare(config: DatasetConfig, write: Write | None = None) -> manifest.Prepared:
    """Return the prepared data of `config`; written now unless a fresh copy exists.

    A folder appears under its name only when it is complete: killing this process leaves nothing
    that is read later. Of several processes that want the same data, one writes, the others wait.

    Args:
      config: of the data.
      write: writes the examples of a task; None means in this process, one after the other.

    Raises:
      UserError: no such task or split, an input file that is empty or not UTF-8, a task without
        examples, another vocabulary than the run's, no room or no right to write.
    """
    register(config)
    with _locked(config):
        prepared = manifest.find(config)
        if prepared is None:
            provider = _provider(config)
            if isinstance(provider, seqio.Mixture):
                prepared = _write_mixture(config, provider, write)
            else:
                prepared = _write_task(config, provider, write or write_examples)
    return prepared


def register(config: DatasetConfig) -> None:
    """Import everything that registers tasks: MTO-JAX's own and the user's modules."""
    registry.register_all(config.modules)
    registry.add_waiting()


def examples(
    config: DatasetConfig,
    task: seqio.Task,
    number: int = 0,
    shard: seqio.ShardInfo | None = None,
) -> Iterator[dict]:
    """Yield the examples of pass `number`, or of a shard, in a fixed order, not yet trimmed.

    Those that are too long, where the configuration leaves them out, have "too_long": 1 alone.
    """
    lengths = dict(config.task_feature_lengths)
    if config.too_long == "skip":
        lengths[seqio_tasks.SKIP_TOO_LONG] = 1
    with seqio_tasks.errors_of(task):
        dataset = task.get_dataset(
            sequence_length=lengths,
            split=config.split,
            shuffle=False,
            seed=config.seed + number,
            shard_info=shard,
            trim_output_features=False,
            try_in_mem_cache=False,
        )
        if config.limit is not None:
            dataset = dataset.take(config.limit)
        for example in dataset.as_numpy_iterator():
            if not example.pop("too_long", 0):
                yield {k: v if k in FEATURES else _plain(v) for k, v in example.items()}
            else:
                yield {"too_long": 1}


def preview(config: DatasetConfig, count: int) -> str:
    """Return the first `count` examples as text: words, ids and pieces. Writes no file."""
    register(config)
    provider = _provider(config)
    tasks = provider.tasks if isinstance(provider, seqio.Mixture) else [provider]
    vocab = vocabulary.vocabulary()
    lines = []
    for task in tasks:
        if config.split not in task.splits:
            continue
        few = dataclasses.replace(config, limit=count)
        whole = (example for example in examples(few, task) if "too_long" not in example)
        for number, example in enumerate(whole):
            lines.append(f"{task.name}, {config.split}, example {number}")
            for key in FEATURES:
                limit = config.task_feature_lengths[key]
                ids = example.pop(key).tolist()
                cut = f", trimmed to {limit}" if len(ids) > limit else ""
                names = {vocab.eos_id: "(end)"}
                pieces = [names.get(i) or vocab.decode([i]) or f"<{i}>" for i in ids]
                lines.append(f"  {key} ({len(ids)} tokens{cut}): {vocab.decode(ids)}")
                lines.append(f"    ids:    {' '.join(map(str, ids))}")
                lines.append(f"    pieces: {'|'.join(pieces)}")
            lines += [f"  {key}: {value}" for key, value in example.items()]
    return "\n".join(lines)


def _provider(config: DatasetConfig) -> seqio.Task | seqio.Mixture:
    name = config.mixture_or_task_name
    known = [*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()]
    if name in registration.DATA_SETS:
        raise errors.UserError(
            f"{name!r} is a data set without a template: name the task, such as '{name}_mapping', "
            "or give a mapping that says which template applies, mapping.tasks = "
            f"{{{name!r}: (objective, template)}} "
            "(--gin_file=mappings/expert.gin, or mapping.gin of mto match)."
        )
    if name not in known:
        raise errors.unknown("task or mixture", name, known)
    provider = seqio.get_mixture_or_task(name)
    source = getattr(provider, "source", None)
    if isinstance(source, seqio_tasks.RecordSource):
        source.data.check_split(config.split)
    if config.split not in provider.splits:
        raise errors.unknown(f"split of {name} called", config.split, provider.splits)
    return provider


def _write_mixture(
    config: DatasetConfig, mixture: seqio.Mixture, write: Write | None
) -> manifest.Prepared:
    rates, members = [], []
    for task in mixture.tasks:  # Nested mixtures come flattened.
        if config.split not in task.splits:
            print(
                f"{config.mixture_or_task_name}: {task.name} has no split {config.split!r}; left "
                "out"
            )
            continue
        try:
            rate = float(mixture.get_rate(task))
        except (TypeError, ValueError) as error:
            raise errors.UserError(
                f"The rate of {task.name} in the mixture {mixture.name} cannot be computed "
                f"({error}). A rate that counts examples needs a source with num_input_examples; "
                "give a number."
            ) from error
        if rate > 0:
            rates.append(rate)
            member = dataclasses.replace(config, mixture_or_task_name=task.name)
            members.append(prepare(member, write))
    if not members:
        raise errors.UserError(
            f"Every rate of the mixture {mixture.name} is zero: nothing to prepare."
        )
    content = {
        "kind": "mixture",
        "members": [member.path.name for member in members],
        "rates": rates,
    }
    return _commit(config, mixture, content, lambda *folders: {})


def _write_task(config: DatasetConfig, task: seqio.Task, write: Write) -> manifest.Prepared:
    seqio_tasks.check_features(task)
    _check_vocabulary(task)
    paths = _input_files(task.source, config.split)
    if isinstance(task.source, seqio.TextLineDataSource):
        for path in paths:
            check_text(path)
    content = {
        "kind": "task",
        "metrics": [by_kind.place(function) for function in task.metric_fns],
        "input_files": [manifest.describe_file(path) for path in paths],
    }
    return _commit(config, task, content, functools.partial(write, config, task))


def _code(config: DatasetConfig, provider: seqio.Task | seqio.Mixture) -> dict[str, str]:
    """Digests of the definitions that decide a task's examples or a mixture's rates."""
    tasks = registry.own_tasks()
    ours = tasks.registered_by(provider.name)
    roots = [*config.modules, *([ours] if ours else [])] or tasks.modules()
    if isinstance(provider, seqio.Task):
        roots += sources.references(list(provider.preprocessors), vars(provider.source))
    packages = manifest.packages(config)
    for line in manifest.parameters(config, sources.definitions(roots, packages)):
        module = line.partition(" = ")[0].rpartition("/")[2].rsplit(".", 2)[0]
        roots += [f"{module}:{name}" for name in re.findall(r"'(\w+)'", line)]  # chosen in gin
    return sources.definitions(roots, packages)


def _commit(
    config: DatasetConfig, provider: seqio.Task | seqio.Mixture, content: dict, write
) -> manifest.Prepared:
    """Write a folder under a temporary name, the manifest last, then give it its name."""
    code = _code(config, provider)
    made_from = {"code": code, "gin": manifest.parameters(config, code)}
    files = [f.get("sha256", f["mtime_ns"]) for f in content.get("input_files", ())]
    key = json.dumps([made_from, files, content.get("members")]).encode()
    name = manifest.prefix(config)
    folder = config.directory / f"{name}-{digest(key)[:8]}"
    parts = folder.with_name(f".{folder.name}.parts")
    for leftover in {*config.directory.glob(f".{name}-*.*")} - {parts}:
        # Of a killed process, or other sources: whoever writes holds the lock, and that is us.
        shutil.rmtree(leftover, ignore_errors=True)
    with _writing(config):
        temporary = pathlib.Path(
            tempfile.mkdtemp(prefix=f".{name}-", suffix=".tmp", dir=config.directory)
        )
    try:
        with _writing(config):
            content = {
                "task": config.mixture_or_task_name,
                "split": config.split,
                "task_feature_lengths": dict(config.task_feature_lengths),
                "vocabulary": {
                    "name": vocabulary.bound_name(),
                    "digest": vocabulary.vocabulary().digest,
                },
                "input_files": [],
                **content,
                **write(temporary, parts),
                "identity": manifest.identity(config),
                **made_from,
            }
            write_record(temporary / manifest.MANIFEST, content)
            temporary.chmod(0o755)
            if folder.exists():  # Damaged: a whole one would be in use.
                shutil.rmtree(folder)
            temporary.rename(folder)
            shutil.rmtree(parts, ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return manifest.read(folder)


def write_examples(
    config: DatasetConfig, task: seqio.Task, folder: pathlib.Path, parts: pathlib.Path
) -> dict:
    """Shards and the table of lengths; returns what the manifest says about them."""
    del parts
    summary = Summary(config, task.name, task.metric_fns)
    passes = []

    def records() -> Iterator[bytes]:
        for number in range(config.passes):
            before = summary.num_examples
            with rich.progress.Progress(*PROGRESS, console=progress_console(stderr=False)) as bar:
                of_pass = examples(config, task, number)
                description = f"{task.name} ({config.split})"
                for example in bar.track(of_pass, total=config.limit, description=description):
                    if summary.take(example):
                        yield shards.encode(example)
            passes.append(summary.num_examples - before)

    counts = shards.write(folder, records())
    np.save(folder / manifest.LENGTHS, summary.lengths())
    return described(config, task, summary, passes, counts)


def described(
    config: DatasetConfig,
    task: seqio.Task,
    summary: Summary,
    passes: list[int],
    counts: dict[str, int],
) -> dict:
    """Returns what the manifest says about examples that were written; prints a summary.

    Args:
      config: of the data.
      task: whose examples they are.
      summary: of all of them.
      passes: how many each pass has.
      counts: how many each shard has.

    Raises:
      UserError: a pass has none.
    """
    report = getattr(task.source, "report", {}).get(config.split, {})
    if not all(passes):
        raise errors.UserError(
            f"The task {task.name} gave no example for the split {config.split!r} with lengths "
            f"{dict(config.task_feature_lengths)}. Look at its source and filters, or give longer "
            f"lengths: mto prepare --preview=3 shows what it makes. {report}"
        )
    summary.show()
    return {"pass_examples": passes, "shards": counts, **summary.content(), "report": report}


def _plain(value):
    """A numpy value as msgpack takes it: text for bytes, lists for arrays."""
    if isinstance(value, np.ndarray):
        return [_plain(item) for item in value.tolist()]
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, tf.compat.v1.ragged.RaggedTensorValue):
        return _plain(value.to_list())
    return value.item() if isinstance(value, np.generic) else value


def _check_vocabulary(task: seqio.Task) -> None:
    """The task's inputs and targets are in the vocabulary of the run."""
    vocab = vocabulary.vocabulary()
    for key in FEATURES:
        other = task.output_features[key].vocabulary
        path = getattr(other, "sentencepiece_model_file", None)
        same_file = path is None or tf.io.gfile.GFile(path, "rb").read() == _read(vocab.path)
        if other.vocab_size != vocab.size or not same_file:
            raise errors.UserError(
                f"The task {task.name} tokenises {key} with a vocabulary of {other.vocab_size} ids "
                f"({path}), but this run uses {vocab.path} with {vocab.size}. Give the task "
                "output_features=vocabulary.features(vocabulary.vocabulary()), of "
                "mto_jax.text2text, or set "
                "VOCABULARY (vocabulary.name) to the task's."
            )


def _read(path: str) -> bytes:
    return pathlib.Path(path).read_bytes()


def _input_files(source: seqio.DataSource, split: str) -> list[str]:
    """Return the files that a source names: its `input_files`, or those of a SeqIO file source."""
    if isinstance(source, seqio.FileDataSource):
        files = source.list_shards(split)
    else:
        files = getattr(source, "input_files", ())
    return sorted(str(path) for path in files if os.path.isfile(path))


def check_text(path: str) -> None:
    """Raise a `UserError` that names the file, and the line, if it is empty or not UTF-8."""
    if not os.path.getsize(path):
        raise errors.UserError(f"{path} is empty; expected lines of text. Remove it or fill it.")
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                raise errors.UserError(
                    f"{path}, line {number}: byte {error.start + 1} (0x{line[error.start]:02x}) is "
                    "not UTF-8. Convert the file, for instance with: iconv -f latin1 -t utf-8."
                ) from error


@contextlib.contextmanager
def _locked(config: DatasetConfig) -> Iterator[None]:
    """Only one process at a time prepares this configuration in this folder."""
    with contextlib.ExitStack() as held:
        with _writing(config):
            config.directory.mkdir(parents=True, exist_ok=True)
            held.enter_context(lock(config.directory / f".{manifest.prefix(config)}.lock"))
        yield


@contextlib.contextmanager
def _writing(config: DatasetConfig) -> Iterator[None]:
    """Says in words that the disk is full or may not be written."""
    try:
        yield
    except errors.UserError:
        raise
    except (OSError, RuntimeError) as error:
        if getattr(error, "errno", None) == errno.ENOSPC or "No space left" in str(error):
            reason = "the disk is full"
        elif isinstance(error, OSError):
            reason = error.strerror or str(error)
        else:
            raise
        raise errors.UserError(
            f"Cannot write prepared data to {config.directory}: {reason}. Make room or choose "
            "another folder with the environment variable MTO_CACHE_DIR or "
            "DatasetConfig.prepared_dir. What was written so far is removed."
        ) from error


def bind(statements: Sequence[str]) -> None:
    """Binds gin parameters as another process has them (`manifest.bindings`)."""
    for statement in dict.fromkeys(statements):
        name = statement.partition(" = ")[0].rpartition("/")[2]
        importlib.import_module(name.rsplit(".", 2)[0])  # Makes the configurable known.
        gin.parse_config(statement)


def main(request: str) -> None:
    """Prepare what a file asks for.

    It holds {"datasets": [fields of a DatasetConfig, ...], "later": the same, "gin": statements}.
    """
    content = json.loads(pathlib.Path(request).read_text())
    configs, later = (
        [DatasetConfig(**fields) for fields in content[key]] for key in ("datasets", "later")
    )
    try:
        bind(content["gin"])
        for config in (*configs, *later):  # before anything is written
            register(config)
            _provider(config)
        for config in configs:
            prepare(config)
        remote.publish()
    except errors.UserError as error:
        errors.fail(error)


if __name__ == "__main__":
    main(sys.argv[1])
