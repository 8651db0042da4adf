# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The page docs/templates.md: `python -m mto_jax.text2text.template_page > docs/templates.md`."""

from mto_jax.console import markdown_table
from mto_jax.text2text import phrases
from mto_jax.text2text.records import (
    KIND_NAMES,
    AsRegistered,
    Generation,
    LabelledText,
    MultipleChoice,
    Record,
    Triple,
)
from mto_jax.text2text.templates import Wording, render, templates_for

_EXAMPLES: dict[str, tuple[Record, Wording]] = {
    "triple": (
        Triple("xIntent", "xIntent", "PersonX works as a waitress", ("to earn money",)),
        Wording(phrases.POSTFIX["xIntent"]),
    ),
    "triple, phrase around the head": (
        Triple("AtLocation", "AtLocation", "a pillow", ("a bed",)),
        Wording(phrases.WRAP["AtLocation"]),
    ),
    "triple, gap inside the head": (
        Triple("isFilledBy", "isFilledBy", "PersonX fills ___ with water", ("a glass",)),
        Wording(phrases.POSTFIX["isFilledBy"], gap="___"),
    ),
    "multiple_choice": (
        MultipleChoice(
            "commonsenseqa", "Where do adults use glue sticks?", ("classroom", "office"), 1
        ),
        Wording(),
    ),
    "labelled_text": (
        LabelledText("sst2", "a warm and funny film", "positive"),
        Wording("It was", labels=("negative", "positive"), related={"positive": "great"}),
    ),
    "generation": (
        Generation("commongen", "dog frisbee catch", ("The dog catches a frisbee.",)),
        Wording("concepts: H"),
    ),
    "as_registered": (
        AsRegistered("glue_cola", "cola sentence: The car honked.", "acceptable", ("acceptable",)),
        Wording(),
    ),
}


_HEAD = """# Templates

Written by `python -m mto_jax.text2text.template_page > docs/templates.md`; a test checks that it is up to date.

`<prompt>` stands for the soft tokens of the task (10 by default), `<shared_prompt>` for those that
tasks share. The name of a SeqIO task ends in the template's name in snake case:
`atomic_xIntent_masked_prompting`.
"""  # noqa: E501
_COLUMNS = ("template", "masked", "verbalised", "soft prompt", "slots", "source", "target")


def page() -> str:
    """Every template on one example of every kind, as Markdown (docs/templates.md)."""
    parts = [_HEAD]
    for title, (record, wording) in _EXAMPLES.items():
        rows: list[tuple[str, ...]] = [_COLUMNS]
        for template in templates_for(KIND_NAMES[type(record)], wording):
            rendered = render(template, record, wording)
            marks = ["yes" if axis else "-" for axis in (template.masked, template.verbalised)]
            soft = "-" if template.soft == "none" else template.soft
            texts = [f"`{text}`" for text in (rendered.source_text, rendered.target_text)]
            rows.append((template.name, *marks, soft, str(template.slots), *texts))
        parts.append(f"## {title.replace('_', ' ').capitalize()}\n\n{markdown_table(rows)}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    print(page(), end="")
