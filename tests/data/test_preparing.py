# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Preparing SeqIO tasks and mixtures: content, determinism, and what goes wrong."""

import multiprocessing
import os
import signal
import time

import numpy as np
import pytest

from mto_jax import errors
from mto_jax.data import manifest, prepare, shards
from mto_jax.text2text import vocabulary


def records(prepared):
    reader = shards.Reader(prepared.path, prepared.manifest["shards"])
    return reader.read(range(len(reader)))


def test_records_hold_what_the_task_yields(prepared):
    import toy_tasks

    data = prepared("toy_one")
    examples = [shards.decode(record) for record in records(data)]
    expected = toy_tasks.sentences(300, seed=1)
    vocab = vocabulary.vocabulary()
    assert len(examples) == data.num_examples == 300
    for example, raw in zip(examples, expected, strict=True):
        assert example["inputs"].tolist() == [*vocab.encode(raw["inputs"]), vocab.eos_id][:48]
        assert example["targets"].tolist() == [*vocab.encode(raw["targets"]), vocab.eos_id][:24]
        assert example["references"] == raw["references"]
        assert example["number"] == raw["number"]
        assert example["inputs_pretokenized"] == raw["inputs"]


def test_the_manifest_counts_right(prepared):
    data = prepared("toy_one")
    examples = [shards.decode(record) for record in records(data)]
    lengths = np.array([[len(e["inputs"]), len(e["targets"])] for e in examples])
    np.testing.assert_array_equal(data.lengths(), lengths)
    for i, key in enumerate(("inputs", "targets")):
        told = data.manifest["features"][key]
        assert told["total"] == lengths[:, i].sum()
        assert told["mean"] == pytest.approx(lengths[:, i].mean())
        assert told["p95"] == np.percentile(lengths[:, i], 95)
        assert told["max"] == lengths[:, i].max()
    assert data.metrics == ("toy_tasks:shares_a_word",)
    assert data.vocabulary == {"name": "demo", "digest": vocabulary.vocabulary().digest}
    assert data.manifest["pass_examples"] == [300]


def test_longer_examples_are_trimmed_counted_and_told(prepared, capsys):
    data = prepared("toy_one", task_feature_lengths={"inputs": 10, "targets": 24})
    whole = prepared("toy_one").lengths()
    count = int((whole[:, 0] > 10).sum())
    assert count > 0
    assert data.manifest["trimmed"] == {"inputs": count, "targets": 0}
    assert data.lengths()[:, 0].max() == 10
    assert f"{count} of 300 examples had longer inputs than 10 tokens" in capsys.readouterr().out


def test_the_same_configuration_gives_the_same_bytes(prepared, tmp_path):
    first = prepared("toy_noisy", prepared_dir=str(tmp_path / "a"))
    second = prepared("toy_noisy", prepared_dir=str(tmp_path / "b"))
    assert first.path.name == second.path.name
    for path in first.path.iterdir():
        assert path.read_bytes() == (second.path / path.name).read_bytes(), path.name


def test_passes_and_seeds_differ_in_noise_only(prepared):
    data = records(prepared("toy_noisy", passes=2))
    assert data[:40] == records(prepared("toy_noisy"))
    assert data[40:] == records(prepared("toy_noisy", seed=1))
    assert data[:40] != data[40:]
    for a, b in zip(data[:40], data[40:], strict=True):
        assert shards.decode(a)["number"] == shards.decode(b)["number"]


def test_limit_takes_the_first_examples(prepared):
    assert records(prepared("toy_one", limit=20)) == records(prepared("toy_one"))[:20]


def test_prepared_data_are_used_again(prepared):
    first = prepared("toy_two")
    stamp = os.stat(first.path / manifest.MANIFEST).st_mtime_ns
    assert prepared("toy_two").path == first.path
    assert os.stat(first.path / manifest.MANIFEST).st_mtime_ns == stamp


def test_mixtures_are_flattened_and_share_their_members(prepared):
    pair, nested = prepared("toy_pair"), prepared("toy_nested")
    assert dict(zip([t.name for t in pair.tasks], pair.rates, strict=True)) == {
        "toy_one": 1.0,
        "toy_two": 2.0,
    }
    rates = dict(zip([t.name for t in nested.tasks], nested.rates, strict=True))
    assert rates == pytest.approx({"toy_one": 1.0, "toy_two": 2.0, "toy_noisy": 1.0})
    assert nested.num_examples == 300 + 50 + 40
    assert prepared("toy_one").path in [task.path for task in nested.tasks]


