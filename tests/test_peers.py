# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Two processes, joined over loopback: each does its part, and one that dies is named."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import pytest

from mto_jax import peers
from mto_jax.text2text import vocabulary as vocabularies
from tests import xla
from tests.decoding import tiny

WORDS = ["cut", "draw", "eat", "sit", "sleep", "read", "write", "dig", "sew", "cook"]
ROOT = pathlib.Path(__file__).parents[1]

# Says how many sources each process decoded; trains, evaluates, and has one process more to wait.
WORK = """
import json, pathlib, sys

from mto_jax import peers

folder, count = pathlib.Path(sys.argv[3]), int(sys.argv[4])
if count > 1:
    peers.join(f"localhost:{sys.argv[1]}", count, int(sys.argv[2]))

from mto_jax.commands.evaluate import evaluate
from mto_jax.data import loader
from mto_jax.data.dataset import DatasetConfig
from mto_jax.decoding.generation import Decoding
from mto_jax.evaluation import evaluator
from tests import tiny_run

decoded = 0
predict = evaluator.predict

def counted(model, examples, *arguments, **options):
    global decoded
    decoded += len(examples)
    return predict(model, examples, *arguments, **options)

evaluator.predict = counted
dev = DatasetConfig("dev", tiny_run.LENGTHS)
metrics = tiny_run.run(
    folder / f"data{sys.argv[2]}", model_dir=str(folder / "run"), eval_datasets=[dev],
    best_metric="dev/dev/exact_match", eval_period=3,
)
during, decoded = decoded, 0
prepared = {n: tiny_run.write_task(folder / f"data{sys.argv[2]}", n, 0) for n in ("dev", "reverse")}
loader.ensure_all = lambda configs: [prepared[c.mixture_or_task_name] for c in configs]
both = [dev, DatasetConfig("reverse", tiny_run.LENGTHS)]
(results,) = evaluate(
    model_dir=str(folder / "run"), datasets=both, decoding=Decoding.from_dict({"max_length": 8})
).values()
rows = [row for result in results for row in result.rows]
print(json.dumps({
    "metrics": {n: v for n, v in metrics.items() if n.startswith("dev/")},
    "during": during, "decoded": decoded,
    "values": [result.values() for result in results],
    "predictions": [(row.get("raw_prediction"), row["log_likelihood"]) for row in rows],
}))
"""

# Runs verbs, and says how much of the work was done in this process.
VERBS = """
import collections, json, os, sys

import gin

port, index, folder, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
os.chdir(folder)
os.environ["MTO_CACHE_DIR"] = os.path.join(folder, "cache")

from mto_jax import cli
from mto_jax.commands import infer
from mto_jax.experiments import engine
from mto_jax.matching import probe

done = collections.Counter()

def count_in(module, name, size):
    function = getattr(module, name)

    def counted(*arguments, **options):
        done[f"{module.__name__}.{name}"] += size(*arguments)
        return function(*arguments, **options)

    setattr(module, name, counted)

count_in(infer, "decode", lambda model, sources, *rest: len(sources))
count_in(probe, "ask", lambda *rest: 1)
count_in(engine, "settle", lambda runner, cells, *rest: len(cells))

hosts = [f"--coordinator_address=localhost:{port}", f"--process_count={count}"]
hosts = [*hosts, f"--process_index={index}"] if count > 1 else []
data = ["--gin.MIXTURE_OR_TASK_MODULE=uses_of_two"]
data += ["--gin.TASK_FEATURE_LENGTHS={'inputs': 16, 'targets': 8}"]
few = ["--gin.INITIAL_CHECKPOINT_PATH=run", "--gin.VOCABULARY=demo"]
for verb, *flags in (
    ("infer", "--gin.MODEL_DIR=run", "--gin.VOCABULARY=demo", "--task=two",
     "--template=Prompting", "--input_file=in.txt",
     "--output_file=out.jsonl", "--gin.Decoding.max_length=4", "--gin.infer.module=uses_of_two"),
    ("match", "--gin_file=runs/match_template.gin", "--gin.TASKS=['two']", "--gin.SHOTS=2",
     "--gin.match.seeds=1", "--gin.OUTPUT_DIR=match", "--gin.match.examples=(0,)", *data, *few),
    ("tables", "--gin_file=tables/grid.gin", "--gin.OUTPUT_DIR=grid", "--gin.MODELS={'m': 'run'}",
     "--gin.Grid.name=two", "--gin.Grid.metric=rougeL", "--gin.Grid.model=['m']",
     "--gin.Grid.task=['two']",
     "--gin.Grid.template=['Prompting', 'MaskedPrompting']", "--gin.Grid.shots=[2]",
     "--gin.Grid.method=['fine_tune']", "--gin.SEEDS=[0, 1]", "--gin.VOCABULARY=demo", *data),
):
    gin.clear_config()
    cli.run(verb, [*flags, *hosts])
    hosts = []
print(json.dumps(done))
"""

WAIT = """
import sys, time
from mto_jax import peers
peers.SECONDS, peers._BEAT = 4.0, 0.5
peers.join(f"localhost:{sys.argv[1]}", 2, int(sys.argv[2]))

def work(items, first):
    return [(first, peers.index()) for _ in items]

print(peers.over([1, 2, 3], work), flush=True)
sys.stdin.readline()
if sys.argv[2] == sys.argv[3]:
    peers.ended_by(ValueError("a mistake of its own"))
time.sleep(120)
"""


