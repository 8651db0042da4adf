# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""TweetEval (Barbieri et al., 2020): `tweet_eval_<set>`, eleven classifications of tweets.

Files, in MTO_DATA_DIR, as its authors lay them out: tweet_eval/<set>/{train,val,test}_text.txt, a
tweet a line, and {train,val,test}_labels.txt, the number of its label on the same line; the five
stance sets are in tweet_eval/stance/<target>.

The authors' scores are among the metrics' values: f1_macro (emotion, emoji, hate, offensive),
f1_yes (irony), the mean of f1_against and f1_favor (stance); their macro-averaged recall of the
sentiment is not.
"""

import dataclasses

from mto_jax.metrics import labels as label_metrics
from mto_jax.metrics import text as text_metrics
from mto_jax.text2text import registration as tasks
from mto_jax.text2text.readers import LabelledTextRow, RecordFile

FILES = {"train": "train", "validation": "val", "test": "test"}


@dataclasses.dataclass(frozen=True)
class TweetSet:
    """The words of one set.

    Attributes:
        phrase: see `templates.Wording`.
        labels: the label words in the order of the files' numbers.
        related: a related word for each, or none.
        folder: its name under tweet_eval.
    """

    phrase: str
    labels: tuple[str, ...]
    related: tuple[str, ...]
    folder: str


NO_YES = (("no", "yes"), ("false", "true"))
STANCE = (("none", "against", "favor"), ("neutral", "bad", "good"))
EMOJIS = (
    "red heart",
    "smiling face with heart eyes",
    "face with tears of joy",
    "two hearts",
    "fire",
    "smiling face with smiling eyes",
    "smiling face with sunglasses",
    "sparkles",
    "blue heart",
    "face blowing a kiss",
    "camera",
    "United States",
    "sun",
    "purple heart",
    "winking face",
    "hundred points",
    "beaming face with smiling eyes",
    "Christmas tree",
    "camera with flash",
    "winking face with tongue",
)

SETS = {
    "emotion": TweetSet(
        "The emotion is",
        ("anger", "joy", "optimism", "sadness"),
        ("angry", "happy", "hopeful", "sad"),
        "emotion",
    ),
    "emoji": TweetSet("The emoji is", EMOJIS, (), "emoji"),
    "hate": TweetSet("Is this hateful?", *NO_YES, "hate"),
    "irony": TweetSet("Is this ironic?", *NO_YES, "irony"),
    # The authors' first mapping.txt had the two labels the wrong way round: 1 is the rarer,
    # offensive one.
    "offensive": TweetSet("Is this offensive?", *NO_YES, "offensive"),
    "sentiment": TweetSet(
        "The sentiment is",
        ("negative", "neutral", "positive"),
        ("bad", "plain", "good"),
        "sentiment",
    ),
    "stance_abortion": TweetSet("The stance on abortion is", *STANCE, "stance/abortion"),
    "stance_atheism": TweetSet("The stance on atheism is", *STANCE, "stance/atheism"),
    "stance_climate": TweetSet("The stance on climate change is", *STANCE, "stance/climate"),
    "stance_feminist": TweetSet("The stance on feminism is", *STANCE, "stance/feminist"),
    "stance_hillary": TweetSet("The stance on Hillary Clinton is", *STANCE, "stance/hillary"),
}


def reader(name: str, split: str) -> RecordFile:
    """The reader of one split of one set."""
    tweets = SETS[name]
    numbered = tuple((str(number), word) for number, word in enumerate(tweets.labels))
    path = f"tweet_eval/{tweets.folder}/{FILES[split]}"
    return RecordFile(
        (f"{path}_text.txt",),
        LabelledTextRow(f"tweet_eval_{name}", numbered),
        columns=("text",),
        beside=("label", (f"{path}_labels.txt",)),
    )


def register() -> None:
    """Registers all sets under all templates for labelled texts; reads no file."""
    for name, tweets in SETS.items():
        tasks.register_records(
            f"tweet_eval_{name}",
            kind="labelled_text",
            splits={split: reader(name, split) for split in FILES},
            phrase=tweets.phrase,
            labels=tweets.labels,
            metric_fns=(text_metrics.accuracy, label_metrics.label_f1),
            related=dict(zip(tweets.labels, tweets.related, strict=True))
            if tweets.related
            else None,
        )
