# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Executes the notebooks: `make notebooks`, after `make quickstart`.

Those that name a model of the hub get the quickstart's, as nothing is downloaded.
"""

import argparse
import pathlib
import shutil
import sys
import tempfile
import time

import nbclient
import nbformat

ROOT = pathlib.Path(__file__).parents[1]
MODEL = "runs/quickstart/pretrain"
LIMIT = 600  # seconds of a cell; on an idle machine a notebook takes well under three minutes


def execute(path: pathlib.Path, folder: pathlib.Path, model: pathlib.Path) -> list[str]:
    """Returns what the cells of a notebook print, executed in `folder` with this model."""
    text = path.read_text()
    for name in (MODEL, "hf://google/flan-t5-small"):
        text = text.replace(f'MODEL = \\"{name}\\"', f'MODEL = \\"{model}\\"')
    if str(model) not in text:
        raise SystemExit(f"{path} has no line MODEL = ... that this script knows")
    notebook = nbformat.reads(text, as_version=4)
    where = {"metadata": {"path": str(folder)}}
    nbclient.NotebookClient(notebook, timeout=LIMIT, resources=where).execute()
    cells = (cell for cell in notebook.cells if cell.cell_type == "code")
    outputs = (output for cell in cells for output in cell.outputs)
    texts = (output.get("text") or output.get("data", {}).get("text/plain") for output in outputs)
    return [text for text in texts if text]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=pathlib.Path, default=ROOT / MODEL)
    model = parser.parse_args().model.resolve()
    if not model.is_dir():
        sys.exit(f"{model} is not there: run `make quickstart` first, or name a model by --model.")
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        start, folder = time.monotonic(), pathlib.Path(tempfile.mkdtemp())
        try:
            texts = execute(path, folder, model)
        finally:
            shutil.rmtree(folder)
        print(f"{path.name}: {time.monotonic() - start:.0f} s", *texts, sep="\n", flush=True)


if __name__ == "__main__":
    main()
