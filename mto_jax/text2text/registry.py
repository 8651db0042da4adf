# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Sources under objectives, and mixtures, in SeqIO's registries; a later one of a name replaces it.

For data that a run may define, such as corpora and pairs (records:
`mto_jax.text2text.registration`). No TensorFlow before a function is called.
"""

import re
from collections.abc import Iterable, Mapping

from mto_jax.errors import UserError, unknown
from mto_jax.text2text import text_files
from mto_jax.text2text.objectives import OBJECTIVES, preprocessor
from mto_jax.text2text.vocabulary import features, vocabulary

_ours: set[str] = set()  # what was registered here, and so may be replaced


def register_text(name: str, path: str, format: str = "lines") -> None:
    """Register tasks `<name>_<objective>` over a text file or a folder of .txt and .txt.gz files.

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
    register_corpus(
        name, text_files.source(lambda: text_files.read_documents(files, format), files)
    )


def register_corpus(name: str, source) -> None:
    """Register tasks `<name>_<objective>` over a SeqIO source of the string feature `text`.

    Also the mixture `<name>_pretrain`, half span corruption, half prefix LM: what a T5 that is to
    be matched to tasks wants to have seen.

    Raises:
      UserError: a task of that name holds other than a corpus or pairs.
    """
    add_objectives(
        name, source, [key for key, row in OBJECTIVES.items() if row.fields == ("text",)]
    )
    halves = (f"{name}_span_corruption", f"{name}_prefix_lm")
    add_mixture(f"{name}_pretrain", dict.fromkeys(halves, 1.0))


def add_objectives(name: str, source, objectives: Iterable[str]) -> list[str]:
    """Register a SeqIO source under objectives, `<name>_<objective>`; returns the tasks' names.

    Raises:
      UserError: a task of that name holds other than a corpus or pairs.
    """
    import seqio

    output_features = features(vocabulary())
    tasks = []
    for objective in objectives:
        tasks.append(f"{name}_{objective}")
        _make_room(seqio.TaskRegistry, tasks[-1])
        seqio.TaskRegistry.add(
            tasks[-1],
            source=source,
            preprocessors=[preprocessor(objective)],
            output_features=output_features,
        )
    return tasks


def add_mixture(name: str, rates: Mapping[str, float]) -> None:
    """Register a mixture of tasks that are registered already: {task: rate}.

    Raises:
      UserError: there is a mixture of that name from elsewhere.
    """
    import seqio

    _make_room(seqio.MixtureRegistry, name)
    seqio.MixtureRegistry.add(name, list(rates.items()))


def _make_room(registry, name: str) -> None:
    if name not in _ours and name in registry.names():
        raise UserError(
            f"There is already a task or mixture '{name}' of other data. Task names must differ: "
            "give this corpus, or these pairs, another name."
        )
    registry.remove(name)
    _ours.add(name)
