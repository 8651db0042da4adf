# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tokenizers of Hugging Face that are no plain SentencePiece model, as a `Vocabulary`."""

import functools
import itertools
import json
import os
import pathlib
import re
from collections.abc import Sequence

import tokenizers

from mto_jax.errors import UserError
from mto_jax.files import digest, write_atomically
from mto_jax.text2text.vocabulary import GLUED_SENTINEL, TOKENIZER_FILE, Vocabulary, listed_tokens

_INNER_SENTINEL = re.compile(r"(?<!^)(?=<extra_id_\d+>)")


class TokenizerVocabulary(Vocabulary):
    """A tokenizer of Hugging Face; the ids are those of Transformers.

    Sentinels are its tokens `<extra_id_0>`, `<extra_id_1>`, ..., if it has any; tokens that a user
    added may follow them.

    Args:
      path: tokenizer.json, or a folder whose tokenizer `transformers.AutoTokenizer` makes.

    Raises:
      UserError: it cannot be read, or does not make of a text its tokens and an EOS.
    """

    def __init__(self, path: str | os.PathLike):
        place = pathlib.Path(path)
        self._json = place.read_text("utf-8") if place.is_file() else _of_transformers(place)
        try:
            self._tokenizer = tokenizers.Tokenizer.from_str(self._json)
        except Exception as error:  # the library raises bare exceptions
            raise UserError(f"{place} does not read as a tokenizer: {error}.") from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        around = self._tokenizer.encode("")
        if len(around.ids) != 1 or self._tokenizer.encode("a").ids[-1:] != around.ids:
            raise UserError(
                f"The tokenizer {place} ({described(place)}) puts {around.tokens or 'nothing'} "
                "around a text; this program has texts that end with an EOS and have nothing in "
                "front."
            )
        (self.eos_id,) = around.ids
        for token, number in listed_tokens(place).items() if place.is_dir() else ():
            if self._tokenizer.token_to_id(token) != number:
                raise UserError(
                    f"{place} ({described(place)}) lists {token!r} as token {number}, but "
                    f"Transformers reads {self._tokenizer.token_to_id(token)}. Save the tokenizer "
                    "with the version of Transformers that wrote it, as tokenizer.json."
                )
        added = self._tokenizer.get_added_tokens_decoder()
        if not (0 in added and added[0].special):
            raise UserError(
                f"The tokenizer {place} ({described(place)}) has the text "
                f"{self._tokenizer.id_to_token(0)!r} as its token 0, which is padding here."
            )
        super().__init__(path, extra_ids=len(self._sentinels))

    @functools.cached_property
    def _sentinels(self) -> list[int]:
        """The ids of `<extra_id_0>`, `<extra_id_1>`, ...; empty unless they descend by 1."""
        ids, space = [], "▁" * self._glued
        while (number := self._tokenizer.token_to_id(f"{space}<extra_id_{len(ids)}>")) is not None:
            ids.append(number)
        descending = itertools.takewhile(lambda pair: pair[1] == ids[0] - pair[0], enumerate(ids))
        return [number for _, number in descending]

    @functools.cached_property
    def _glued(self) -> bool:
        """Whether sentinels begin with a space, as pieces of SentencePiece do."""
        return self._tokenizer.token_to_id("▁<extra_id_0>") is not None

    @functools.cached_property
    def _drops_spaces(self) -> bool:
        """Whether ids do not say if a space stands before a sentinel, as T5's do not.

        Then their text is that which SentencePiece makes of the same ids: with a space there.
        """
        with_space, without = self._ids(["a <extra_id_0>", "a<extra_id_0>"])
        return with_space == without

    @functools.cached_property
    def unk_id(self) -> int:
        model = json.loads(self._json)["model"]
        number = model.get("unk_id")
        token = self._tokenizer.token_to_id(model.get("unk_token") or "<unk>")
        return number if number is not None else self.eos_id if token is None else token

    @functools.cached_property
    def size(self) -> int:
        return 1 + max(self._tokenizer.get_vocab(with_added_tokens=True).values())

    @property
    def num_pieces(self) -> int:
        return self._sentinels[-1] if self._sentinels else self.size

    @functools.cached_property
    def digest(self) -> str:
        return digest(self._json)

    def save(self, folder: pathlib.Path) -> None:
        """Write the tokenizer into `folder` as tokenizer.json."""
        write_atomically(folder / TOKENIZER_FILE, self._json)

    def sentinel_id(self, i: int) -> int:
        if not 0 <= i < self.extra_ids:
            raise UserError(
                f"There is no sentinel <extra_id_{i}>: the tokenizer {self.path} has "
                f"{self.extra_ids or 'none'}."
            )
        return self._sentinels[i]

    def piece(self, i: int) -> str:
        return self._tokenizer.id_to_token(i) or ""

    def frequent_ids(self, count: int) -> list[int]:
        """The first `count` ids of text: tokenizers number their pieces by frequency."""
        control = self._tokenizer.get_added_tokens_decoder()
        sentinels = set(self._sentinels)
        ids = (i for i in range(self.size) if i not in control and i not in sentinels)
        return [i for i, _ in zip(ids, range(count), strict=False)]

    @functools.cached_property
    def _inside_control(self) -> re.Pattern:
        """Matches behind the first character of what the tokenizer would read as a control token.

        Text that is split there is spelled out.
        """
        sentinels, added = set(self._sentinels), self._tokenizer.get_added_tokens_decoder()
        names = [t.content for i, t in added.items() if t.special and i not in sentinels]
        places = (f"(?<={re.escape(n[0])})(?={re.escape(n[1:])})" for n in names if len(n) > 1)
        return re.compile("|".join(places) or "(?!)")

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        if self._glued:
            texts = [GLUED_SENTINEL.sub(" ", text) for text in texts]
        parts = [self._inside_control.split(text) for text in texts]
        flat = list(itertools.chain(*parts))
        encoded = iter(self._tokenizer.encode_batch(flat, add_special_tokens=False))
        return [[i for _ in row for i in next(encoded).ids] for row in parts]

    def _text(self, ids: Sequence[int]) -> str:
        text = self._tokenizer.decode(ids, skip_special_tokens=False)
        if not self._drops_spaces:
            return text
        if not self._glued and any(i in self._sentinels for i in ids):
            text = _INNER_SENTINEL.sub(" ", text)
        return text.lstrip(" ")

    def _follows_space(self, i: int) -> bool:
        return super()._follows_space(i) or (self._drops_spaces and i in self._sentinels)


