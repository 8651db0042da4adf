# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Objective-aligned templates (method, section 5): how a record becomes a source and a target.

A template is data, a point on independent axes:

    masked       a sentinel marks the gap and opens the target (denoising), or not (language model)
    verbalised   the relation phrase, or the choices, are written out, or the bare field is alone
    soft         place of the soft prompt: none, first, before, after, shared and private together
    in_place     the sentinel stands at a gap inside the text, or at the end
    slots        one answer, or two: a first step and then the label it leads to

The examples of a SeqIO task that has no records stay as they are (`AsRegistered`), or get a soft
prompt in front (`PreAsRegistered`).

What differs between the kinds of record is one small function each (`_FRAMES`). Rendering is pure:
nothing is carried from one example to the next.

    >>> fact = Triple("xIntent", "xIntent", "PersonX works", ("to earn money",))
    >>> rendered = render(TEMPLATES["MaskedPrompting"], fact, Wording("because they intended"))
    >>> rendered.source_text
    'xIntent: PersonX works because they intended <extra_id_0>'
    >>> rendered.target_text
    '<extra_id_0> to earn money'

`python -m mto_jax.text2text.template_page` prints every template on one example of every kind.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

from mto_jax.errors import UserError, unknown
from mto_jax.text2text.records import (
    AS_REGISTERED,
    KINDS,
    AsRegistered,
    Generation,
    LabelledText,
    MultipleChoice,
    Record,
    Triple,
)
from mto_jax.text2text.vocabulary import literal, unmarked

# ---- Templates --------------------------------------------------------------------------------

SOFT = ("none", "first", "before", "after", "shared")


