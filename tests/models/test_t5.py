# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The model against PyTorch's T5 (logits, gradients; packed and not), and against itself."""

import dataclasses
import functools
import types
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mto_jax.errors import UserError
from mto_jax.models import partitioning, stack
from mto_jax.models.adapters import NONE
from mto_jax.models.attention import Attention, Positions, Visible
from mto_jax.models.layers import Dropout
from mto_jax.models.losses import cross_entropy
from mto_jax.models.t5 import T5, T5Config
from mto_jax.training import sharding
from mto_jax.training.state import abstract_model, by_name
from tests import tiny

TINY = dataclasses.replace(tiny.UNEVEN, scan_unroll=1)  # compiles faster
V1_0 = dataclasses.replace(TINY, mlp="relu", tie_embeddings=True)
FAMILIES = pytest.mark.parametrize("config", [V1_0, TINY], ids=["v1.0-tied", "v1.1-gated"])

# (source length, target length) of the examples of each packed row; rows are 20 and 16 long.
PACKS = [[(9, 5), (6, 7)], [(20, 16)], [(3, 2), (5, 9), (8, 1)]]


def pack(seed: int = 0) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(packed batch of 3 rows, the same 6 examples one to a row), as the loader lays them out."""
    rng = np.random.default_rng(seed)
    names = {
        "encoder_input_tokens": 20,
        "encoder_segment_ids": 20,
        "decoder_input_tokens": 16,
        "decoder_target_tokens": 16,
        "decoder_segment_ids": 16,
        "decoder_loss_weights": 16,
    }
    packed = {k: np.zeros((len(PACKS), n), np.int32) for k, n in names.items()}
    apart = {k: np.zeros((sum(map(len, PACKS)), n), np.int32) for k, n in names.items()}
    example = 0
    for row, lengths in enumerate(PACKS):
        s = t = 0
        for segment, (ns, nt) in enumerate(lengths, start=1):
            source, target = rng.integers(1, TINY.vocab_size, ns), rng.integers(1, 90, nt)
            for batch, r, a, b, number in ((packed, row, s, t, segment), (apart, example, 0, 0, 1)):
                batch["encoder_input_tokens"][r, a : a + ns] = source
                batch["encoder_segment_ids"][r, a : a + ns] = number
                batch["decoder_input_tokens"][r, b + 1 : b + nt] = target[:-1]
                batch["decoder_target_tokens"][r, b : b + nt] = target
                batch["decoder_segment_ids"][r, b : b + nt] = number
                batch["decoder_loss_weights"][r, b : b + nt] = 1
            s, t, example = s + ns, t + nt, example + 1
    return packed, apart


PACKED, APART = pack()


def loss_sum(model: T5, batch: dict, **options) -> jax.Array:
    hidden = model.hidden(batch, **options)
    targets, weights = batch["decoder_target_tokens"], batch["decoder_loss_weights"]
    return cross_entropy(hidden, model.unembedding, targets, weights, num_chunks=2)[0]


def gradients(model: T5, batch: dict, **options) -> tuple[jax.Array, nnx.State]:
    graphdef, params = nnx.split(model)
    return jax.jit(
        jax.value_and_grad(lambda p: loss_sum(nnx.merge(graphdef, p), batch, **options))
    )(params)


def make_mesh() -> jax.sharding.Mesh:
    if len(jax.devices()) < 8:
        pytest.skip("needs 8 devices")
    axis_types = (jax.sharding.AxisType.Auto,) * 3
    return jax.make_mesh((2, 2, 2), ("data", "fsdp", "tensor"), axis_types)


@functools.cache
def tiny_gradients() -> tuple[jax.Array, nnx.State]:
    return gradients(fresh(TINY), PACKED)


def fresh(config: T5Config) -> T5:
    return T5(config, nnx.Rngs(0))


class TestAgainstTorch:
    @pytest.fixture(autouse=True)
    def _torch(self):
        pytest.importorskip("torch", reason="comes with the extra [test]")
        pytest.importorskip("transformers", reason="comes with the extra [test]")

    @FAMILIES
    def test_logits(self, config):
        import torch

        from tests.models.torch_reference import our_model, torch_model

        reference = torch_model(config)
        with torch.no_grad():
            expected = reference(
                input_ids=torch.tensor(APART["encoder_input_tokens"]),
                attention_mask=torch.tensor(APART["encoder_segment_ids"]),
                decoder_input_ids=torch.tensor(APART["decoder_input_tokens"]),
            ).logits.numpy()
        real = APART["decoder_loss_weights"] > 0
        model = our_model(config, reference)
        logits = np.asarray(jax.jit(model)(APART))
        np.testing.assert_allclose(logits[real], expected[real], atol=1e-4)
        # Both layouts list the real tokens in the same order.
        logits = np.asarray(jax.jit(model)(PACKED))
        packed_real = PACKED["decoder_loss_weights"] > 0
        np.testing.assert_allclose(logits[packed_real], expected[real], atol=1e-4)

    @FAMILIES
    def test_gradients(self, config):
        import torch

        from tests.models.torch_reference import as_ours, named, our_model, torch_model

        reference = torch_model(config)
        labels = np.where(APART["decoder_loss_weights"] > 0, APART["decoder_target_tokens"], -100)
        logits = reference(
            input_ids=torch.tensor(APART["encoder_input_tokens"]),
            attention_mask=torch.tensor(APART["encoder_segment_ids"]),
            decoder_input_ids=torch.tensor(APART["decoder_input_tokens"]),
        ).logits
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), torch.tensor(labels, dtype=torch.long).flatten(), reduction="sum"
        )
        loss.backward()
        expected = as_ours(config, {n: p.grad for n, p in reference.named_parameters()})
        model = our_model(config, reference)
        tokens = APART["decoder_loss_weights"].sum()
        for batch in (APART, PACKED):
            value, grads = gradients(model, batch)
            np.testing.assert_allclose(value / tokens, loss.item() / tokens, rtol=1e-5)
            grads = named(grads)
            assert grads.keys() == expected.keys()
            for name, grad in grads.items():
                np.testing.assert_allclose(grad / tokens, expected[name] / tokens, atol=1e-4)
                # Small gradients too: relative to the greatest one of the tensor.
                scale = np.abs(expected[name]).max()
                np.testing.assert_allclose(grad / scale, expected[name] / scale, atol=1e-4)

    def test_relative_buckets(self):
        from transformers.models.t5.modeling_t5 import T5Attention

        from mto_jax.models.attention import relative_buckets

        torch = pytest.importorskip("torch", reason="comes with the extra [test]")
        distance = np.arange(-700, 700)
        for bidirectional in (True, False):
            for num_buckets, max_distance in ((32, 128), (8, 12), (64, 256)):
                options = {
                    "bidirectional": bidirectional,
                    "num_buckets": num_buckets,
                    "max_distance": max_distance,
                }
                expected = T5Attention._relative_position_bucket(torch.tensor(distance), **options)
                buckets = relative_buckets(jnp.asarray(distance), **options)
                np.testing.assert_array_equal(buckets, expected.numpy())


def test_segments_do_not_see_each_other():
    """Other tokens in the second segment of a row change nothing in the first."""
    model = fresh(TINY)
    changed = {k: v.copy() for k, v in PACKED.items()}
    for side in ("encoder", "decoder"):
        second = PACKED[f"{side}_segment_ids"] == 2
        changed[f"{side}_input_tokens"][second] = 7
    first = PACKED["decoder_segment_ids"] == 1
    apply = jax.jit(model)
    logits, after = apply(PACKED), apply(changed)
    np.testing.assert_array_equal(logits[first], after[first])


def test_padding_has_no_nan():
    """A batch whose last rows are all padding, as the last batch of an evaluation has."""
    batch = {k: v.copy() for k, v in PACKED.items()}
    for v in batch.values():
        v[1:] = 0
    loss, grads = gradients(fresh(TINY), batch)
    assert np.isfinite(loss)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))


@FAMILIES
@pytest.mark.parametrize("per_layer", [False, True], ids=["shared-bias", "bias-per-layer"])
def test_cached_decoding_equals_the_decoder(config, per_layer):
    model = fresh(dataclasses.replace(config, relative_bias_per_layer=per_layer))
    tokens, source = APART["decoder_input_tokens"], APART["encoder_segment_ids"]

    @jax.jit
    def teacher_forced(source_tokens):
        encoded = model.encode(source_tokens, source)
        hidden = model.decode(encoded, source, tokens, np.ones_like(tokens))
        return encoded, model.logits(hidden)

    encoded, expected = teacher_forced(APART["encoder_input_tokens"])
    cache = model.start_cache(model.read(encoded, source), max_length=tokens.shape[1])
    graphdef, params = nnx.split(model)
    step = jax.jit(lambda p, token, cache: nnx.merge(graphdef, p).decode_step(token, cache))
    for t in range(tokens.shape[1]):
        logits, cache = step(params, tokens[:, t], cache)
        np.testing.assert_allclose(logits, expected[:, t], atol=2e-5)


def stepper(model):
    graphdef, params = nnx.split(model)
    step = jax.jit(lambda p, token, cache: nnx.merge(graphdef, p).decode_step(token, cache))
    return functools.partial(step, params)


@pytest.mark.parametrize("per_layer", [False, True], ids=["shared-bias", "bias-per-layer"])
def test_beams_share_their_source_and_their_past(per_layer):
    """W rows per source give what W copies of the source give; rows can go on from one another."""
    model = fresh(dataclasses.replace(TINY, relative_bias_per_layer=per_layer))
    source, W = APART["encoder_segment_ids"][:2], 3
    encoded = jax.random.normal(jax.random.key(0), (2, source.shape[1], TINY.d_model))
    step = stepper(model)
    beams = model.start_cache(model.read(encoded, source), 4, W, common=True)
    copied = model.read(np.repeat(encoded, W, axis=0), np.repeat(source, W, axis=0))
    copies = model.start_cache(copied, 4)
    first, second = np.array([3, 5, 7, 9, 11, 13]), np.array([2, 4, 6, 8, 10, 12])
    third = np.array([14, 15, 16, 17, 18, 19])
    ways = [np.array([[2, 2, 0], [1, 0, 0]]), np.array([[1, 2, 2], [0, 0, 2]])]
    logits, beams = step(first, beams)
    expected, copies = step(first, copies)
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    # The copies start again, each with the tokens of the row that it continues.
    columns = [first]
    for way, tokens in zip(ways, (second, third), strict=True):
        ancestors = np.take_along_axis(np.asarray(beams.ancestors), way[..., None], axis=1)
        logits, beams = step(tokens, dataclasses.replace(beams, ancestors=jnp.asarray(ancestors)))
        rows = (way + W * np.arange(2)[:, None]).ravel()
        columns = [*(column[rows] for column in columns), tokens]
        copies = model.start_cache(copied, 4)
        for column in columns:
            expected, copies = step(column, copies)
        np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_a_row_can_begin_at_any_step():
    """The past is a ring: after more steps than it has places a new row gives what it gives
    alone."""
    model = fresh(TINY)
    source = model.read(
        jax.random.normal(jax.random.key(0), (2, 9, TINY.d_model)),
        np.array([[1] * 9, [1] * 6 + [0] * 3]),
    )
    step = stepper(model)
    tokens = np.random.default_rng(0).integers(1, 90, (2, 4))
    alone = model.start_cache(source, 4)
    expected = []
    for t in range(4):
        logits, alone = step(tokens[:, t], alone)
        expected.append(logits)
    cache = model.start_cache(source, 4)
    starts = [3, 5]
    for t in range(9):
        for row in range(2):
            if t == starts[row]:
                cache = dataclasses.replace(cache, ancestors=cache.ancestors.at[row].set(-1))
        ages = [t - start for start in starts]
        fed = np.array([tokens[r, age] if 0 <= age < 4 else 1 for r, age in enumerate(ages)])
        logits, cache = step(fed, cache)
        for row, age in enumerate(ages):
            if 0 <= age < 4:
                np.testing.assert_allclose(logits[row], expected[age][row], atol=1e-5)


def test_activations_are_computed_again_off_the_cpu_only():
    def chosen(platform, **changes):
        mesh = types.SimpleNamespace(devices=np.array([types.SimpleNamespace(platform=platform)]))
        with partitioning.use_rules(mesh, {}):
            return stack.remat(dataclasses.replace(TINY, **changes))

    assert chosen("cpu") == chosen("tpu", remat="none") == "none"
    assert chosen("gpu") == chosen("tpu") == "minimal"


@pytest.mark.parametrize(
    "changes",
    [{"remat": "minimal"}, {"remat": "full"}, {"scan_unroll": 0}],
    ids=["minimal", "full", "unrolled"],
)
def test_memory_options_change_no_number(changes):
    expected_loss, expected = tiny_gradients()
    loss, grads = gradients(fresh(dataclasses.replace(TINY, **changes)), PACKED)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-6)
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_bfloat16_is_near_float32():
    config = dataclasses.replace(TINY, dtype="bfloat16")
    expected_loss, expected = tiny_gradients()
    loss, grads = gradients(fresh(config), PACKED)
    np.testing.assert_allclose(loss, expected_loss, rtol=2e-2)
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(expected), strict=True):
        assert a.dtype == jnp.float32
        assert np.linalg.norm(a - b) < 0.1 * np.linalg.norm(b)


class TestDropout:
    def test_key_decides(self):
        model = fresh(dataclasses.replace(TINY, dropout_rate=0.3))
        apply = jax.jit(lambda key: model(PACKED, dropout_key=key))
        without = jax.jit(model)(PACKED)
        np.testing.assert_array_equal(without, jax.jit(fresh(TINY))(PACKED))
        a, b = apply(jax.random.key(1)), apply(jax.random.key(1))
        np.testing.assert_array_equal(a, b)
        assert not np.allclose(a, without)
        assert not np.allclose(a, apply(jax.random.key(2)))

    def test_no_two_masks_of_a_pass_have_the_same_key(self, monkeypatch):
        """Neither those of a layer, nor of two layers, nor of encoder and decoder."""
        draw, keys = jax.random.bernoulli, []

        def recorded(key, *arguments):
            jax.debug.callback(lambda data: keys.append(data.tobytes()), jax.random.key_data(key))
            return draw(key, *arguments)

        monkeypatch.setattr(jax.random, "bernoulli", recorded)
        model = fresh(dataclasses.replace(TINY, dropout_rate=0.3))
        jax.block_until_ready(jax.jit(model.hidden)(PACKED, dropout_key=jax.random.key(0)))
        jax.effects_barrier()
        # Of a stack: before and after its layers. Of attention: weights and output. Of an MLP: two.
        encoder, decoder = TINY.num_encoder_layers, TINY.num_decoder_layers
        assert len(set(keys)) == len(keys) == 2 * 2 + 4 * encoder + 6 * decoder

    def test_masks_keep_the_mean_and_are_shared_along_the_length(self):
        dropout = Dropout(0.25, jax.random.key(0))
        x = jnp.ones((64, 5, 200))
        first, second = np.asarray(dropout(x)), np.asarray(dropout(x))
        np.testing.assert_allclose(np.unique(first), [0, 4 / 3], rtol=1e-6)
        np.testing.assert_allclose(first.mean(), 1.0, atol=0.02)
        np.testing.assert_array_equal(first[:, :1].repeat(5, axis=1), first)
        assert (first != second).any()

    def test_attention_drops_keys(self):
        """With values of one, an answer is the sum of the weights that were kept, scaled up."""
        config = dataclasses.replace(TINY, num_heads=1, d_kv=32)
        layer = Attention(config, NONE, 1, nnx.Rngs(0))
        layer = nnx.merge(nnx.graphdef(layer), jax.tree.map(lambda w: w[0], nnx.state(layer)))
        layer.query[...] = jnp.zeros((32, 32))  # so that all weights are 1 / S
        layer.value[...] = layer.out[...] = jnp.eye(32)
        x = jnp.ones((3, 40, 32))
        mask = jnp.ones((3, 1, 40, 40), bool)
        answer = layer(x, x, Positions(), Visible(mask), Dropout(0.5, jax.random.key(0)))
        kept = np.asarray(answer)[:, 0, 0] * 40 / 2
        np.testing.assert_allclose(kept, kept.round(), atol=1e-3)
        assert (np.abs(kept - 20) < 12).all()
        assert len(set(kept.round())) > 1
        # One mask for all queries and channels of a row.
        np.testing.assert_allclose(
            answer, np.broadcast_to(answer[:, :1, :1], answer.shape), rtol=1e-5
        )


class TestParameters:
    def test_names_and_axes(self):
        spec = abstract_model(lambda rngs: T5(TINY, rngs))
        axes = {name: (value.shape, spec.axes[name]) for name, value in spec.shapes.items()}
        for name, (shape, names) in axes.items():
            assert len(shape) == len(names), name
        assert axes["embedding"] == ((96, 32), ("vocab", "embed"))
        assert axes["lm_head"] == ((32, 96), ("embed", "vocab"))
        assert axes["encoder.layers.attention.query"] == (
            (2, 32, 24),
            ("layers", "embed", "joined_kv"),
        )
        assert axes["decoder.layers.cross_attention.out"] == (
            (3, 24, 32),
            ("layers", "joined_kv", "embed"),
        )
        assert axes["decoder.layers.mlp.wi_1"] == ((3, 32, 48), ("layers", "embed", "mlp"))
        assert axes["encoder.relative_bias"] == ((8, 3), (None, "heads"))

    def test_the_abstract_model_agrees_with_the_module(self):
        spec, params = abstract_model(lambda rngs: T5(TINY, rngs)), by_name(fresh(TINY))
        mesh = sharding.mesh(devices=jax.devices()[:1])
        made = spec.initialise(jax.random.key(0), mesh)
        assert list(spec.shapes) == list(params)
        assert made.keys() == params.keys()
        for name, value in params.items():
            assert spec.shapes[name].shape == value.shape
            np.testing.assert_allclose(made[name], value, atol=1e-6)

    def test_fresh_logits_have_unit_scale(self):
        """Neither family starts from extreme predictions: the loss is near log V."""
        for config in (V1_0, TINY):
            config = dataclasses.replace(config, d_model=128, d_ff=256)
            tokens = PACKED["decoder_loss_weights"].sum()
            loss = loss_sum(fresh(config), PACKED) / tokens
            assert abs(loss - np.log(96)) < 2.0


class TestMesh:
    rules: ClassVar = {
        "batch": ("data", "fsdp"),
        "embed": "fsdp",
        "vocab": "tensor",
        "mlp": "tensor",
        "heads": "tensor",
        "joined_kv": "tensor",
    }

    def test_partition_spec(self):
        mesh = make_mesh()
        P = jax.sharding.PartitionSpec

        def spec(axes, shape):
            return partitioning.partition_spec(axes, shape, mesh, self.rules)

        assert spec(("batch", "length", "embed"), (8, 6, 4)) == P(("data", "fsdp"), None, None)
        assert spec(("embed", "mlp"), (4, 4)) == P("fsdp", "tensor")
        assert spec(("heads", None), (3, 4)) == P(None, None)  # 3 heads do not divide by 2

    def test_sharded_gradients_equal_those_of_one_device(self):
        mesh = make_mesh()
        config = dataclasses.replace(TINY, num_heads=4)
        graphdef, params = nnx.split(fresh(config))
        batch = {k: np.concatenate([v, v[:1]]) for k, v in PACKED.items()}
        expected_loss, expected = gradients(nnx.merge(graphdef, params), batch)

        def sharding(variable):
            axes = variable.get_metadata("axes")
            spec = partitioning.partition_spec(axes, variable.shape, mesh, self.rules)
            return variable.replace(jax.sharding.NamedSharding(mesh, spec))

        is_variable = lambda x: isinstance(x, nnx.Variable)  # noqa: E731
        sharded = jax.device_put(params, jax.tree.map(sharding, params, is_leaf=is_variable))

        @jax.jit
        def run(p):
            with partitioning.use_rules(mesh, self.rules):
                return jax.value_and_grad(lambda p: loss_sum(nnx.merge(graphdef, p), batch))(p)

        loss, grads = run(sharded)
        np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
        for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


class TestConfig:
    def test_dict_round_trip(self):
        assert T5Config.from_dict(dataclasses.asdict(V1_0)) == V1_0

    def test_from_dict_ignores_gin(self):
        import gin

        gin.bind_parameter("T5Config.d_model", 77)
        assert T5Config().d_model == 77
        assert T5Config.from_dict({}).d_model == 512

    @pytest.mark.parametrize(
        "fields, message",
        [
            ({"mlp": "gated_gelu"}, "Did you mean 'gated-gelu'"),
            ({"remat": "some"}, "T5Config.remat"),
            ({"dtype": "float16"}, "T5Config.dtype"),
            ({"num_heads": 0}, "num_heads is 0"),
            ({"d_model": "512"}, "d_model is '512'"),
            ({"dropout_rate": 1.0}, "dropout_rate"),
            ({"num_buckets": 7}, "num_buckets=7"),
            ({"attention": "cudnn"}, "needs dtype='bfloat16'"),
            ({"num_layers": 8}, "num_encoder_layers"),
        ],
    )
    def test_errors(self, fields, message):
        with pytest.raises(UserError, match=message):
            T5Config.from_dict(fields)
