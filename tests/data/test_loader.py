# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Batches: what they hold, in which order, and that the order can be resumed exactly."""

import collections
import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from mto_jax import errors
from mto_jax.data import loader, packing, shards


@pytest.fixture
def pair(prepared):
    return prepared("toy_pair")


def take(iterator, count):
    batches = [next(iterator) for _ in range(count)]
    return batches


def assert_equal(first, second):
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_array_equal(a[key], b[key], err_msg=key)


def segments(batch):
    """Every segment of a batch as (inputs, targets), taken apart token by token."""
    found = []
    for row in range(len(batch["encoder_segment_ids"])):
        count = max(
            batch["encoder_segment_ids"][row].max(), batch["decoder_segment_ids"][row].max()
        )
        for segment in range(1, count + 1):
            in_encoder = np.flatnonzero(batch["encoder_segment_ids"][row] == segment)
            in_decoder = np.flatnonzero(batch["decoder_segment_ids"][row] == segment)
            inputs = batch["encoder_input_tokens"][row, in_encoder].tolist()
            targets = batch["decoder_target_tokens"][row, in_decoder].tolist()
            shifted = batch["decoder_input_tokens"][row, in_decoder].tolist()
            assert shifted == [0, *targets[:-1]]
            for side, places in (("encoder", in_encoder), ("decoder", in_decoder)):
                positions = batch[f"{side}_positions"][row, places]
                assert positions.tolist() == list(range(len(places)))
                assert places.tolist() == list(range(places[0], places[0] + len(places)))
            found.append((tuple(inputs), tuple(targets)))
    return found


def examples_of(prepared):
    reader = shards.Reader(prepared.path, prepared.manifest["shards"])
    examples = map(shards.decode, reader.read(range(len(reader))))
    return [(tuple(e["inputs"].tolist()), tuple(e["targets"].tolist())) for e in examples]


def test_assembled_rows_by_hand():
    examples = [
        {"inputs": np.array([5, 6, 1], np.int32), "targets": np.array([7, 1], np.int32)},
        {"inputs": np.array([8, 1], np.int32), "targets": np.array([9, 4, 1], np.int32)},
        {"inputs": np.array([3, 1], np.int32), "targets": np.array([1], np.int32)},
    ]
    batch = loader.assemble(examples, np.array([0, 0, 2]), 3, (6, 5), np.array([1, 2, 1]))
    zero6, zero5 = [0] * 6, [0] * 5
    expected = {
        "encoder_input_tokens": [[5, 6, 1, 8, 1, 0], zero6, [3, 1, 0, 0, 0, 0]],
        "encoder_segment_ids": [[1, 1, 1, 2, 2, 0], zero6, [1, 1, 0, 0, 0, 0]],
        "encoder_positions": [[0, 1, 2, 0, 1, 0], zero6, [0, 1, 0, 0, 0, 0]],
        "decoder_target_tokens": [[7, 1, 9, 4, 1], zero5, [1, 0, 0, 0, 0]],
        "decoder_input_tokens": [[0, 7, 0, 9, 4], zero5, [0, 0, 0, 0, 0]],
        "decoder_segment_ids": [[1, 1, 2, 2, 2], zero5, [1, 0, 0, 0, 0]],
        "decoder_positions": [[0, 1, 0, 1, 2], zero5, [0, 0, 0, 0, 0]],
        "decoder_task_ids": [[1, 1, 2, 2, 2], zero5, [1, 0, 0, 0, 0]],
        "decoder_loss_weights": [[1.0] * 5, [0.0] * 5, [1.0, 0, 0, 0, 0]],
    }
    assert batch.keys() == expected.keys()
    for key, rows in expected.items():
        assert batch[key].tolist() == rows, key
        assert batch[key].dtype == (np.float32 if "weights" in key else np.int32)