@dataclasses.dataclass(frozen=True)
class Template:
    """A point on the axes.

    Attributes:
        name: the paper's name.
        masked: source and target carry sentinels.
        verbalised: the phrase (triples, texts) or the choices (questions) are in the source.
        soft: "none"; "first" of all, the task's name included, as Hugging Face PEFT has it;
            "before" the text, behind the task's name; "after" it, in front of the sentinel;
            "shared": the rows of a prompt that several tasks share, then the task's own rows, both
            before the text.
        slots: 1 or 2. Two slots of a question are the answer and the number of its choice; two
            slots of a text are a word related to the label and the label.
        kinds: the kinds of record that it applies to.
        in_place: the sentinel stands where the head or question marks its gap (`Wording.gap`).
        frame: lays out a record in place of the kind's own layout (`Frame`).
    """

    name: str
    masked: bool
    verbalised: bool
    soft: str = "none"
    slots: int = 1
    kinds: tuple[str, ...] = tuple(KINDS)
    in_place: bool = False
    frame: "Callable[[Any, Template, Wording], Frame] | None" = None

    @property
    def objective(self) -> str:
        """The pair objective that it belongs to."""
        return "denoising" if self.masked else "lm"

    @property
    def snake_name(self) -> str:
        """The name as a part of a task name: MaskedPrePT -> masked_pre_pt."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", self.name).lower()


_FIELDS = ("triple", "labelled_text", "generation")
_QUESTION = ("multiple_choice",)


def _templates() -> Iterator[Template]:
    yield Template("Mapping", masked=False, verbalised=False)
    yield Template("MaskedMapping", masked=True, verbalised=False)
    yield Template("Prompting", masked=False, verbalised=True, kinds=_FIELDS)
    yield Template("MaskedPrompting", masked=True, verbalised=True, kinds=_FIELDS)
    yield Template("InPlaceMapping", masked=True, verbalised=False, in_place=True)
    yield Template("InPlaceAnswerPrompting", True, True, kinds=_QUESTION, in_place=True)
    two_slots = ("labelled_text",)
    yield Template("MaskedRelatedPrompting", masked=True, verbalised=True, slots=2, kinds=two_slots)
    for masked in (False, True):
        word = "Masked" if masked else ""
        yield Template(f"{word}FirstPT", masked, True, "first", kinds=_FIELDS)
        yield Template(f"{word}PrePT", masked, True, "before", kinds=_FIELDS)
        yield Template(f"{word}PreSup", masked, False, "before", kinds=_FIELDS)
        yield Template(f"{word}PostPT", masked, False, "after", kinds=_FIELDS)
        yield Template(f"{word}SharedPrePT", masked, True, "shared", kinds=_FIELDS)
    for place, soft in (
        ("", "none"),
        ("First", "first"),
        ("Pre", "before"),
        ("Post", "after"),
        ("SharedPre", "shared"),
    ):
        for answer, slots in (("Choice", 2), ("Answer", 1)):
            for masked in (True, False):
                name = f"{'Masked' if masked else ''}{answer}Prompting"
                yield Template(place + name, masked, True, soft, slots, kinds=_QUESTION)
    for place, soft in (("", "none"), ("Pre", "first")):
        yield Template(f"{place}AsRegistered", False, False, soft, kinds=(AS_REGISTERED,))


TEMPLATES: dict[str, Template] = {template.name: template for template in _templates()}


def register_template(template: Template) -> Template:
    """Adds a template to `TEMPLATES`, for every verb, and returns it.

    Tasks `<data>_<snake_name>` exist of data that is registered afterwards, and of that of MTO-JAX.

    Raises:
        UserError: another template has the name or its snake case; a field that has no such value.
    """
    names = {other.snake_name: other for other in TEMPLATES.values() if other != template}
    if template.snake_name in names:
        raise UserError(
            f"There is a template {names[template.snake_name].name!r} already: rename "
            f"{template.name!r}."
        )
    for field, values, known in (("soft", [template.soft], SOFT), ("kind", template.kinds, KINDS)):
        for value in values:
            if value not in known:
                raise unknown(f"{field} (template {template.name})", value, known)
    if template.slots not in (1, 2):
        raise UserError(f"Template.slots is {template.slots!r} ({template.name}); expected 1 or 2.")
    return TEMPLATES.setdefault(template.name, template)


@dataclasses.dataclass(frozen=True)
class Wording:
    """The words of one task, which its templates put around the fields of a record.

    Attributes:
        phrase: what stands between head and tail. A postfix phrase ("is used for") follows the
            head; a wrap phrase has the head where the word H stands ("you are likely to find H
            in"). The gap is at the end, or where the word T stands ("T is where you find H").
        names: what the first and the second text of a labelled text are called ("premise",
          "hypothesis").
        labels: the label words, in order.
        related: a word for each label, which the two-slot template names first.
        gap: the mark in heads or questions for the place of the answer ("___"); "" for none.
    """

    phrase: str = ""
    names: tuple[str, str] = ("", "")
    labels: tuple[str, ...] = ()
    related: Mapping[str, str] = dataclasses.field(default_factory=dict)
    gap: str = ""


def templates_for(kind: str, wording: Wording = Wording()) -> list[Template]:
    """Every named template that applies to a task of this kind and wording."""
    return [
        template
        for template in TEMPLATES.values()
        if kind in template.kinds
        and (kind != "labelled_text" or template.slots == 1 or wording.related)
        and (wording.gap or not template.in_place)
    ]


# ---- Rendering --------------------------------------------------------------------------------


class Words(NamedTuple):
    """Text; only a free one may be shortened when the example is too long.

    A glued one follows the part before it without a space, like the comma in "H, PersonX will".
    """

    text: str
    free: bool = False
    glued: bool = False


class Text(NamedTuple):
    """A whole text that may be shortened; sentinels in it are sentinels."""

    text: str


class Sentinel(NamedTuple):
    """T5's `<extra_id_number>`."""

    number: int


class Soft(NamedTuple):
    """The rows of a soft prompt: the task's own, or those shared with other tasks."""

    shared: bool = False


Part = Words | Text | Sentinel | Soft


@dataclasses.dataclass(frozen=True)
class Rendered:
    """A record under a template, not yet tokenised."""

    source: tuple[Part, ...]
    target: tuple[Part, ...]

    @property
    def source_text(self) -> str:
        return join(self.source)

    @property
    def target_text(self) -> str:
        return join(self.target)


class Frame(NamedTuple):
    """The parts that a kind of record contributes to an example."""

    body: tuple[Part, ...]  # the source without task name, soft prompt and the gap at the end
    answers: tuple[Words | Text, ...]  # one for every slot
    bridge: str = ""  # the words between the two gaps of a masked template
    gap_inside: bool = False  # the body holds the gap: none follows at the end
    named: bool = True  # the task's name opens the source


def render(template: Template, record: Record, wording: Wording = Wording()) -> Rendered:
    """Source and target of a record; the target is its first reference.

    Raises:
        UserError: a verbalised triple without a phrase, or a label without a related word.
    """
    frame = _frame(record, template, wording)
    prompt = (Soft(True), Soft()) if template.soft == "shared" else (Soft(),)
    name = (Words(f"{record.task}:"),) if frame.named else ()
    source = {
        "none": (*name, *frame.body),
        "first": (*prompt, *name, *frame.body),
        "before": (*name, *prompt, *frame.body),
        "shared": (*name, *prompt, *frame.body),
        "after": (*name, *frame.body, *prompt),
    }[template.soft]
    target: tuple[Part, ...] = frame.answers
    if template.masked:
        if not frame.gap_inside:
            source += (Sentinel(0),)
        if template.slots == 2:
            source += (Words(frame.bridge, glued=True), Sentinel(1))
        target = tuple(
            part for i, answer in enumerate(frame.answers) for part in (Sentinel(i), answer)
        )
    return Rendered(source, target)


def reference_texts(template: Template, record: Record, wording: Wording = Wording()) -> list[str]:
    """Returns the target texts, without sentinels, of every reference of the record."""
    frame = _frame(record, template, wording)
    if template.slots == 1:
        return list(record.references)
    return [unmarked(join(frame.answers))]


def candidate_texts(template: Template, record: Record, wording: Wording = Wording()) -> list[str]:
    """The target text (sentinels included) of every answer that the task allows, for ranking."""
    if isinstance(record, MultipleChoice):
        alternatives = [dataclasses.replace(record, answer=i) for i in range(len(record.choices))]
    elif isinstance(record, LabelledText):
        alternatives = [dataclasses.replace(record, label=label) for label in wording.labels]
    else:
        alternatives = []
    return [render(template, alternative, wording).target_text for alternative in alternatives]


def pairs(records: Iterable[Record], wording: Wording = Wording()) -> Iterator[tuple[str, str]]:
    """(body, tail) of every fact in its own words, for adaptation: "H phrase" and "T".

    A gap inside the phrase is marked by `<extra_id_0>` in the body. A question's body has no
    choices.
    """
    for record in records:
        question = isinstance(record, MultipleChoice)
        template = TEMPLATES["MaskedMapping" if question else "MaskedPrompting"]
        body = join(_frame(record, template, wording).body)
        for reference in record.references:
            yield body, literal(reference)


def sentences(records: Iterable[Record], wording: Wording = Wording()) -> Iterator[str]:
    """Every fact as a sentence, "H phrase T": a corpus for adaptation."""
    for body, tail in pairs(records, wording):
        gap_inside = "<extra_id_0>" in body
        yield body.replace("<extra_id_0>", tail) if gap_inside else f"{body} {tail}"


def join(parts: Iterable[Part]) -> str:
    """Returns the parts as one text; what only looks like a sentinel is marked (`literal`)."""
    text = ""
    for part in parts:
        match part:
            case Words(words, _, glued):
                words = literal(words)
            case Text(words):
                glued = False
            case Sentinel(number):
                words, glued = f"<extra_id_{number}>", False
            case Soft(shared):
                words, glued = "<shared_prompt>" if shared else "<prompt>", False
        text += words if glued or not text else f" {words}"
    return text


def _frame(record: Record, template: Template, wording: Wording) -> Frame:
    return (template.frame or _FRAMES[type(record)])(record, template, wording)


_BLANK = Words("___")  # a plain template's gap inside a phrase


@functools.lru_cache(maxsize=4096)
def _split_phrase(phrase: str) -> tuple[Literal["H", "T"] | Words, ...]:
    """The phrase in pieces: "H" where the head stands, "T" where the gap stands, and its words.

    >>> [piece if piece in ("H", "T") else piece.text for piece in _split_phrase("After H, they")]
    ['After', 'H', ', they']
    >>> _split_phrase("is used for")
    ('H', Words(text='is used for', free=False, glued=False))
    """
    split = [piece for piece in re.split(r"\b([HT])\b", phrase.strip()) if piece.strip()]
    pieces: list[Literal["H", "T"] | Words] = [
        piece if piece in ("H", "T") else Words(piece.strip(), glued=i > 0 and piece[0] != " ")
        for i, piece in enumerate(split)
    ]
    if "H" not in pieces:
        pieces.insert(0, "H")
    if pieces.count("H") > 1 or pieces.count("T") > 1:
        raise UserError(
            f"The phrase {phrase!r} has the word H or T more than once: the head and the gap each "
            "have one place in a phrase."
        )
    if pieces[-1] == "T":  # the gap is at the end anyway
        pieces.pop()
    return tuple(pieces)


def check_phrase(phrase: str) -> None:
    """Raises a UserError if head or gap have more than one place in the phrase."""
    if "<extra_id_" in phrase:
        raise UserError(f"The phrase {phrase!r} has a sentinel in it. Mark the gap by the word T.")
    _split_phrase(phrase)


def _body(
    head: tuple[Words, ...], template: Template, wording: Wording
) -> tuple[tuple[Part, ...], bool]:
    """The head inside its phrase, and whether the gap is inside too."""
    if template.in_place:
        return _at_gap(head, wording.gap)
    if not template.verbalised:
        return head, False
    gap = Sentinel(0) if template.masked else _BLANK
    body: list[Part] = []
    pieces = _split_phrase(wording.phrase)
    for piece in pieces:
        if piece == "H":
            body += head
        else:
            body.append(gap if piece == "T" else piece)
    return tuple(body), "T" in pieces


def _at_gap(words: tuple[Words, ...], gap: str) -> tuple[tuple[Part, ...], bool]:
    """The words with the sentinel in place of their first gap, and whether they have one."""
    mark = re.compile(rf"(?<!_){re.escape(gap)}(?!_)")
    for i, (text, free, glued) in enumerate(words):
        if place := mark.search(text):
            before, after = text[: place.start()].rstrip(), text[place.end() :]
            left = (Words(before, free, glued),) if before else ()
            right = (Words(after.lstrip(), free, after[0] != " "),) if after.strip() else ()
            return (*words[:i], *left, Sentinel(0), *right, *words[i + 1 :]), True
    return words, False


def _triple(record: Triple, template: Template, wording: Wording) -> Frame:
    if template.verbalised and not wording.phrase:
        raise UserError(
            f"The relation '{record.relation}' has no phrase, which the template {template.name} "
            "needs. Give it one (phrase='is used for') or choose a template without: Mapping, "
            "MaskedMapping."
        )
    body, gap_inside = _body((Words(record.head, free=True),), template, wording)
    return Frame(body, (Words(record.tails[0], free=True),), gap_inside=gap_inside)


def _generation(record: Generation, template: Template, wording: Wording) -> Frame:
    body, gap_inside = _body((Words(record.source, free=True),), template, wording)
    return Frame(body, (Words(record.targets[0], free=True),), gap_inside=gap_inside)


def _labelled_text(record: LabelledText, template: Template, wording: Wording) -> Frame:
    head: tuple[Words, ...] = ()
    for name, text in zip(wording.names, (record.text, record.text2), strict=True):
        if name and text:
            head += (Words(f"{name}:"),)
        if text:
            head += (Words(text, free=True),)
    body, gap_inside = _body(head, template, wording)
    answers = (Words(record.label),)
    if template.slots == 2:
        if record.label not in wording.related:
            raise UserError(
                f"The label '{record.label}' of the task '{record.task}' has no related word, "
                f"which the template {template.name} names first. Add it to related={{...}}."
            )
        answers = (Words(wording.related[record.label]), *answers)
    return Frame(body, answers, ", so the label is", gap_inside)


def _multiple_choice(record: MultipleChoice, template: Template, wording: Wording) -> Frame:
    asides = tuple(Words(text, free=True) for text in (record.fact, record.context) if text)
    question: tuple[Part, ...] = (Words(record.question),)
    gap_inside = False
    if template.in_place:
        question, gap_inside = _at_gap((Words(record.question),), wording.gap)
    body = (*asides, *question)
    if template.verbalised:
        listed = ", ".join(f"choice{i}: {text}" for i, text in enumerate(record.choices, 1))
        body += (Words(listed),)
    answer = Words(record.choices[record.answer], free=True)
    number = Words(f"choice{record.answer + 1}")
    if template.slots == 1:
        return Frame(body, (answer,), gap_inside=gap_inside)
    # The masked form reasons from the answer to its number, the plain form names the number first.
    answers = (answer, number) if template.masked else (number, answer)
    return Frame(body, answers, ", the correct choice is")


def _as_registered(record: AsRegistered, template: Template, wording: Wording) -> Frame:
    del template, wording
    return Frame((Text(record.source),), (Text(record.target),), named=False)


_FRAMES: dict[type, Callable[..., Frame]] = {
    Triple: _triple,
    MultipleChoice: _multiple_choice,
    LabelledText: _labelled_text,
    Generation: _generation,
    AsRegistered: _as_registered,
}