def described(path: pathlib.Path) -> str:
    """The class and the files of a tokenizer, for messages: "BartTokenizer; vocab.json, ..."."""
    folder = path if path.is_dir() else path.parent
    config = folder / "tokenizer_config.json"
    name = ""
    if config.is_file():
        try:
            name = json.loads(config.read_text()).get("tokenizer_class") or ""
        except (ValueError, AttributeError):
            name = "tokenizer_config.json does not parse"
    files = [p.name for p in sorted(folder.glob("*")) if p.suffix in (".json", ".txt", ".model")]
    files = [p for p in files if "config" not in p and "index" not in p and "special" not in p]
    return "; ".join(filter(None, (name, ", ".join(files))))


def _of_transformers(folder: pathlib.Path) -> str:
    """The content of tokenizer.json for the tokenizer that Transformers makes of a folder."""
    try:
        import transformers
    except ImportError as error:
        raise UserError(
            f"{folder} has a tokenizer ({described(folder)}) that only Transformers reads: pip "
            "install transformers."
        ) from error
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # Transformers raises errors of many kinds on foreign files
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"transformers.AutoTokenizer does not read the tokenizer of {folder} "
            f"({described(folder)}): {reason}"
        ) from error
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise UserError(
            f"The tokenizer of {folder}, {type(tokenizer).__name__}, is a program without a "
            "tokenizer.json; this program reads no other."
        )
    return backend.to_str()
