# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The library of adapters: a list, details, words near to soft tokens, similarities.

  mto prompts list runs
  mto prompts show runs/prompts/xIntent
  mto prompts nearest runs/prompts/xIntent [--base=hf://google/t5-v1_1-base] [--top=5]
  mto prompts similarity runs/prompts [--figure=similarity.png]

A DIR is an adapter folder (of `mto`, or of Hugging Face PEFT), the .npy file of a prompt, or a
folder that has such folders somewhere in it.
"""

import dataclasses
import os
import pathlib
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gin
import matplotlib.figure
import numpy as np
import rich.box
import rich.console
import rich.table
import rich.text
import scipy.optimize

from mto_jax import checkpoints, checks, errors
from mto_jax.checkpoints import peft
from mto_jax.console import folding_table, wide
from mto_jax.errors import UserError
from mto_jax.files import write_atomically
from mto_jax.pictures import encode, styled
from mto_jax.text2text.vocabulary import Vocabulary


@dataclasses.dataclass(frozen=True)
class Prompt:
    """The rows of a prompt, its name in tables, and its description by `peft.load_adapter`."""

    name: str
    path: pathlib.Path
    table: np.ndarray  # [P, D]
    description: Mapping[str, Any]


def add_flags(parser) -> None:
    parser.add_argument("action", metavar="|".join(ACTIONS), help="what to do")
    parser.add_argument(
        "folders", metavar="DIR", nargs="+", help="adapters, or folders that have some in them"
    )
    parser.add_argument(
        "--base", metavar="PATH", help="nearest: the model whose words are searched"
    )
    parser.add_argument("--top", type=int, metavar="N", help="nearest: words for each soft token")
    parser.add_argument("--figure", metavar="FILE.png", help="similarity: the figure to write")


@gin.configurable
def prompts(
    action: str,
    folders: Sequence[str],
    base: checks.Place | None = None,
    top: checks.Count = 5,
    figure: checks.Name = "similarity.png",
) -> None:
    """Print what `action` asks of the adapters in `folders`.

    Args:
      action: "list" them; "show" all that is known of each; "nearest": the words of the vocabulary
        that each soft token is nearest to, by cosine; "similarity": cosines between prompts, of
        their means and of their rows aligned as well as can be.
      folders: adapter folders, .npy files, or folders that have adapter folders somewhere in them.
      base: of nearest: the model whose embedding and vocabulary are searched; by default the one
        that the prompt was trained on.
      top: of nearest: words for each soft token.
      figure: of similarity: the PNG file to write.

    Raises:
      UserError: no adapter there, or (but for "list") a damaged one; prompts of different widths; a
        base that is not there, or is none of the prompt's.
    """
    checks.check(prompts, locals())
    if action not in ACTIONS:
        raise errors.unknown("action of `mto prompts` called", action, ACTIONS)
    paths = list(dict.fromkeys(path for folder in folders for path in find(folder)))
    options = {"base": base, "top": top, "figure": pathlib.Path(figure)}
    ACTIONS[action](paths, options, wide(highlight=False))


def find(folder: str | os.PathLike) -> list[pathlib.Path]:
    """`folder` if it is an adapter, else the adapter folders in it, in order.

    Raises:
      UserError: there is none.
    """
    place = pathlib.Path(folder).expanduser()
    if place.is_file() or peft.is_adapter(place):
        return [place]
    if not place.is_dir():
        raise UserError(f"{folder} is not there.")
    folders = {path.parent for name in (peft.OWN, peft.CONFIG) for path in place.rglob(name)}
    # A folder that is being written has a name with a dot in front.
    shown = [path for path in folders if not path.name.startswith(".")]
    if not shown:
        raise UserError(
            f"There is no adapter in {folder}: no folder in it has a file {peft.OWN} or "
            f"{peft.CONFIG}."
        )
    return sorted(shown)


def _short(paths: Sequence[pathlib.Path]) -> list[str]:
    """The parts of the paths, cut at slashes and hyphens, that not all have at their place.

    >>> _short([pathlib.Path(f"runs/{t}-PrePT-prompt3-seed0") for t in ("uses", "places")])
    ['uses', 'places']
    """
    split = [re.split(r"([/-])", str(path)) for path in paths]
    if len({*map(len, split)}) > 1:
        folder = os.path.commonpath(paths)
        return [os.path.relpath(path, folder) for path in paths]
    differ = [len({*column}) > 1 for column in zip(*split, strict=True)]
    names = [[part for part, keep in zip(parts, differ, strict=True) if keep] for parts in split]
    return ["-".join(parts) or str(path) for parts, path in zip(names, paths, strict=True)]


# ---- list and show ----------------------------------------------------------------------------


def _list(paths: Sequence[pathlib.Path], options, console: rich.console.Console) -> None:
    table = folding_table(["adapter", "what", "task", "template", "base", "score"])
    for path in paths:
        try:
            adapters, _, description = peft.load_adapter(path)
            score = _score(description)
        except UserError as error:  # the others are still worth a look
            print(f"error: {error}", file=sys.stderr)
            _add(table, path, "cannot be read, see above")
            continue
        base = (description.get("base") or {}).get("path")
        names = (description.get("task"), description.get("template"), base)
        _add(table, path, adapters.label, *(name or "" for name in names), score)
    console.print(table)


def _score(description: Mapping[str, Any]) -> str:
    """Returns the metrics on held-out records and the dev values and scores of "info"."""
    info = description.get("info") or {}
    numbers = {**info, **(info.get("course") or {})}
    shown = {k: v for k, v in numbers.items() if "dev" in k or "score" in k}
    shown = {**(info.get("held_out") or {}), **shown}
    return ", ".join(f"{k} {v:.4g}" for k, v in shown.items() if isinstance(v, int | float))


def _add(table: rich.table.Table, *cells: Any) -> None:
    table.add_row(*(rich.text.Text(str(cell)) for cell in cells))  # names are never read as markup


def _show(paths: Sequence[pathlib.Path], options, console: rich.console.Console) -> None:
    texts = [peft.inspect(path) for path in paths]
    console.print("\n\n".join(texts), markup=False, soft_wrap=True)


# ---- nearest and similarity -------------------------------------------------------------------


def read(paths: Sequence[pathlib.Path]) -> list[Prompt]:
    """The prompts at `paths`, each with its own name; other adapters are left out with a notice.

    Raises:
      UserError: none has a prompt, or their widths differ.
    """
    loaded: list[tuple[pathlib.Path, np.ndarray, Mapping[str, Any]]] = []
    for path in paths:
        adapters, parameters, description = peft.load_adapter(path)
        table = adapters.prompt_table(parameters)
        if table is not None:
            loaded.append((path, table, description))
        else:
            print(f"{path} has no prompt ({adapters.label}): left out", file=sys.stderr)
    if not loaded:
        raise UserError(f"There is no soft prompt in {', '.join(map(str, paths))}.")
    tasks = [description.get("task") or path.stem for path, _, description in loaded]
    names = tasks if len({*tasks}) == len(tasks) else _short([path for path, _, _ in loaded])
    loaded_prompts = [Prompt(name, *each) for name, each in zip(names, loaded, strict=True)]
    first = loaded_prompts[0]
    for other in loaded_prompts:
        if other.table.shape[1] != first.table.shape[1]:
            raise UserError(
                f"{first.path} has rows of width {first.table.shape[1]}, {other.path} of width "
                f"{other.table.shape[1]}: they belong to different models. Name prompts of one "
                "model."
            )
    return loaded_prompts


def _nearest(paths: Sequence[pathlib.Path], options, console: rich.console.Console) -> None:
    models: dict[str, tuple[np.ndarray, Vocabulary]] = {}
    for prompt in read(paths):
        base = checkpoints.base_checkpoint() or (prompt.description.get("base") or {}).get("path")
        place = options["base"] or base
        if not place:
            raise UserError(
                f"{prompt.path} does not tell on which model it was trained: give it as "
                "--base=PATH."
            )
        if place not in models:
            models[place] = _words(place)
        embedding_VxD, vocabulary = models[place]
        if vocabulary.digest != prompt.description.get("vocabulary", vocabulary.digest):
            raise UserError(
                f"{prompt.path} was trained with another vocabulary than that of {place}."
            )
        if embedding_VxD.shape[1] != prompt.table.shape[1]:
            raise UserError(
                f"{prompt.path} has rows of width {prompt.table.shape[1]}, but the model {place} "
                f"has d_model {embedding_VxD.shape[1]}. Give the model that it belongs to as "
                "--base=PATH."
            )
        near = nearest(prompt.table, embedding_VxD, options["top"])
        norms = np.linalg.norm(prompt.table, axis=1)
        title = f"{prompt.name} ({prompt.path})"
        table = folding_table(["row", "norm", "nearest words and their cosines"], title)
        for i, (norm, words) in enumerate(zip(norms, near, strict=True)):
            text = "  ".join(f"{vocabulary.piece(token)} {cosine:.2f}" for token, cosine in words)
            _add(table, i, f"{norm:.3g}", text)
        console.print(table)


def _words(place: str) -> tuple[np.ndarray, Vocabulary]:
    """The embedding [V, D] of the ids that stand for something, and the vocabulary, of a model."""
    checkpoint = checkpoints.open_base(place)
    vocabulary = checkpoint.find_vocabulary()[1]
    return checkpoint.tensors()["embedding"].whole()[: vocabulary.size], vocabulary


def nearest(
    table_PxD: np.ndarray, embedding_VxD: np.ndarray, top: int
) -> list[list[tuple[int, float]]]:
    """For each row the ids of the `top` words nearest to it, and their cosines, best first."""
    cosines_PxV = unit(table_PxD) @ unit(embedding_VxD).T
    ids_Pxn = np.argsort(-cosines_PxV, axis=1, kind="stable")[:, :top]
    return [
        [(int(i), float(c[i])) for i in ids] for ids, c in zip(ids_Pxn, cosines_PxV, strict=True)
    ]


def unit(x_NxD: np.ndarray) -> np.ndarray:
    """The rows at length one; rows of zeros stay."""
    return x_NxD / np.maximum(np.linalg.norm(x_NxD, axis=1, keepdims=True), 1e-30)


def _similarity(paths: Sequence[pathlib.Path], options, console: rich.console.Console) -> None:
    loaded = read(paths)
    if len(loaded) < 2:
        raise UserError(f"Similarity needs two prompts or more; there is only {loaded[0].path}.")
    maps = similarities([prompt.table for prompt in loaded])
    names = [prompt.name for prompt in loaded]
    numbers = [str(number) for number in range(1, len(names) + 1)]
    table = folding_table(["", "name"], "prompts")
    for number, name in zip(numbers, names, strict=True):
        _add(table, number, name)
    console.print(table)
    for title, values_NxN in maps.items():
        table = folding_table(["", *numbers], f"cosine of {title}")
        table.box, table.padding = rich.box.SIMPLE_HEAD, (0, 1, 0, 0)  # many columns fit
        for number, values_N in zip(numbers, values_NxN, strict=True):
            _add(table, number, *(f"{value:.2f}" for value in values_N))
        console.print(table)
    target = options["figure"]
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, encode(draw(names, maps), "png"))
    console.print(f"wrote {target}", markup=False, soft_wrap=True)


def similarities(tables: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Cosines between N prompts, [N, N] each, by what is compared.

    "means of the rows"; "rows, aligned": each row of the shorter prompt with a row of its own of
    the longer, so that the mean cosine is greatest (Hungarian method).
    """
    means_NxD = unit(np.stack([table.mean(axis=0) for table in tables]))
    rows = [unit(table) for table in tables]
    aligned_NxN = np.eye(len(tables))
    for i, a_PxD in enumerate(rows):
        for j in range(i + 1, len(rows)):
            cosines_PxQ = a_PxD @ rows[j].T
            pairs = scipy.optimize.linear_sum_assignment(cosines_PxQ, maximize=True)
            aligned_NxN[i, j] = aligned_NxN[j, i] = cosines_PxQ[pairs].mean()
    return {"means of the rows": means_NxD @ means_NxD.T, "rows, aligned": aligned_NxN}


@styled
def draw(names: Sequence[str], maps: Mapping[str, np.ndarray]) -> matplotlib.figure.Figure:
    """A panel for each map, with the values where there is room for them.

    The rows have numbers and names, the columns numbers.
    """
    N, room = len(names), 0.09 * max(map(len, names))
    side = 1.0 + 0.42 * max(N, 5)  # room for the titles
    size = (len(maps) * side + room + 1, side)
    picture = matplotlib.figure.Figure(figsize=size, layout="constrained")
    panels = picture.subplots(1, len(maps), sharey=True)
    for panel, (title, values_NxN) in zip(panels, maps.items(), strict=True):
        image = panel.imshow(values_NxN, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
        panel.set_title(title)
        panel.spines[:].set_visible(False)
        panel.set_xticks(range(N), range(1, N + 1))
        panel.set_yticks(range(N), [f"{name}  {i}" for i, name in enumerate(names, 1)])
        for i, j in np.ndindex(N, N) if N <= 20 else ():
            value = values_NxN[i, j]
            colour = "white" if abs(value) > 0.6 else "black"
            panel.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour)
    picture.colorbar(image, ax=panels, label="cosine")
    return picture


ACTIONS: dict[str, Callable] = {
    "list": _list,
    "show": _show,
    "nearest": _nearest,
    "similarity": _similarity,
}