def test_the_preview_shows_texts_ids_and_pieces_and_writes_nothing(config, tmp_path):
    text = prepare.preview(config("toy_pair", prepared_dir=str(tmp_path)), 2)
    vocab = vocabulary.vocabulary()
    example = shards.decode(records(prepare.prepare(config("toy_two")))[1])
    assert " ".join(map(str, example["inputs"])) in text
    assert example["inputs_pretokenized"] in text
    *pieces, _ = [vocab.decode([i]) or f"<{i}>" for i in example["targets"].tolist()]
    assert "|".join([*pieces, "(end)"]) in text
    assert "toy_one, train, example 1" in text
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("toy_onne", {}, "no task or mixture 'toy_onne'.*'toy_one'"),
        ("toy_one", {"split": "validaton"}, "split of toy_one.*'validation'"),
        ("toy_fails", {}, r"^facts\.tsv, line 4: the field 'tail' is empty\.$"),
        ("toy_empty", {}, "toy_empty gave no example"),
        ("toy_one", {"module": "toy_taskz"}, "no Python module 'toy_taskz'"),
    ],
)
def test_mistakes_are_told_in_one_paragraph_and_leave_nothing(
    config, tmp_path, name, fields, message
):
    wanted = config(name, prepared_dir=str(tmp_path), **fields)
    with pytest.raises(errors.UserError, match=f"(?s){message}") as raised:
        prepare.prepare(wanted)
    assert "\n" not in str(raised.value)
    assert [path for path in tmp_path.iterdir() if path.suffix != ".lock"] == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"good\nb\xe4d\n", r"lines\.txt, line 2: byte 2 \(0xe4\) is not UTF-8"),
        (b"", r"lines\.txt is empty"),
        (None, r"toy_lines failed .* were made: \S*lines\.txt; No such file or directory$"),
    ],
)
def test_a_bad_text_file_is_told_with_its_line(config, toy_folder, tmp_path, content, message):
    wanted = config("toy_lines", prepared_dir=str(tmp_path))
    prepare.register(wanted)
    path = toy_folder / "lines.txt"
    good = path.read_bytes()
    try:
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        with pytest.raises(errors.UserError, match=message):
            prepare.prepare(wanted)
    finally:
        path.write_bytes(good)


def test_another_vocabulary_than_the_run_is_told(config, tmp_path):
    import gin
    import sentencepiece

    wanted = config("toy_one", prepared_dir=str(tmp_path / "data"))
    prepare.register(wanted)
    (tmp_path / "text").write_text("the cat sat on the mat and looked at the old house\n" * 20)
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "text"),
        model_prefix=str(tmp_path / "small"),
        vocab_size=40,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    gin.bind_parameter("vocabulary.name", str(tmp_path / "small.model"))
    with pytest.raises(errors.UserError, match=r"toy_one tokenises inputs .*small\.model"):
        prepare.prepare(wanted)


def test_a_folder_that_cannot_be_written_is_told(config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.UserError, match=r"Cannot write prepared data to .*MTO_CACHE_DIR"):
        prepare.prepare(config("toy_one", prepared_dir=str(tmp_path / "file" / "data")))


def test_a_full_disk_is_told_and_cleaned_up(config, tmp_path, monkeypatch):
    class Full(shards.ArrayRecordWriter):
        def write(self, record):
            raise RuntimeError("write() failed: No space left on device; at byte 0")

    monkeypatch.setattr(shards, "ArrayRecordWriter", Full)
    with pytest.raises(errors.UserError, match="the disk is full"):
        prepare.prepare(config("toy_one", prepared_dir=str(tmp_path)))
    assert [path for path in tmp_path.iterdir() if path.suffix != ".lock"] == []


def _prepare_slowly(wanted, seconds):
    import gin

    gin.bind_parameter("vocabulary.name", "demo")
    encode = shards.encode
    shards.encode = lambda example: time.sleep(seconds) or encode(example)
    prepare.prepare(wanted)


def _start(wanted, seconds):
    """Another process that prepares so slowly; returns when it has begun to write."""
    process = multiprocessing.get_context("spawn").Process(
        target=_prepare_slowly, args=(wanted, seconds)
    )
    process.start()
    deadline = time.time() + 120
    while not list(wanted.directory.glob(".*.tmp/*.array_record")):
        assert time.time() < deadline
        assert process.is_alive()
        time.sleep(0.05)
    return process


def test_killed_half_way_nothing_is_left_to_read_and_the_next_one_cleans_up(config, tmp_path):
    wanted = config("toy_two", prepared_dir=str(tmp_path))
    process = _start(wanted, seconds=5.0)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert list(tmp_path.glob(".*.tmp"))
    assert manifest.find(wanted) is None
    assert prepare.prepare(wanted).num_examples == 50
    assert not list(tmp_path.glob(".*.tmp"))


def test_two_processes_at_once_write_one_copy(config, tmp_path):
    wanted = config("toy_two", prepared_dir=str(tmp_path))
    process = _start(wanted, seconds=0.05)
    data = prepare.prepare(wanted)  # Waits for the other one and takes what that has written.
    process.join()
    assert process.exitcode == 0
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == [data.path]
    assert len(records(data)) == 50


@pytest.mark.parametrize(
    ("name", "inputs"), [("atomic_xIntent_mapping", 256), ("wiki_span_corruption", 128)]
)
def test_real_data_fill_rows_of_the_recommended_length(
    config, data_dir, tmp_path, capsys, name, inputs
):
    from mto_jax.data import packing

    lengths = {"inputs": inputs, "targets": 128}
    wanted = config(
        name, prepared_dir=str(tmp_path), task_feature_lengths=lengths, module=None, limit=3000
    )
    data = prepare.prepare(wanted)
    (entry,) = data.manifest["input_files"][:1]
    assert entry["path"].startswith(str(data_dir))
    best, _ = packing.recommend(packing.sample(data.lengths()), inputs)
    assert f"for inputs {inputs}, targets of {best} fill best" in capsys.readouterr().out
    assert packing.non_padding(np.resize(data.lengths(), (packing.WINDOW, 2)), (inputs, best)) > 0.9
