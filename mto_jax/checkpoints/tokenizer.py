# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tokenizer files of Hugging Face for a vocabulary: spiece.model (slow), tokenizer.json (fast)."""

import pathlib
from collections.abc import Mapping
from typing import Any

from sentencepiece import sentencepiece_model_pb2

from mto_jax.errors import UserError
from mto_jax.files import write_json
from mto_jax.text2text.tokenizer import TokenizerVocabulary
from mto_jax.text2text.vocabulary import TOKENIZER_FILE, Vocabulary

_SPECIAL = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}


def write(folder: pathlib.Path, vocabulary: Vocabulary) -> None:
    """Write spiece.model, tokenizer.json and their configuration to `folder`.

    A vocabulary that is a tokenizer of Hugging Face has no spiece.model.

    The ids are those of `vocabulary`, beside sentinels too. (Transformers' own T5Tokenizer, from
    version 5 on, and in version 4 unless legacy=False, puts a space behind each sentinel: its
    "<extra_id_0>." is three tokens. So AutoTokenizer takes tokenizer.json as it stands.)

    Raises:
      UserError: the SentencePiece model is of another type than unigram.
    """
    if isinstance(vocabulary, TokenizerVocabulary):
        vocabulary.save(folder)
        names = {"eos_token": vocabulary.eos_id, "pad_token": 0, "unk_token": vocabulary.unk_id}
        _write_settings(folder, {key: vocabulary.piece(number) for key, number in names.items()})
        return
    proto = sentencepiece_model_pb2.ModelProto.FromString(
        pathlib.Path(vocabulary.path).read_bytes()
    )
    if proto.trainer_spec.model_type != proto.trainer_spec.UNIGRAM:
        raise UserError(
            f"{vocabulary.path} is not a unigram model of SentencePiece, as those of T5 are: no "
            "tokenizer for Transformers can be made of it."
        )
    in_file = sum(piece.piece.startswith("▁<extra_id_") for piece in proto.pieces)
    sentinels = [f"<extra_id_{i}>" for i in range(vocabulary.added_ids or in_file)]
    tokens = {**_SPECIAL, "additional_special_tokens": sentinels}
    vocabulary.save(folder)
    _fast(proto, vocabulary, sentinels).save(str(folder / TOKENIZER_FILE))
    # For T5Tokenizer of Transformers 4, which reads spiece.model:
    _write_settings(folder, tokens, extra_ids=vocabulary.added_ids, legacy=False)


def _write_settings(folder: pathlib.Path, tokens: Mapping[str, Any], **more: Any) -> None:
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        **tokens,
        **more,
    }
    for name, content in (("tokenizer_config.json", settings), ("special_tokens_map.json", tokens)):
        write_json(folder / name, content)


def _fast(proto: sentencepiece_model_pb2.ModelProto, vocabulary: Vocabulary, sentinels: list[str]):
    """The model of SentencePiece as a `tokenizers.Tokenizer`."""
    from tokenizers import (
        AddedToken,
        Regex,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
    )

    # A sentinel is a word to SentencePiece, with a space before it; here it is split off first.
    pieces = [
        (piece.piece.replace("▁<extra_id_", "<extra_id_"), piece.score) for piece in proto.pieces
    ]
    pieces += [(name, 0.0) for name in reversed(sentinels[: vocabulary.added_ids])]
    tokenizer = Tokenizer(
        models.Unigram(pieces, Vocabulary.unk_id, proto.trainer_spec.byte_fallback)
    )
    tokenizer.add_special_tokens(
        [AddedToken(name, normalized=False) for name in (*_SPECIAL.values(), *sentinels)]
    )
    charsmap = proto.normalizer_spec.precompiled_charsmap
    tokenizer.normalizer = normalizers.Sequence(
        [
            *([normalizers.Precompiled(charsmap)] if charsmap else []),
            # What SentencePiece does to spaces: no two in a row, none at the end.
            normalizers.Replace(Regex(" {2,}"), " "),
            normalizers.Strip(left=False),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    eos = ("</s>", Vocabulary.eos_id)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[eos]
    )
    return tokenizer
