# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Collectives read from HLO text, against counts by hand."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

from mto_jax.planning import collectives
from mto_jax.training import sharding

# As the TPU compiler writes them, shortened: an all-gather in the body of a loop that counts from 1
# to 7 (asynchronous, three fusions), a reduce-scatter, and a loop that counts from 0 to 3.
HLO = """HloModule jit_step, is_scheduled=true

%start (p.0: bf16[64,8]) -> (bf16[64,8], bf16[64,16]) {
  %p.0 = bf16[64,8]{1,0} parameter(0)
  %all-gather.1 = bf16[64,16]{1,0:T(8,128)(2,1)} all-gather(%p.0), channel_id=9, \
replica_groups=[2,2]<=[2,2]T(1,0), dimensions={1}, use_global_device_ids=true
  ROOT %custom-call.1 = (bf16[64,8]{1,0}, bf16[64,16]{1,0}) custom-call(%all-gather.1), \
custom_call_target="AsyncCollectiveStart"
}

%async_collective_fusion.2 (p.1: bf16[64,8]) -> bf16[64,16] {
  %p.1 = bf16[64,8]{1,0} parameter(0)
  ROOT %all-gather.2 = bf16[64,16]{1,0} all-gather(%p.1), channel_id=9, \
replica_groups=[2,2]<=[2,2]T(1,0), dimensions={1}
}

%done (p.2: bf16[64,8]) -> bf16[64,16] {
  %p.2 = bf16[64,8]{1,0} parameter(0)
  %all-gather.3 = bf16[64,16]{1,0} all-gather(%p.2), channel_id=9, \
replica_groups=[2,2]<=[2,2]T(1,0), dimensions={1}
  ROOT %custom-call.3 = bf16[64,16]{1,0} custom-call(%all-gather.3), \
custom_call_target="AsyncCollectiveDone"
}

%all-reduce-scatter.4 (p.3: f32[10,4]) -> f32[5,4] {
  %p.3 = f32[10,4]{1,0} parameter(0)
  %all-reduce.4 = f32[10,4]{1,0} all-reduce(%p.3), channel_id=3, \
replica_groups=mesh['axis_0'=2,'axis_1'=2] {'axis_0'}, to_apply=%add
  ROOT %slice = f32[5,4]{1,0} dynamic-slice(%all-reduce.4), dynamic_slice_sizes={5,4}
}

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[]{:T(128)} parameter(0)
  %y = f32[]{:T(128)} parameter(1)
  ROOT %sum = f32[]{:T(128)} add(%x, %y)
}

%condition (state: (s32[], bf16[64,8])) -> pred[] {
  %limit = s32[]{:T(128)} constant(7)
  %state = (s32[]{:T(128)}, bf16[64,8]{1,0}) parameter(0)
  %counter = s32[]{:T(128)} get-tuple-element(%state), index=0
  ROOT %less = pred[]{:T(512)} compare(%counter, %limit), direction=LT
}

%body (state.1: (s32[], bf16[64,8])) -> (s32[], bf16[64,8]) {
  %state.1 = (s32[]{:T(128)}, bf16[64,8]{1,0}) parameter(0)
  %shard = bf16[64,8]{1,0} get-tuple-element(%state.1), index=1
  %f.1 = (bf16[64,8]{1,0}, bf16[64,16]{1,0}) fusion(%shard), kind=kCustom, calls=%start
  %f.2 = bf16[64,16]{1,0} fusion(%shard), kind=kOutput, calls=%async_collective_fusion.2
  %f.3 = bf16[64,16]{1,0} fusion(%shard), kind=kCustom, calls=%done
  ROOT %next = (s32[]{:T(128)}, bf16[64,8]{1,0}) tuple(%shard, %shard)
}

%inner_body (state.2: (s32[], bf16[64,8])) -> (s32[], bf16[64,8]) {
  %state.2 = (s32[]{:T(128)}, bf16[64,8]{1,0}) parameter(0)
  %moved = (bf16[64,8]{1,0}, bf16[64,8]{1,0}, u32[]) collective-permute-start(%state.2), \
channel_id=4, source_target_pairs={{0,2},{1,3},{2,0},{3,1}}
  ROOT %arrived = bf16[64,8]{1,0} collective-permute-done(%moved)
}

ENTRY %main (p.4: bf16[64,8], p.5: f32[10,4]) -> f32[5,4] {
  %p.4 = bf16[64,8]{1,0} parameter(0)
  %p.5 = f32[10,4]{1,0} parameter(1)
  %one = s32[]{:T(128)} constant(1)
  %begin = (s32[]{:T(128)}, bf16[64,8]{1,0}) tuple(%one, %p.4)
  %loop = (s32[]{:T(128)}, /*index=1*/bf16[64,8]{1,0}) while(%begin), condition=%condition, \
body=%body
  %other = (s32[], bf16[64,8]{1,0}) while(%begin), condition=%condition, body=%inner_body, \
backend_config={"known_trip_count":{"n":"3"}}
  %sums = (f32[]{:T(128)}, bf16[3]{0}) all-reduce(%p.4, %p.5), channel_id=5, replica_groups={}, \
to_apply=%add
  ROOT %scattered = f32[5,4]{1,0} fusion(%p.5), kind=kCustom, calls=%all-reduce-scatter.4
}
"""


