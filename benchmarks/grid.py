# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
r"""A grid of 24 cells by `mto tables`, against the same cells as Hugging Face runs, a process each.

  python benchmarks/grid.py --model=runs/quickstart/pretrain \
    [--method=fine_tune|prompt_tune] [--peers=3]

Wall time from the first command to the last result, start of Python, imports and compilation
included on both sides. The grid is one command in an empty folder, without a compilation cache. A
peer is a process of its own, as the authors ran their cells: it loads the same weights (converted
beforehand), trains on the same token ids for as many epochs with Adafactor (with PEFT's prompt
tuning for prompts), and decodes the same test heads greedily. `--peers` of the 24 are run, and the
sum is reckoned from their mean. Targets: 5 times for fine-tuning, 10 times for prompts.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

TASKS = ["demo_AtLocation", "demo_ObjectUse", "demo_xIntent", "demo_xNeed"]
SEEDS = [0, 1, 2]
TEMPLATES = {
    "fine_tune": ["Prompting", "MaskedPrompting"],
    "prompt_tune": ["PrePT", "MaskedPrePT"],
}
EPOCHS = {"fine_tune": 5, "prompt_tune": 15}
RATES = {"fine_tune": 1e-4, "prompt_tune": 0.1}
LENGTHS = {"inputs": 64, "targets": 16}
BATCH_SIZE = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="a run of the demo's vocabulary", required=True)
    parser.add_argument("--method", choices=sorted(TEMPLATES), default="fine_tune")
    parser.add_argument("--peers", type=int, default=3)
    parser.add_argument("--peer_cell", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer_cell:
        peer(pathlib.Path(arguments.model), json.loads(arguments.peer_cell), arguments.method)
        return
    cells = len(TASKS) * len(SEEDS) * len(TEMPLATES[arguments.method])
    with tempfile.TemporaryDirectory() as folder:
        ours = grid(arguments.model, arguments.method, pathlib.Path(folder))
        each = peers(arguments.model, arguments.method, arguments.peers, pathlib.Path(folder))
    print(f"{cells} cells, {arguments.method}")
    print(f"mto tables: {ours:.1f} s in all")
    print(
        f"Hugging Face, a process a cell: {each:.1f} s each (mean of {arguments.peers}), "
        f"{cells * each:.1f} s in all"
    )
    print(f"ratio {cells * each / ours:.1f}")


def grid(model: str, method: str, folder: pathlib.Path) -> float:
    """Seconds of the whole grid."""
    bindings = {
        "MODEL": repr(model),
        "OUTPUT_DIR": repr(str(folder / "grid")),
        "STAGES_DIR": repr(str(folder / "stages")),
        "TASK_FEATURE_LENGTHS": LENGTHS,
        "Grid.objective": ["none"],
        "Grid.template": TEMPLATES[method],
        "Grid.task": TASKS,
        "Grid.method": [method],
        "Grid.baseline": {},
        "FewShot.prompt_encoder": "table",
        "fine/Tuning.epochs": EPOCHS["fine_tune"],
        "fine/Tuning.batch_size": BATCH_SIZE,
        "MultiAdapterTuning.epochs": EPOCHS["prompt_tune"],
        "MultiAdapterTuning.batch_size": BATCH_SIZE,
        "tables.tables": "[@main/Table()]",
        "tables.figures": "[]",
    }
    flags = [f"--gin.{name}={value}" for name, value in bindings.items()]
    command = [
        sys.executable,
        "-m",
        "mto_jax.cli",
        "tables",
        "--gin_file=tables/demo.gin",
        *flags,
    ]
    cache = {"JAX_COMPILATION_CACHE_DIR": str(folder / "xla")}
    start = time.perf_counter()
    subprocess.run(command, check=True, env=os.environ | cache, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def peers(model: str, method: str, count: int, folder: pathlib.Path) -> float:
    """Seconds of a peer's process, the mean of `count`."""
    from mto_jax import checkpoints
    from mto_jax.checkpoints.export import save_huggingface
    from mto_jax.text2text.record_sets import Wanted, read
    from mto_jax.text2text.task import Task, tokenise
    from mto_jax.text2text.templates import TEMPLATES as KNOWN
    from mto_jax.text2text.tokenising import SoftPrompt
    from mto_jax.training import state

    checkpoint = checkpoints.open(model)
    vocabulary = checkpoint.adopt_vocabulary()
    t5 = checkpoint.model(vocabulary)
    save_huggingface(state.by_name(t5), t5.config, folder / "hf")
    wanted = [Wanted(TASKS[0], "train", 30), Wanted(TASKS[0], "test", None)]
    train, test = read(wanted)
    task = Task(TASKS[0], train.kind, train.wording, train.records, test.records)
    template = KNOWN[TEMPLATES[method][0]]
    soft = SoftPrompt(length=10, first_row=0, shared_row=10)
    texts = {
        name: tokenise(template, records, task, vocabulary, LENGTHS, soft=soft)
        for name, records in (("train", train.records), ("test", test.records))
    }
    # PEFT puts its virtual tokens before the source by itself.
    first_soft = vocabulary.soft_id(0)
    cell = {
        name: [([i for i in ids if i < first_soft], targets) for ids, targets in examples]
        for name, examples in texts.items()
    }
    data = folder / "cell.json"
    data.write_text(json.dumps(cell))
    command = [sys.executable, __file__, f"--model={folder / 'hf'}", f"--method={method}"]
    start = time.perf_counter()
    for _ in range(count):
        subprocess.run([*command, f"--peer_cell={json.dumps(str(data))}"], check=True)
    return (time.perf_counter() - start) / count


def peer(model: pathlib.Path, data: str, method: str) -> None:
    """One cell by Transformers: load, train, decode."""
    import torch
    import transformers

    torch.manual_seed(0)
    cell = json.loads(pathlib.Path(data).read_text())
    network = transformers.AutoModelForSeq2SeqLM.from_pretrained(model)
    if method == "prompt_tune":
        import peft

        prompts = peft.PromptTuningConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=10)
        network = peft.get_peft_model(network, prompts)
    trained = [value for value in network.parameters() if value.requires_grad]
    optimizer = transformers.Adafactor(
        trained, lr=RATES[method], relative_step=False, scale_parameter=False
    )

    def rows(examples, side: int, padding: int):
        longest = max(len(example[side]) for example in examples)
        padded = [ex[side] + [padding] * (longest - len(ex[side])) for ex in examples]
        return torch.tensor(padded)

    for _ in range(EPOCHS[method]):
        order = torch.randperm(len(cell["train"])).tolist()
        for start in range(0, len(order), BATCH_SIZE):
            batch = [cell["train"][i] for i in order[start : start + BATCH_SIZE]]
            inputs, labels = rows(batch, 0, 0), rows(batch, 1, -100)
            loss = network(input_ids=inputs, attention_mask=(inputs > 0).long(), labels=labels).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    network.eval()
    with torch.inference_mode():
        for start in range(0, len(cell["test"]), 32):
            inputs = rows(cell["test"][start : start + 32], 0, 0)
            network.generate(
                input_ids=inputs,
                attention_mask=(inputs > 0).long(),
                max_new_tokens=LENGTHS["targets"],
                do_sample=False,
            )


if __name__ == "__main__":
    main()
