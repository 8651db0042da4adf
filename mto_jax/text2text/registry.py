# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Sources under objectives, and mixtures, in SeqIO's registries; the same name again replaces the earlier one.

For data that a run may define anew, such as corpora and pairs (records: `mto_jax.text2text.registration`). No
TensorFlow before a function is called.
"""

from collections.abc import Iterable, Mapping

from mto_jax.errors import UserError
from mto_jax.text2text.objectives import preprocessor
from mto_jax.text2text.vocabulary import features, vocabulary

_ours: set[str] = set()  # what was registered here, and so may be replaced


def add_objectives(name: str, source, objectives: Iterable[str]) -> list[str]:
    """Registers a SeqIO source under objectives, `<name>_<objective>`; returns the tasks' names.

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
    """Registers a mixture of tasks that are registered already: {task: rate}.

    Raises:
      UserError: there is a mixture of that name from elsewhere.
    """
    import seqio

    _make_room(seqio.MixtureRegistry, name)
    seqio.MixtureRegistry.add(name, list(rates.items()))


def _make_room(registry, name: str) -> None:
    if name not in _ours and name in registry.names():
        raise UserError(
            f"There is already a task or mixture '{name}' of other data. Task names must differ: give this "
            "corpus, or these pairs, another name."
        )
    registry.remove(name)
    _ours.add(name)
