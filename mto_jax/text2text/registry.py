# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Additions to SeqIO's registries, put off until SeqIO is imported; imports of what registers.

Records (`mto_jax.text2text.registration`), corpora and pairs are registered without TensorFlow.
What SeqIO is to know of them is added at once where SeqIO is imported, and otherwise by
`add_waiting`, before data are prepared.
"""

import functools
import importlib
import os
import re
import sys
import types
from collections.abc import Callable, Iterable, Mapping, Sequence

import gin

from mto_jax import sources
from mto_jax.errors import UserError, unknown
from mto_jax.text2text import text_files
from mto_jax.text2text.objectives import OBJECTIVES
from mto_jax.text2text.preprocessing import preprocessor
from mto_jax.text2text.vocabulary import features, vocabulary

ADDED: set[str] = set()  # tasks and mixtures that were added here, and so may be replaced
CORPORA: set[str] = set()  # texts that are registered under objectives
_waiting: dict[str, Callable[[], object]] = {}


def with_seqio(name: str, add: Callable[[], object]) -> None:
    """Calls `add` now if SeqIO is imported, else puts it off, in place of an earlier one."""
    if "seqio" in sys.modules:
        add()
    else:
        _waiting[name] = add


def add_waiting() -> None:
    """Imports SeqIO and adds to its registries what was put off."""
    _be_silent()
    import seqio  # noqa: F401

    while _waiting:
        _waiting.pop(next(iter(_waiting)))()


def register_text(name: str, path: str, format: str = "lines") -> None:
    """Registers tasks `<name>_<objective>` over a text file or a folder of .txt and .txt.gz files.

    Args:
      name: letters, digits and underscores.
      path: a file (.gz is unpacked) or folder. Its content is read when a task is prepared.
      format: "lines", one document per line, or "paragraphs", separated by blank lines.

    Raises:
      UserError: a wrong name or format, or no such path.
    """
    if not re.fullmatch(r"\w+", name):
        raise UserError(f"A corpus cannot be called {name!r}: use letters, digits and underscores.")
    if format not in text_files.FORMATS:
        raise unknown("format of text files", format, text_files.FORMATS)
    files = text_files.text_files(path)
    documents = functools.partial(text_files.read_documents, files, format)

    def of_file(file: str) -> Iterable[bytes]:
        return text_files.read_documents([file], format)

    register_corpus(name, functools.partial(text_files.source, documents, files, of_file))


def register_corpus(name: str, source: Callable) -> None:
    """Registers tasks `<name>_<objective>` over a SeqIO source of the string feature `text`.

    Also the mixture `<name>_pretrain`, half span corruption, half prefix LM: what a T5 that is to
    be matched to tasks wants to have seen.

    Args:
      name: of the corpus.
      source: makes the source; called where SeqIO is imported.

    Raises:
      UserError: a task of that name holds other than a corpus or pairs.
    """
    add_objectives(
        name, source, [key for key, row in OBJECTIVES.items() if row.fields == ("text",)]
    )
    CORPORA.add(name)
    halves = (f"{name}_span_corruption", f"{name}_prefix_lm")
    add_mixture(f"{name}_pretrain", dict.fromkeys(halves, 1.0))


def add_objectives(name: str, source: Callable, objectives: Iterable[str]) -> list[str]:
    """Registers a corpus under objectives, `<name>_<objective>`; returns the tasks' names.

    Args:
      name: of the corpus.
      source: makes its `seqio.DataSource`; called where SeqIO is imported.
      objectives: names of `objectives.OBJECTIVES`.

    Raises:
      UserError: a task of that name holds other than a corpus or pairs.
    """
    tasks = {f"{name}_{objective}": objective for objective in objectives}

    def add() -> None:
        import seqio

        data, output_features = source(), features(vocabulary())
        for task, objective in tasks.items():
            _make_room(seqio.TaskRegistry, task)
            seqio.TaskRegistry.add(
                task,
                source=data,
                preprocessors=[preprocessor(objective)],
                output_features=output_features,
            )

    with_seqio(f"objectives of {name}", add)
    return [*tasks]


def add_mixture(name: str, rates: Mapping[str, float]) -> None:
    """Registers a mixture of tasks that are registered already: {task: rate}.

    Raises:
      UserError: an unknown task, or there is a mixture of that name from elsewhere.
    """

    def add() -> None:
        import seqio

        known = [*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()]
        for task in rates:
            if task not in known:
                raise unknown(f"task of the mixture {name}", task, known)
        _make_room(seqio.MixtureRegistry, name)
        seqio.MixtureRegistry.add(name, list(rates.items()))

    with_seqio(f"mixture {name}", add)


def _make_room(seqio_registry, name: str) -> None:
    if name not in ADDED and name in seqio_registry.names():
        raise UserError(
            f"There is already a task or mixture '{name}' of other data. Task names must differ: "
            "give this corpus, or these pairs, another name."
        )
    seqio_registry.remove(name)
    ADDED.add(name)


# ---- What registers ---------------------------------------------------------------------------


def module_names(modules: str | None) -> list[str]:
    """The names in a comma-separated list of the user's modules."""
    return [name.strip() for name in (modules or "").split(",") if name.strip()]


def register_all(modules: Sequence[str] = ()) -> None:
    """Imports everything that registers tasks: `mto_jax.tasks` and the user's modules.

    TensorFlow, where a user's module imports it, sees no accelerator: these are the trainer's.

    Raises:
      UserError: there is no such module.
    """
    if os.getcwd() not in sys.path:  # The script `mto` does not look here by itself.
        sys.path.append(os.getcwd())
    source = b"".join(sources.find_module(name).read_bytes() for name in modules)
    for library in ("tensorflow", "seqio"):  # first, so that the module's mixtures find our tasks
        if re.search(rf"^\s*(import|from) {library}\b".encode(), source, re.MULTILINE):
            _be_silent()
            importlib.import_module(library)
    _hide_accelerators()
    with gin.unlock_config():  # Modules may hold configurables of their own.
        own_tasks().register_all(modules)
    _hide_accelerators()


def own_tasks() -> types.ModuleType:
    """Returns `mto_jax.tasks`, which no other module imports: a plug-in, like the user's."""
    return importlib.import_module("mto_jax.tasks")


def _be_silent() -> None:
    """Keeps what TensorFlow says of its build and of devices out of logs, unless it is loaded."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def _hide_accelerators() -> None:
    if "tensorflow" in sys.modules:
        sys.modules["tensorflow"].config.set_visible_devices([], "GPU")
