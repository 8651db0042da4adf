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

import gin
import numpy as np
import tokenizers

from mto_jax.errors import UserError, first_line
from mto_jax.files import digest, write_atomically
from mto_jax.text2text.vocabulary import GLUED_SENTINEL, TOKENIZER_FILE, Vocabulary, listed_tokens

_INNER_SENTINEL = re.compile(r"(?<!^)(?=<extra_id_\d+>)")


class TokenizerVocabulary(Vocabulary):
    """A tokenizer of Hugging Face; the ids are those of Transformers.

    Sentinels are its tokens `<extra_id_0>`, `<extra_id_1>`, ..., if it has any, else those that
    `sentinel_tokens` names (Gemma's `<unused0>`, `<unused1>`, ...), which read `<extra_id_k>` here;
    tokens that a user added may follow them. A tokenizer may put a BOS in front of a text, as
    Gemma's does, which has no EOS behind it: then sources begin with it.

    Args:
      path: tokenizer.json, or a folder whose tokenizer `transformers.AutoTokenizer` makes.

    Raises:
      UserError: it cannot be read, or puts other tokens around a text than an EOS or a BOS.
    """

    def __init__(self, path: str | os.PathLike):
        place = pathlib.Path(path)
        self._json = place.read_text("utf-8") if place.is_file() else _of_transformers(place)
        try:
            self._content = _named(self._json, sentinel_tokens())
            self._tokenizer = tokenizers.Tokenizer.from_str(self._content)
        except Exception as error:  # the library raises bare exceptions
            raise UserError(f"{place} does not read as a tokenizer: {error}.") from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        around, example = self._tokenizer.encode(""), self._tokenizer.encode("a").ids
        eos = self._tokenizer.token_to_id("<eos>")
        if len(around.ids) == 1 and example[-1:] == around.ids:
            (self.eos_id,) = around.ids
        elif len(around.ids) == 1 and example[:1] == around.ids and eos is not None:
            self.bos, self.eos_id = tuple(around.ids), eos
        else:
            raise UserError(
                f"The tokenizer {place} ({described(place)}) puts {around.tokens or 'nothing'} "
                "around a text; this program has texts that end with an EOS and have nothing in "
                "front, or begin with a BOS and can be ended with <eos>, as Gemma's."
            )
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
        super().__init__(path, extra_ids=len(self.sentinels))

    @functools.cached_property
    def sentinels(self) -> np.ndarray:
        """The ids of `<extra_id_0>`, `<extra_id_1>`, ..., as far as neighbours differ by 1."""
        ids, space = [], "▁" * self._glued
        while (number := self._tokenizer.token_to_id(f"{space}<extra_id_{len(ids)}>")) is not None:
            ids.append(number)
        step = 1 if ids[1:] and ids[1] > ids[0] else -1
        run = itertools.takewhile(lambda pair: pair[1] == ids[0] + step * pair[0], enumerate(ids))
        return np.array([number for _, number in run], np.int64)

    @functools.cached_property
    def _sentinels(self) -> set[int]:
        return set(self.sentinels.tolist())

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

    @functools.cached_property
    def digest(self) -> str:
        return digest(self._content)

    def save(self, folder: pathlib.Path) -> None:
        """Write the tokenizer into `folder` as tokenizer.json."""
        write_atomically(folder / TOKENIZER_FILE, self._json)

    def piece(self, i: int) -> str:
        return self._tokenizer.id_to_token(i) or ""

    def frequent_ids(self, count: int) -> list[int]:
        """The first `count` ids of text: tokenizers number their pieces by frequency."""
        control = self._tokenizer.get_added_tokens_decoder()
        ids = (i for i in range(self.size) if i not in control and i not in self._sentinels)
        return [i for i, _ in zip(ids, range(count), strict=False)]

    @functools.cached_property
    def _inside_control(self) -> re.Pattern:
        """Matches behind the first character of what the tokenizer would read as a control token.

        Text that is split there is spelled out.
        """
        added = self._tokenizer.get_added_tokens_decoder()
        names = [t.content for i, t in added.items() if t.special and i not in self._sentinels]
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


@gin.configurable
def sentinel_tokens(pattern: str = "<unused{}>") -> str:
    """Returns the name of the k-th sentinel of a tokenizer that has no `<extra_id_k>`, {} for k.

    Args:
      pattern: Gemma's tokenizers have `<unused0>` to `<unused98>`; "" for no sentinels.
    """
    return pattern


def _named(content: str, pattern: str) -> str:
    """The content of tokenizer.json with the sentinels of `pattern` named `<extra_id_k>`."""
    tokenizer = json.loads(content)
    pieces, added = tokenizer["model"].get("vocab"), tokenizer.get("added_tokens", [])
    if not isinstance(pieces, dict) or "<extra_id_0>" in content or not pattern:
        return content
    numbers = {**pieces, **{token["content"]: token["id"] for token in added}}
    count = next(k for k in itertools.count() if pattern.format(k) not in numbers)
    if not count:
        return content
    names = {pattern.format(k): f"<extra_id_{k}>" for k in range(count)}
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    others = [token for token in added if token["content"] not in names]
    own = [{"id": numbers[a], "content": b, **plain, "special": False} for a, b in names.items()]
    tokenizer["model"]["vocab"] = {names.get(piece, piece): n for piece, n in pieces.items()}
    tokenizer["added_tokens"] = sorted([*others, *own], key=lambda token: token["id"])
    return json.dumps(tokenizer, ensure_ascii=False)


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
        raise UserError(
            f"transformers.AutoTokenizer does not read the tokenizer of {folder} "
            f"({described(folder)}): {first_line(error)}"
        ) from error
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise UserError(
            f"The tokenizer of {folder}, {type(tokenizer).__name__}, is a program without a "
            "tokenizer.json; this program reads no other."
        )
    return backend.to_str()
