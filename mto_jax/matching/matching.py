# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The result of matching tasks: verdicts, decisions, and their tables and files."""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import rich.table

from mto_jax.console import markdown_table
from mto_jax.files import write_atomically
from mto_jax.frames import frame
from mto_jax.matching import outputs
from mto_jax.matching.agreement import Agreement, agreements
from mto_jax.matching.decide import Decision
from mto_jax.matching.probe import Probed
from mto_jax.matching.verdict import Verdict
from mto_jax.pictures import encode


@dataclasses.dataclass(frozen=True)
class Matching:
    """The verdicts on some tasks, and what they decide.

    Attributes:
      model: its name for a person.
      verdicts: of all scores on all tasks.
      decisions: objective and template of each task, and the verdict that decided.
      probes: the probe of each task, with the scores of all pairs; empty without one.
      classified: for each task of known group that the classifier has not learnt from, the group
        and the share of its pairs that were put there.
      notes: what else a reader of the table should know, in words.
      folder: where all this is written; None for nowhere.
    """

    model: str
    verdicts: list[Verdict]
    decisions: dict[str, Decision]
    probes: dict[str, Probed] = dataclasses.field(default_factory=dict)
    classified: dict[str, tuple[str, float]] = dataclasses.field(default_factory=dict)
    notes: Sequence[str] = ()
    folder: pathlib.Path | None = None

    @property
    def templates(self) -> dict[str, str]:
        """The name of the template of each task."""
        return {task: decision.choice.template for task, decision in self.decisions.items()}

    @functools.cached_property
    def agreements(self) -> list[Agreement]:
        """How far each score agrees with the probe; none without a probe."""
        return agreements(self.verdicts) if self.probes else []

    def to_pandas(self) -> Any:
        """Returns a `pandas.DataFrame`: a row a verdict."""
        return frame(map(dataclasses.asdict, self.verdicts))

    def warnings(self) -> list[str]:
        """The reasons to doubt the scores, and the notes, in words."""
        probed = self.probes.items()
        return [*(text for task, probe in probed for text in probe.warnings(task)), *self.notes]

    def rows(self) -> dict[str, outputs.Rows]:
        """Returns the tables by title: verdicts, and of what there is probes, classifier,
        agreements."""
        shown = {
            "fill: Mask-Filling, map: Map-Phrasal, ?: no clear winner": outputs.verdict_rows(
                self.verdicts, self.decisions
            )
        }
        if self.probes:
            title = "the best pair under each objective, and how many answers are distinct"
            shown[title] = outputs.probe_rows(self.probes)
        if self.classified:
            title = "the classifier on tasks that it has not seen"
            shown[title] = outputs.classifier_rows(self.classified)
        if self.agreements:
            shown["agreement with the probe"] = outputs.agreement_rows(self.agreements)
        return shown

    def tables(self) -> list[rich.table.Table]:
        """Returns `rows` as tables for the terminal."""
        return [outputs.table(title, rows) for title, rows in self.rows().items()]

    def write(self, folder: pathlib.Path) -> None:
        """Write table.md, figure.png, mapping.gin and match.json into a folder."""
        (_, verdicts), *others = self.rows().items()
        text = markdown_table(verdicts)
        for title, rows in others:
            text += f"\n\n{title[0].upper()}{title[1:]}:\n\n{markdown_table(rows)}"
        warnings = "\n".join(f"- {warning}" for warning in self.warnings())
        write_atomically(folder / "table.md", f"{text}\n\n{warnings}\n")
        write_atomically(folder / "figure.png", encode(outputs.figure(self.verdicts), "png"))
        write_atomically(folder / "mapping.gin", outputs.mapping_gin(self.decisions, self.model))
        decisions = self.decisions.items()
        content = {
            "model": self.model,
            "verdicts": [dataclasses.asdict(verdict) for verdict in self.verdicts],
            "mapping": {task: list(decision.choice) for task, decision in decisions},
            "decided_by": {task: decision.decided_by for task, decision in decisions},
            "probes": {
                task: {
                    "metric": probe.metric,
                    "values": probe.values,
                    "distinct": probe.distinct,
                    "heads": probe.heads,
                    "constant": probe.constant,
                }
                for task, probe in self.probes.items()
            },
            "classifier": self.classified,
            "agreement": [dataclasses.asdict(agreement) for agreement in self.agreements],
            "warnings": self.warnings(),
        }
        write_atomically(folder / "match.json", json.dumps(content, indent=1) + "\n")
