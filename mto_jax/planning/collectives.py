# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Collective operations of a compiled program, read from its HLO text.

XLA's cost analysis counts the body of a loop once and says nothing of collectives. The text has
both: a loop's condition compares its counter with a constant, and every collective states its
result and the devices that take part.

Three forms of the TPU compiler are not what their operations are called. An asynchronous collective
is a chain of fusions, each of which repeats the operation; the first holds the custom call
"AsyncCollectiveStart". A reduce-scatter is an all-reduce within a fusion that is called
"all-reduce-scatter". A collective between slices is a `send` to the host and a `recv` of what comes
back.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Iterator, Mapping

import numpy as np

KINDS = ("all-gather", "reduce-scatter", "all-reduce", "all-to-all", "collective-permute")
_BITS = {"pred": 8, "bf16": 16, "f16": 16} | {
    f"{kind}{bits}": bits for kind in "suf" for bits in (4, 8, 16, 32, 64)
}
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.-]+) = (.*?) ([a-z][a-z-]*)\((.*)$")
_SHAPE = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")
_IOTA = r"\[([\d,]+)\](?:T\(([\d,]+)\))?"
_CALLED = re.compile(r"(?:calls|to_apply|body|condition)=%?([\w.-]+)")


@dataclasses.dataclass(frozen=True)
class Collective:
    """A collective operation of a program, as one device takes part in it.

    Attributes:
      kind: one of `KINDS`.
      bytes: of the result; of a reduce-scatter, of what is reduced.
      group: devices that take part together.
      over_slices: whether they are of several TPU slices.
      hidden: whether the device computes meanwhile.
      times: how often it runs in a step.
    """

    kind: str
    bytes: int
    group: int
    over_slices: bool
    hidden: bool
    times: int

    @property
    def sent(self) -> float:
        """Bytes that each device sends in a step, by the ring algorithm."""
        if self.kind == "collective-permute":
            return self.times * self.bytes
        twice = 2 if self.kind == "all-reduce" else 1
        return self.times * twice * self.bytes * (self.group - 1) / self.group


def read(text: str, devices: int, slices: int = 1) -> list[Collective]:
    """Returns the collectives of a program that its entry reaches.

    Args:
      text: the optimised HLO, as `compiled.as_text()` has it.
      devices: how many run the program; numbered slice by slice.

    Raises:
      ValueError: a loop or a group of devices is written in an unknown form.
    """
    computations = _computations(text)
    times = _executions(computations, re.search(r"^ENTRY %?([\w.-]+)", text, re.MULTILINE))
    return [
        operation
        for name, count in times.items()
        for operation in _of(name, computations[name], count, devices, slices)
    ]


@dataclasses.dataclass(frozen=True)
class _Instruction:
    shape: str
    operation: str
    rest: str  # operands and attributes


_Computations = Mapping[str, Mapping[str, _Instruction]]


def _computations(text: str) -> _Computations:
    """Returns the instructions of each computation, by name."""
    computations: dict[str, dict[str, _Instruction]] = {}
    current: dict[str, _Instruction] = {}
    for line in text.splitlines():
        if (head := _COMPUTATION.match(line)) is not None:
            current = computations.setdefault(head[1], {})
        elif (parts := _INSTRUCTION.match(line)) is not None:
            current[parts[1]] = _Instruction(parts[2], parts[3], parts[4])
    return computations


def _executions(computations: _Computations, entry: re.Match | None) -> dict[str, int]:
    """Returns how often each computation runs in a step."""
    if entry is None:
        raise ValueError("The HLO text has no ENTRY computation.")
    times: dict[str, int] = collections.Counter()
    waiting = [(entry[1], 1)]
    while waiting:
        name, count = waiting.pop()
        times[name] += count
        for instruction in computations[name].values():
            inner = count
            if instruction.operation == "while":
                inner *= _trips(instruction, computations[name], computations)
            branches = re.search(r"branch_computations=\{([^}]*)\}", instruction.rest)
            called = [*_CALLED.findall(instruction.rest)]
            called += re.findall(r"[\w.-]+", branches[1].replace("%", "")) if branches else []
            waiting += [(other, inner) for other in called if other in computations]
    return times


def _trips(
    loop: _Instruction, around: Mapping[str, _Instruction], computations: _Computations
) -> int:
    """Returns the iterations of a loop that counts up by 1 until a constant."""
    if (known := re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.rest)) is not None:
        return int(known[1])
    condition = re.search(r"condition=%?([\w.-]+)", loop.rest)
    instructions = computations[condition[1]] if condition else {}
    for instruction in instructions.values():
        if instruction.operation != "compare" or "direction=LT" not in instruction.rest:
            continue
        counter, limit = (instructions[name] for name in _operands(instruction)[:2])
        if limit.operation == "constant" and counter.operation == "get-tuple-element":
            place = re.search(r"index=(\d+)", counter.rest)
            state = around.get(_operands(loop)[0])
            start = 0
            if place and state and state.operation == "tuple":
                first = around.get(_operands(state)[int(place[1])])
                if first and first.operation == "constant":
                    start = _constant(first)
            return _constant(limit) - start
    raise ValueError(f"The length of a loop is not known: {loop.rest[:200]}")


