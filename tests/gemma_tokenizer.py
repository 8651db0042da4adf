# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""A small tokenizer of the form of Gemma's, for a folder of a random model."""

import json
import pathlib

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

_CONTROL = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>")
_UNUSED = tuple(f"<unused{k}>" for k in range(10))
_WORDS = ("the cat sat on the mat", "a person who went to the market wants to eat", "so it is")


def write(folder: pathlib.Path, texts: tuple[str, ...] = _WORDS) -> int:
    """Write tokenizer.json and tokenizer_config.json; returns the number of ids."""
    bytes_ = [f"<0x{i:02X}>" for i in range(256)]
    marks = ["<mark0>", "<mark1>"]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    trainer = trainers.BpeTrainer(
        special_tokens=[*_CONTROL, *_UNUSED, *marks, *bytes_], vocab_size=500, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = []
    tokenizer = Tokenizer.from_str(json.dumps(content))
    tokenizer.add_special_tokens([AddedToken(name, normalized=False) for name in _CONTROL])
    tokenizer.add_tokens([AddedToken(name, normalized=False) for name in (*_UNUSED, *marks)])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[("<bos>", 2)]
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"pad": "<pad>", "eos": "<eos>", "bos": "<bos>", "unk": "<unk>"}
    settings = {f"{key}_token": name for key, name in names.items()}
    settings |= {"tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return tokenizer.get_vocab_size()
