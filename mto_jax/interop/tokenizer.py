# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tokenizer files of Hugging Face for a vocabulary: SentencePiece (slow) and tokenizer.json (fast)."""

import json
import pathlib
import shutil

from mto_jax.vocabulary import MODEL_FILE, Vocabulary


def write(folder: pathlib.Path, vocabulary: Vocabulary) -> None:
    """spiece.model, tokenizer.json, tokenizer_config.json and special_tokens_map.json in `folder`.

    The ids are those of `vocabulary`, whichever of the two tokenizers reads a text. (A space between a
    sentinel and the character after it is a token of Transformers' and not one of ours.)
    """
    from transformers import T5Tokenizer

    shutil.copyfile(vocabulary.path, folder / MODEL_FILE)
    (folder / MODEL_FILE).chmod(0o644)
    special = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    sentinels = [f"<extra_id_{i}>" for i in range(vocabulary.added_ids)]
    tokens = {**special, "additional_special_tokens": sentinels}
    settings = {"tokenizer_class": "T5Tokenizer", "extra_ids": vocabulary.added_ids, **tokens}
    # Transformers makes the fast tokenizer out of the SentencePiece model; its own
    # tokenizer_config.json is one that version 4 does not read, so ours stands in its place.
    for name, content in (("tokenizer_config.json", settings), ("special_tokens_map.json", tokens)):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")
    fast = T5Tokenizer.from_pretrained(folder)
    fast.backend_tokenizer.save(str(folder / "tokenizer.json"))