def test_an_epoch_holds_every_example_once_whether_packed_or_not(prepared):
    data = prepared("toy_one")
    expected = sorted(examples_of(data))
    unpacked = take(loader.train_iterator(data, batch_size=20, seed=3, pack=False), 15)
    assert sorted(e for batch in unpacked for e in segments(batch)) == expected
    assert all((batch["decoder_segment_ids"].max(axis=1) == 1).all() for batch in unpacked)
    packed = loader.train_iterator(data, batch_size=4, seed=3)
    found = []
    while len(found) < 30_000:  # Near the end of a window, where every epoch is complete.
        found += segments(next(packed))
    counts = collections.Counter(found)
    assert counts.keys() == set(expected)
    assert min(counts.values()) > 90


def test_batches_are_full_and_mixed_by_rate(pair):
    iterator = loader.train_iterator(pair, batch_size=16, seed=0, task_ids=True)
    batches = take(iterator, 60)
    tokens = sum(
        (b["encoder_segment_ids"] > 0).sum() + (b["decoder_segment_ids"] > 0).sum() for b in batches
    )
    assert tokens / (60 * 16 * (48 + 24)) > 0.85
    sets = [set(examples_of(task)) for task in pair.tasks]
    drawn = [sum(e in one for b in batches for e in segments(b)) for one in sets]
    rates = dict(zip([task.name for task in pair.tasks], drawn, strict=True))
    assert rates["toy_two"] / rates["toy_one"] == pytest.approx(2.0, rel=0.1)
    starts = [(b["decoder_positions"] == 0) & (b["decoder_segment_ids"] > 0) for b in batches]
    marked = [
        sum(((b["decoder_task_ids"] == i) & s).sum() for b, s in zip(batches, starts, strict=True))
        for i in (1, 2)
    ]
    assert marked == drawn


def test_passes_come_one_after_the_other(prepared):
    data = prepared("toy_noisy", passes=2)
    examples = examples_of(data)
    batches = take(loader.train_iterator(data, batch_size=40, seed=0, pack=False), 4)
    for epoch, batch in enumerate(batches):
        start = 40 * (epoch % 2)
        assert sorted(segments(batch)) == sorted(examples[start : start + 40])
    assert segments(batches[0]) != segments(batches[2])


def test_the_order_depends_on_the_seed_alone(pair):
    first, again, other = (
        take(loader.train_iterator(pair, batch_size=8, seed=seed), 5) for seed in (0, 0, 1)
    )
    assert_equal(first, again)
    assert (first[0]["encoder_input_tokens"] != other[0]["encoder_input_tokens"]).any()


@pytest.mark.parametrize("pack", [True, False])
@pytest.mark.parametrize("steps", [0, 1, 17, 700])
def test_resuming_continues_exactly(pair, pack, steps):
    def start():
        return loader.train_iterator(pair, batch_size=64, seed=5, pack=pack)

    iterator = start()
    take(iterator, steps)
    state = json.loads(json.dumps(iterator.get_state()))
    assert len(json.dumps(state)) < 80
    rest = take(iterator, 6)
    fresh = start()
    fresh.set_state(state)
    assert fresh.get_state() == state
    assert_equal(take(fresh, 6), rest)
    # And back, on an iterator that has read ahead.
    iterator.set_state(state)
    assert_equal(take(iterator, 6), rest)


def test_the_iterator_under_the_prefetch_resumes_too(pair):
    """Grain's own wrappers may save and restore it; here as the second of two workers."""
    dataset = loader._PlanDataset(
        loader.train_iterator(pair, batch_size=8, seed=0)._plan, {"window": 0, "row": 0}
    )
    dataset.set_slice(slice(1, None, 2))
    iterator = iter(dataset)
    states, rest = [iterator.get_state()], []
    for _ in range(6):
        rest.append(next(iterator))
        states.append(iterator.get_state())
    for start in (0, 1, 4):
        fresh = iter(dataset)
        fresh.set_state(json.loads(json.dumps(states[start])))
        for (rows, position), (expected, end) in zip(fresh, rest[start:], strict=False):
            np.testing.assert_array_equal(rows, expected)
            assert position == end