def start(program: str, *arguments: str, count: int = 2) -> list[subprocess.Popen]:
    with socket.create_server(("localhost", 0)) as server:
        port = str(server.getsockname()[1])
    return [
        subprocess.Popen(
            [sys.executable, "-c", program, port, str(index), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"XLA_FLAGS": xla.FAST, "PYTHONPATH": str(ROOT)},
            text=True,
        )
        for index in range(count)
    ]


def last_json(process: subprocess.Popen) -> dict:
    said, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    return json.loads(said.splitlines()[-1])


def test_two_processes_each_decode_a_part_and_find_what_one_finds(tmp_path):
    (alone,) = start(WORK, str(tmp_path / "alone"), "1", count=1)
    one = last_json(alone)
    two = [*map(last_json, start(WORK, str(tmp_path / "two"), "2"))]
    assert "dev/dev/exact_match" in one["metrics"]
    for found in two:
        assert found["metrics"] == pytest.approx(one["metrics"], rel=1e-4)
        for values, expected in zip(found["values"], one["values"], strict=True):
            assert values == pytest.approx(expected, rel=1e-4)
        for (text, likelihood), row in zip(found["predictions"], one["predictions"], strict=True):
            assert text == row[0]
            assert likelihood == pytest.approx(row[1], rel=1e-3)
    assert one["decoded"] == 10
    assert [found["decoded"] for found in two] == [5, 5]
    assert [2 * found["during"] for found in two] == [one["during"]] * 2
    written = tmp_path / "two/run/evaluation/6"
    assert len((written / "predictions-dev-train.jsonl").read_text().splitlines()) == 10


def test_two_processes_share_the_work_of_every_verb(tmp_path):
    demo = vocabularies.vocabulary("demo")
    found = {}
    for name, count in (("alone", 1), ("two", 2)):
        folder = tmp_path / name
        tiny.checkpoint(folder / "run", {1: None}, vocabulary=demo, vocab_size=demo.padded_size)
        rows = "".join(f"{word}\t{word} it\n" for word in WORDS)
        (folder / "two.tsv").write_text(f"head\ttail\n{rows}")
        (folder / "in.txt").write_text("".join(f"{word}\n" for word in WORDS))
        (folder / "uses_of_two.py").write_text(
            "from mto_jax.text2text.registration import register_file\n"
            "register_file('two', 'two.tsv', phrase='is used to')\n"
        )
        processes = start(VERBS, str(folder), str(count), count=count)
        found[name] = [*map(last_json, processes)]
    whole, parts = found["alone"][0], found["two"]
    assert whole == {
        "mto_jax.commands.infer.decode": len(WORDS),
        "mto_jax.matching.probe.ask": 4,
        "mto_jax.experiments.engine.settle": 4,
    }
    assert {name: sum(part[name] for part in parts) for name in whole} == whole
    for name in ("mto_jax.commands.infer.decode", "mto_jax.matching.probe.ask"):
        assert all(part[name] > 0 for part in parts)
    texts = [(tmp_path / name / "out.jsonl").read_text() for name in ("alone", "two")]
    said = [[json.loads(line)["prediction"] for line in text.splitlines()] for text in texts]
    assert said[0] == said[1]
    mappings = [(tmp_path / name / "match/mapping.gin").read_text() for name in ("alone", "two")]
    assert mappings[0] == mappings[1]
    assert (tmp_path / "two/grid/cells.csv").exists()


def test_what_takes_one_process_long_is_waited_for(tmp_path):
    program = """
import sys, time
from mto_jax import peers
peers.join(f"localhost:{sys.argv[1]}", 2, int(sys.argv[2]))
time.sleep(34 * int(sys.argv[2]))  # longer than Gloo waits by itself
import json
print(json.dumps(peers.gather(sys.argv[2])))
"""
    assert [*map(last_json, start(program))] == [["0", "1"]] * 2


def test_alone_a_process_does_everything():
    assert peers.over([1, 2, 3], lambda items, first: [i + first for i in items]) == [1, 2, 3]
    assert peers.of_first(7) == 7
    assert (peers.index(), peers.count()) == (0, 1)


@pytest.mark.parametrize(
    ("dead", "failing", "sentence"),
    [
        (1, None, "error: Process 1 has shown no sign of life for 4 s. So this process (0) stops"),
        (0, None, "error: Process 0 "),
        (None, 1, "error: Process 1 failed: a mistake of its own. So this process (0) stops"),
    ],
)
def test_a_process_that_dies_or_fails_is_named_by_the_others(dead, failing, sentence):
    both = start(WAIT, str(failing))
    try:
        for process in both:  # which Gloo may precede
            assert process.stdout
            assert "[(0, 0), (1, 1), (1, 1)]\n" in process.stdout
        if dead is not None:
            both[dead].kill()
        for index, process in enumerate(both):
            if index != dead:
                assert process.stdin
                process.stdin.write("\n")
                process.stdin.flush()
        other = both[0] if 1 in (dead, failing) else both[1]
        _, said = other.communicate(timeout=100)
    finally:
        for process in both:
            process.kill()
    assert other.returncode == 3
    assert sentence in said
    assert "each with its command" in said