def _operands(instruction: _Instruction) -> list[str]:
    return re.findall(r"%([\w.-]+)", instruction.rest.partition(")")[0])


def _constant(instruction: _Instruction) -> int:
    return int(instruction.rest.partition(")")[0])


def _of(
    name: str, instructions: Mapping[str, _Instruction], times: int, devices: int, slices: int
) -> Iterator[Collective]:
    """Yields the collectives of a computation that runs so often."""
    text = " ".join(i.rest for i in instructions.values() if i.operation == "custom-call")
    begins = '"AsyncCollectiveStart"' in text
    if not begins and ('"AsyncCollectiveDone"' in text or name.startswith("async_collective")):
        return  # a later part of a chain, whose first is counted
    for instruction in instructions.values():
        operation = instruction.operation
        transfer = re.search(r'_xla_megascale_transfer_type="(\w+)"', instruction.rest)
        if operation == "send" and transfer is not None:
            kind = transfer[1].lower().replace("_", "-")
            if kind not in KINDS:
                raise ValueError(f"A transfer between slices is of an unknown kind: {kind}")
            size = _sizes(instruction.shape)[0] * (slices if kind == "all-gather" else 1)
            yield Collective(kind, size, slices, True, True, times)
            continue
        kind = operation.removesuffix("-start")
        if kind not in KINDS:
            continue
        asynchronous = begins or kind != operation
        groups = _groups(instruction.rest, devices)
        sizes = _sizes(instruction.shape)
        # An asynchronous one gives (operand, result, ...).
        pair = kind != operation and kind in ("all-gather", "collective-permute")
        size = sizes[1] if pair else sum(sizes)
        if kind == "reduce-scatter":
            size *= groups.shape[1]
        elif name.startswith("all-reduce-scatter"):
            kind = "reduce-scatter"
        of_slice = groups // (devices // slices)
        yield Collective(
            kind,
            size,
            groups.shape[1],
            bool((of_slice != of_slice[:, :1]).any()),
            asynchronous,
            times,
        )


def _sizes(shape: str) -> list[int]:
    """Returns the bytes of each array of a shape, which may be a tuple."""
    return [
        math.prod(int(size) for size in sizes.split(",") if size) * _BITS[kind] // 8
        for kind, sizes in _SHAPE.findall(shape)
        if kind in _BITS
    ]


def _groups(attributes: str, devices: int) -> np.ndarray:
    """Returns the groups of devices that take part together, [groups, devices of each].

    >>> _groups("replica_groups=[2,2]<=[2,2]T(1,0), ...", 4)
    array([[0, 2], [1, 3]])
    """
    if (pairs := re.search(r"source_target_pairs=\{(\{[\d,{}]*\})\}", attributes)) is not None:
        return np.array([pair.split(",") for pair in re.findall(r"\{([\d,]+)\}", pairs[1])], int)
    if (listed := re.search(r"replica_groups=\{(\{[\d,{}]*\})?\}", attributes)) is not None:
        if not listed[1]:
            return np.arange(devices)[None]
        rows = re.findall(r"\{([\d,]+)\}", listed[1])
        return np.array([row.split(",") for row in rows], int)
    iota = re.search(rf"replica_groups=\[([\d,]+)\]<={_IOTA}", attributes)
    if iota is not None:
        return _iota(iota[2], iota[3]).reshape(_numbers(iota[1]))
    order = rf"(?:, device_ids=\({_IOTA}\))?"
    mesh = re.search(rf"replica_groups=mesh\[([^\]]*)\]{order} \{{([^}}:]*)\}}", attributes)
    if mesh is not None:
        sizes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", mesh[1])}
        ids = _iota(mesh[2] or str(devices), mesh[3]).reshape([*sizes.values()])
        axes = re.findall(r"'(\w+)'", mesh[4])
        names = [*sizes]
        moved = [names.index(name) for name in names if name not in axes]
        ids = ids.transpose([*moved, *(names.index(axis) for axis in axes)])
        return ids.reshape(-1, math.prod(sizes[axis] for axis in axes))
    raise ValueError(f"Groups of devices are written in an unknown form: {attributes[:300]}")


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def _iota(sizes: str, order: str | None) -> np.ndarray:
    """Returns the numbers from 0 in this shape, its axes in this order: "2,4" and "1,0"."""
    ids = np.arange(math.prod(_numbers(sizes))).reshape(_numbers(sizes))
    return ids.transpose(_numbers(order)) if order else ids