def test_hosts_share_the_global_batch(pair):
    whole = take(loader.train_iterator(pair, batch_size=12, seed=0), 30)
    parts = [
        take(loader.train_iterator(pair, batch_size=12, seed=0, shard_index=i, shard_count=3), 30)
        for i in range(3)
    ]
    joined = [
        {key: np.concatenate([part[key] for part in step]) for key in step[0]}
        for step in zip(*parts, strict=True)
    ]
    assert_equal(joined, whole)


def test_a_run_may_continue_on_another_number_of_hosts_and_workers(pair):
    iterator = loader.train_iterator(pair, batch_size=8, seed=0)
    before = take(iterator, 5)
    state = iterator.get_state()
    rest = take(iterator, 8)
    workers = loader.train_iterator(pair, batch_size=8, seed=0, num_workers=2)
    assert_equal(take(workers, 5), before)
    assert workers.get_state() == state  # Though the workers have read further.
    assert_equal(take(workers, 4), rest[:4])
    workers.set_state(state)
    assert_equal(take(workers, 8), rest)
    workers.close()
    host = loader.train_iterator(pair, batch_size=8, seed=0, shard_index=1, shard_count=2)
    host.set_state(state)
    assert_equal(take(host, 8), [{key: value[4:] for key, value in b.items()} for b in rest])


def test_a_position_of_other_data_is_refused(pair, prepared):
    state = loader.train_iterator(pair, batch_size=8, seed=0).get_state()
    for other in (
        loader.train_iterator(pair, batch_size=8, seed=1),
        loader.train_iterator(pair, batch_size=8, seed=0, pack=False),
        loader.train_iterator(prepared("toy_one"), batch_size=8, seed=0),
    ):
        with pytest.raises(errors.UserError, match="position in the data does not fit"):
            other.set_state(state)


def test_bad_arguments_are_told(pair):
    with pytest.raises(errors.UserError, match="BATCH_SIZE is 6.*multiple of the 4 hosts"):
        loader.train_iterator(pair, batch_size=6, seed=0, shard_count=4)
    with pytest.raises(errors.UserError, match="seed is -1"):
        loader.train_iterator(pair, batch_size=6, seed=-1)


def test_a_sample_is_drawn_from_every_task_by_its_rate(pair):
    def drawn(seed):
        return [
            (tuple(inputs), tuple(targets)) for inputs, targets in loader.sample(pair, 12, seed)
        ]

    first, second = (set(examples_of(task)) for task in pair.tasks)
    assert pair.rates[1] == 2 * pair.rates[0]
    assert len(drawn(0)) == 12
    assert set(drawn(0)[:4]) <= first
    assert set(drawn(0)[4:]) <= second
    assert drawn(0) == drawn(0) != drawn(1)


WIDE = {"inputs": 50, "targets": 40}


def test_evaluation_keeps_order_and_texts_and_fills_the_last_batch(prepared):
    data = prepared("toy_two", split="validation")
    batches = list(loader.eval_batches(data, batch_size=16))
    assert [len(examples) for _, examples in batches] == [16, 16, 16, 2]
    expected = examples_of(data)
    found = []
    for batch, examples in batches:
        assert batch["encoder_input_tokens"].shape == (16, data.row_lengths["inputs"])
        assert batch["decoder_target_tokens"].shape == (16, data.row_lengths["targets"])
        assert segments(batch) == [
            (tuple(e["inputs"].tolist()), tuple(e["targets"].tolist())) for e in examples
        ]
        assert not batch["encoder_segment_ids"][len(examples) :].any()
        found += examples
    assert [(tuple(e["inputs"]), tuple(e["targets"])) for e in found] == expected
    assert [e["number"] for e in found] == list(range(50))
    assert found[7]["references"] == ["one 7", "zwei é"]