def test_loops_chains_and_fusions_are_counted_as_they_run():
    operations = {operation.kind: operation for operation in collectives.read(HLO, 4)}
    gather, scatter = operations["all-gather"], operations["reduce-scatter"]
    permute, reduce = operations["collective-permute"], operations["all-reduce"]
    assert len(collectives.read(HLO, 4)) == 4
    assert (gather.bytes, gather.group, gather.hidden, gather.times) == (64 * 16 * 2, 2, True, 6)
    assert gather.sent == 6 * 64 * 8 * 2
    assert (scatter.bytes, scatter.group, scatter.hidden, scatter.times) == (160, 2, False, 1)
    assert scatter.sent == 80
    assert (permute.bytes, permute.hidden, permute.sent) == (1024, True, 3 * 1024)
    assert (reduce.bytes, reduce.group, reduce.sent) == (4 + 6, 4, 2 * 10 * 3 / 4)


def test_what_goes_between_slices_is_told_apart():
    """Of four devices in two slices, 0 and 1 are one slice."""
    between = {o.kind: o.over_slices for o in collectives.read(HLO, 4, slices=2)}
    assert between == dict.fromkeys(collectives.KINDS[:3] + collectives.KINDS[4:], True)
    inside = HLO.replace("[2,2]<=[2,2]T(1,0)", "[2,2]<=[4]")
    within = {o.kind: o.over_slices for o in collectives.read(inside, 4, slices=2)}
    assert within == between | {"all-gather": False}


def test_transfers_by_the_hosts_go_between_slices():
    transfer = """
  %shard = (f32[64,8]{1,0}, u32[], token[]) send(%p.5, %after), channel_id=4, \
is_host_transfer=true, frontend_attributes={_xla_megascale_target="{1,2}x{0:3}",\
_xla_megascale_transfer_type="ALL_REDUCE"}
  %result = (f32[64,8]{1,0}, u32[], token[]) recv(%after), channel_id=5, \
frontend_attributes={_xla_megascale_transfer_type="ALL_REDUCE"}
  ROOT %scattered"""
    head, tail = HLO.rsplit("\n  ROOT %scattered", 1)
    added = set(collectives.read(head + transfer + tail, 4, 2)) - set(collectives.read(HLO, 4, 2))
    assert added == {collectives.Collective("all-reduce", 64 * 8 * 4, 2, True, True, 1)}
    unknown = transfer.replace("ALL_REDUCE", "SCAN")
    with pytest.raises(ValueError, match="unknown kind: scan"):
        collectives.read(head + unknown + tail, 4, 2)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("replica_groups={{0,3},{1,2}}, x", [[0, 3], [1, 2]]),
        ("replica_groups=[2,2]<=[4], x", [[0, 1], [2, 3]]),
        ("replica_groups=[2,2]<=[2,2]T(1,0), x", [[0, 2], [1, 3]]),
        ("replica_groups=mesh['a'=2,'b'=2] {'a'}, x", [[0, 2], [1, 3]]),
        ("replica_groups=mesh['a'=1,'b'=2,'c'=2] {'a','b','c'}, x", [[0, 1, 2, 3]]),
        (
            "replica_groups=mesh['a'=1,'b'=2,'c'=2], device_ids=([2,2]T(1,0)) {'b'}, x",
            [[0, 1], [2, 3]],
        ),
    ],
)
def test_groups_of_devices(text, expected):
    assert collectives._groups(text, 4).tolist() == expected


def test_unknown_forms_are_not_guessed():
    with pytest.raises(ValueError, match="unknown form"):
        collectives.read(HLO.replace("[2,2]<=[2,2]T(1,0)", "everyone"), 4)
    with pytest.raises(ValueError, match="length of a loop"):
        collectives.read(HLO.replace("constant(7)", "copy(%state)"), 4)


def test_a_program_of_this_machine():
    """XLA's own text for CPUs: 256 numbers on each of 4 devices, summed 5 times and gathered."""
    mesh = sharding.mesh(4, 1, 1, devices=jax.devices()[:4])

    def repeat(x_N):
        def body(x_N, _):
            return jnp.tanh(jax.lax.psum(x_N, "data")), None

        return jax.lax.all_gather(jax.lax.scan(body, x_N, length=5)[0], "data")

    spec = PartitionSpec("data")
    function = jax.shard_map(repeat, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
    text = jax.jit(function).lower(jnp.zeros(4 * 256)).compile().as_text()
    sent = {(o.kind, o.times): o.sent for o in collectives.read(text, 4)}
    assert sent == {
        ("all-reduce", 5): 5 * 2 * 1024 * 3 / 4,
        ("all-gather", 1): 4 * 1024 * 3 / 4,
    }
