# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Counts of the sentences of a corpus: those kept, and those dropped, by reason."""

import collections
import dataclasses
from typing import Any

import rich.table


@dataclasses.dataclass
class Counts:
    """Counts of sentences; `read` is the sum of all others.

    Attributes:
      read: sentences found in the corpus.
      dropped: how many were dropped, by reason.
      labels: how many were kept, by label.
      examples: the first sentence that was dropped for a reason.
    """

    read: int = 0
    dropped: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    labels: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    examples: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def kept(self) -> int:
        return self.labels.total()

    def drop(self, reason: str, sentence: str) -> None:
        """Count one sentence that is left out."""
        self.dropped[reason] += 1
        self.examples.setdefault(reason, sentence)

    def to_json(self) -> dict[str, Any]:
        """Returns the counts as plain dicts."""
        return {
            "read": self.read,
            "kept": self.kept,
            "dropped": dict(self.dropped.most_common()),
            "labels": dict(self.labels),
            "examples": self.examples,
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Counts":
        """The inverse of `to_json`."""
        return cls(
            values["read"],
            collections.Counter(values["dropped"]),
            collections.Counter(values["labels"]),
            dict(values["examples"]),
        )

    def reasons(self) -> str:
        """The counts in one line, the most frequent reason first."""
        reasons = [f"{count} {reason}" for reason, count in self.dropped.most_common()]
        return f"{self.read} sentences read; dropped: {'; '.join(reasons) or 'none'}"

    def table(self, title: str) -> rich.table.Table:
        """The counts for a person, with an example of each reason."""
        table = rich.table.Table("", "sentences", "share", "for example", title=title)
        table.columns[1].justify = table.columns[2].justify = "right"
        table.columns[3].overflow = "fold"

        def row(name: str, count: int, example: str = "") -> None:
            table.add_row(name, f"{count:,}", f"{count / max(self.read, 1):.1%}", example)

        row("read", self.read)
        for reason, count in self.dropped.most_common():
            row(f"dropped: {reason}", count, self.examples.get(reason, ""))
        for label, count in sorted(self.labels.items()):
            row(f"kept: {label}", count)
        return table