@pytest.mark.parametrize("pack", [True, False])
def test_rows_of_single_examples_are_no_longer_than_the_data_need(prepared, pack):
    data = prepared("toy_two", split="validation")
    longest = np.max([list(map(len, example)) for example in examples_of(data)], axis=0)
    needed = {
        name: min(limit, packing.bucket(int(length)))
        for (name, limit), length in zip(data.task_feature_lengths.items(), longest, strict=True)
    }
    assert data.row_lengths == needed
    expected = data.task_feature_lengths if pack else needed
    assert loader.row_lengths(data, pack) == expected
    iterator = loader.train_iterator(data, batch_size=4, seed=0, pack=pack)
    batch = next(iterator)
    assert batch["encoder_input_tokens"].shape == (4, expected["inputs"])
    assert batch["decoder_target_tokens"].shape == (4, expected["targets"])
    iterator.close()
    ((batch, _), *_) = loader.eval_batches(
        data, batch_size=4, lengths={"inputs": 50, "targets": 40}
    )
    assert batch["encoder_input_tokens"].shape == (4, 50)


def test_evaluation_of_a_mixture_goes_task_by_task(prepared):
    data = prepared("toy_pair", split="validation")
    numbers = [
        [e["number"] for e in examples] for _, examples in loader.eval_batches(data, batch_size=40)
    ]
    assert numbers == [
        *([*range(start, min(start + 40, 300))] for start in range(0, 300, 40)),
        [*range(40)],
        [*range(40, 50)],
    ]


def test_missing_data_are_prepared_elsewhere_and_tensorflow_is_never_imported(
    config, tmp_path, capfd
):
    """In a new process: ensure (which prepares), ensure again, train, evaluate."""
    wanted = config("toy_pair", prepared_dir=str(tmp_path / "data"))
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(f"""
        import sys
        import gin
        from mto_jax.text2text import vocabulary
        from mto_jax.data import loader
        from mto_jax.data.dataset import DatasetConfig

        gin.parse_config("NAME = 'demo'\\nvocabulary.name = %NAME")
        config = {wanted!r}
        prepared = loader.ensure(config)
        assert loader.ensure(config) == prepared
        assert next(loader.train_iterator(prepared, batch_size=2, seed=0))
        assert sum(len(e) for _, e in loader.eval_batches(prepared, batch_size=64)) == 350
        banned = {{"tensorflow", "seqio", "tensorflow_text", "tensorflow_datasets"}}
        assert not banned & set(sys.modules), banned & set(sys.modules)
        print("good")
        """)
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert done.stdout == "good\n", done.stderr
    assert "preparing toy_pair (train): nothing is prepared for it" in done.stderr
    assert "toy_one (train): 300 examples" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_the_preparing_process_finds_wrong_is_told_as_our_own(
    config, tmp_path, monkeypatch, in_a_new_process
):
    monkeypatch.setattr(loader, "_in_a_process", in_a_new_process)
    with pytest.raises(
        errors.UserError, match=r"^facts\.tsv, line 4: the field 'tail' is empty\.$"
    ):
        loader.ensure(config("toy_fails", prepared_dir=str(tmp_path)))


def test_without_seqio_the_way_out_is_told(config, tmp_path, monkeypatch):
    monkeypatch.setattr(loader.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(errors.UserError, match=r"(?s)must be prepared first.*mto prepare.*copy"):
        loader.ensure(config("toy_one", prepared_dir=str(tmp_path)))


def test_nothing_is_prepared_where_a_later_data_set_is_not_there(config, tmp_path):
    first = config("toy_one", prepared_dir=str(tmp_path))
    last = config("toy_one", prepared_dir=str(tmp_path), split="tran")
    with pytest.raises(errors.UserError, match="tran"):
        loader.ensure_all([first], later=[last])
    assert not list(tmp_path.iterdir())
    assert loader.ensure_all([first]) == [loader.ensure(first)]
