# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Trains the demo's vocabulary, `mto_jax/assets/demo_vocab.model`, on the demo's corpus.

    python -m mto_jax.tasks.demo.train_vocabulary

Run it after a change of the facts or wordings. It is deterministic: the same corpus and the same version
of SentencePiece give the same file. With the 100 sentinels the vocabulary has 2048 ids, so its
embedding needs no padding rows.
"""

import io
import pathlib
import re
import string

import sentencepiece

import mto_jax
from mto_jax.tasks.demo import corpus, knowledge

NUM_PIECES = 1180
PATH = pathlib.Path(mto_jax.__file__).parent / "assets" / "demo_vocab.model"


def train() -> bytes:
    """The SentencePiece unigram model: pad 0, EOS 1, unknown 2, no BOS.

    Every printable ASCII character is a piece, so any English text can be encoded. Text is not
    normalised but for repeated spaces; Unicode tables would make the file ten times as large.
    """
    documents = corpus.sentences()
    # SentencePiece takes as candidates only strings that go on in more than one way. In so regular a text
    # "located" always goes on with " at", so words are shown once more before two punctuation marks.
    words = sorted(set(re.findall(r"[A-Za-z]+", " ".join(documents))))
    endings = [word + mark for word in words for mark in ",."]
    # Templates open a source with the name of the task; repetitions make the names short.
    names = [f"{relation}{mark}" for relation in knowledge.RELATIONS for mark in ":,"] * 50
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*documents, *endings, *names]),
        model_writer=model,
        model_type="unigram",
        vocab_size=NUM_PIECES,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        required_chars=string.digits + string.ascii_letters + string.punctuation,
        character_coverage=1.0,
        normalization_rule_name="identity",
        num_threads=1,
        minloglevel=1,
    )
    return model.getvalue()


if __name__ == "__main__":
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_bytes(train())
    print(f"{PATH}: {NUM_PIECES} pieces, {PATH.stat().st_size:,} bytes")
