# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Text to token ids and back: SentencePiece, T5's sentinels, and ids for soft prompts.

Ids in order: the pieces of the model (0 pad, 1 EOS, 2 unknown, then text), the sentinels in
descending order (`<extra_id_0>` is the last one), padding up to a multiple of 128, and from there
on soft prompts:

    T5:  0 ... 31999 pieces | 32000 = <extra_id_99> ... 32099 = <extra_id_0> | ... 32127 | soft ...
"""

import functools
import importlib.resources
import itertools
import json
import os
import pathlib
import re
from collections.abc import Iterable, Sequence

import gin
import numpy as np
import sentencepiece
from google.protobuf.message import DecodeError
from sentencepiece import sentencepiece_model_pb2

from mto_jax import hub
from mto_jax.errors import UserError, first_line
from mto_jax.files import digest

MODEL_FILE = "spiece.model"  # its name in a Hugging Face repository, and in a run directory
TOKENIZER_FILE = "tokenizer.json"  # of other tokenizers, likewise
_TOKENIZER_FILES = (
    *("vocab.json", "merges.txt", "vocab.txt", "added_tokens.json", "*.model"),
    *("tokenizer_config.json", "special_tokens_map.json"),
)
DEFAULT = "t5"
BUNDLED = ("demo", "lab")
# SentencePiece holds a sentinel as "space + <extra_id_k>", so it finds only those at the start of a
# word.
GLUED_SENTINEL = re.compile(r"(?<=[^ ])(?=<extra_id_\d+>)")
# A zero-width space, which no record holds (`records.tidy`), marks what only looks like a sentinel.
_SENTINEL, _LITERAL = "<extra_id_", "<\u200bextra_id_"


def literal(text: str) -> str:
    """Returns the text of a person, marked so that no `<extra_id_k>` in it becomes a sentinel.

    >>> literal("a <extra_id_0> b") == "a <\\u200bextra_id_0> b"
    True
    """
    return text.replace(_SENTINEL, _LITERAL)


def unmarked(text: str) -> str:
    """Returns the inverse of `literal`: the text as the person wrote it."""
    return text.replace(_LITERAL, _SENTINEL)


def listed(characters: Iterable[str]) -> str:
    """Returns the first characters that a vocabulary lacks, for a message; "" for none.

    >>> listed("abcd")
    " (e.g. 'a', 'b', 'c')"
    """
    shown = ", ".join(map(repr, itertools.islice(characters, 3)))
    return f" (e.g. {shown})" if shown else ""


class Vocabulary:
    """A SentencePiece model with sentinels; the same ids as `seqio.SentencePieceVocabulary`.

    The file is read on first use. A model that already holds its sentinels (mT5's) gets no second
    set. Instances are safe to use from several threads.
    """

    pad_id = 0
    eos_id = 1
    unk_id = 2
    bos: tuple[int, ...] = ()  # what a source begins with

    def __init__(self, path: str | os.PathLike, extra_ids: int = 100):
        self.path = os.fspath(path)
        self.extra_ids = extra_ids

    def __repr__(self) -> str:
        return f"Vocabulary({self.path!r}, extra_ids={self.extra_ids})"

    @functools.cached_property
    def _model_file(self) -> bytes:
        try:
            return pathlib.Path(self.path).read_bytes()
        except OSError as error:
            raise UserError(f"Cannot read the vocabulary {self.path}: {error.strerror}.") from error

    @functools.cached_property
    def _proto(self) -> sentencepiece_model_pb2.ModelProto:
        try:
            proto = sentencepiece_model_pb2.ModelProto.FromString(self._model_file)
        except DecodeError:
            proto = None
        if not proto or not proto.pieces:
            raise UserError(
                f"{self.path} is not a SentencePiece model. Give a `.model` file made by "
                "SentencePiece, such as spiece.model of a T5 repository."
            )
        return proto

    @property
    def added_ids(self) -> int:
        """The number of sentinels that the file lacks: `extra_ids`, or 0 if it brings its own."""
        return 0 if self._proto.pieces[-1].piece == "▁<extra_id_0>" else self.extra_ids

    @functools.cached_property
    def _processor(self) -> sentencepiece.SentencePieceProcessor:
        proto = sentencepiece_model_pb2.ModelProto()
        proto.CopyFrom(self._proto)
        for i in reversed(range(self.added_ids)):
            proto.pieces.add(
                piece=f"▁<extra_id_{i}>", score=0.0, type=proto.SentencePiece.USER_DEFINED
            )
        processor = sentencepiece.SentencePieceProcessor()
        processor.LoadFromSerializedProto(proto.SerializeToString())
        ids = (processor.pad_id(), processor.eos_id(), processor.unk_id())
        if ids != (self.pad_id, self.eos_id, self.unk_id):
            raise UserError(
                f"{self.path} has pad, EOS, unknown = {ids}, but T5 needs 0, 1, 2. Train the model "
                "with pad_id=0, eos_id=1, unk_id=2, bos_id=-1."
            )
        return processor

    @functools.cached_property
    def size(self) -> int:
        """Pieces and sentinels (32 100 for T5)."""
        return self._processor.GetPieceSize()

    @functools.cached_property
    def sentinels(self) -> np.ndarray:
        """The ids of `<extra_id_0>`, `<extra_id_1>`, ...: [extra_ids], neighbours differ by 1."""
        return np.arange(self.size - 1, self.size - 1 - self.extra_ids, -1)

    @property
    def words(self) -> range:
        """Ids of ordinary text: those between the unknown piece and the sentinels.

        Where sentinels stand among the first ids, those behind them.
        """
        if not len(self.sentinels):
            return range(self.unk_id + 1, self.size)
        low, high = int(self.sentinels.min()), int(self.sentinels.max())
        above = self.size - high > low - self.unk_id
        return range(high + 1, self.size) if above else range(self.unk_id + 1, low)

    @property
    def padded_size(self) -> int:
        """Rows of the embedding table: `size` rounded up to a multiple of 128 (32 128 for T5)."""
        return -(-self.size // 128) * 128

    def save(self, folder: pathlib.Path) -> None:
        """Write the model file into `folder` as spiece.model."""
        temporary = folder / f".{MODEL_FILE}.{os.getpid()}"
        temporary.write_bytes(self._model_file)
        temporary.replace(folder / MODEL_FILE)

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the model file and the number of sentinels: equal digests give equal ids."""
        return digest(self._model_file + b"extra_ids=%d" % self.extra_ids)

    def sentinel_id(self, i: int) -> int:
        """Id of `<extra_id_i>`, 0 <= i < extra_ids; in T5 the ids descend from `size - 1`."""
        if not 0 <= i < self.extra_ids:
            raise UserError(
                f"There is no sentinel <extra_id_{i}>: the vocabulary {self.path} has "
                f"{self.extra_ids or 'none'}. (Of a tokenizer, sentinel_tokens.pattern names the "
                "tokens that serve as sentinels.)"
            )
        return int(self.sentinels[i])

    def source(self, ids: Iterable[int], length: int | None = None) -> list[int]:
        """Returns the ids of a source: BOS if the tokenizer has one, the text, EOS.

        Args:
          length: most tokens of the result; the text is cut at its end.
        """
        room = None if length is None else length - 1 - len(self.bos)
        return [*self.bos, *itertools.islice(ids, room), self.eos_id]

    def soft_id(self, i: int) -> int:
        """Id of row `i` of the soft-prompt table: past the vocabulary, `padded_size + i`."""
        return self.padded_size + i

    def soft_prefix(self, ids: Sequence[int]) -> list[int]:
        """The soft tokens that ids start with: the part of a target that the decoder is given.

        >>> from mto_jax.text2text.vocabulary import vocabulary
        >>> demo = vocabulary("demo")
        >>> demo.soft_prefix([demo.soft_id(3), 5, 1]) == [demo.soft_id(3)]
        True
        """
        return list(map(int, itertools.takewhile(lambda i: i >= self.padded_size, ids)))

    def is_sentinel(self, ids: np.ndarray) -> np.ndarray:
        """Returns a boolean array in the shape of `ids`: which of them are sentinels."""
        first = min(self.sentinels, default=self.size)
        return (ids >= first) & (ids < first + self.extra_ids)

    def piece(self, i: int) -> str:
        """The piece of an id below `size` as SentencePiece writes it, "▁" for a space."""
        return self._processor.IdToPiece(i)

    @property
    def pieces(self) -> list[str]:
        """The pieces of all ids; a sentinel reads `<extra_id_k>`."""
        pieces = map(self.piece, range(self.size))
        return [piece.replace("▁<extra_id_", "<extra_id_") for piece in pieces]

    def frequent_ids(self, count: int) -> list[int]:
        """Returns the ids of the `count` most frequent pieces of text, or of all, by frequency.

        SentencePiece scores them by frequency; control symbols, bytes and sentinels are none of
        them.
        """
        pieces = self._proto.pieces
        ids = [i for i, piece in enumerate(pieces) if piece.type == piece.NORMAL]
        return sorted(ids, key=lambda i: -pieces[i].score)[:count]

    def encode(self, text: str) -> list[int]:
        """Token ids without EOS. `<extra_id_k>` becomes its sentinel wherever it stands.

        Equal to SeqIO's `encode`, but for a sentinel glued to the word before it
        ("jel<extra_id_0>"): there SeqIO spells out the characters, while this method reads "jel
        <extra_id_0>". What `literal` marked is spelled out, character by character.
        """
        if self.extra_ids == 0:
            return self._ids([unmarked(text)])[0]
        first, *rest = text.split(_LITERAL)
        ids = self._ids([f"{first}<" if rest else first])[0]
        for i, piece in enumerate(rest, 1):
            piece = f"extra_id_{piece}{'<' if i < len(rest) else ''}"
            # Text that goes on without a space: no "▁" in front.
            ids += self._ids([f"{_SENTINEL}0>{piece}"])[0][1:]
        return ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of many texts in one call, several times as fast."""
        if any(_LITERAL in text for text in texts):
            return [self.encode(text) for text in texts]
        return self._ids(texts)

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of texts without marks."""
        texts = [GLUED_SENTINEL.sub(" ", text) for text in texts]
        if len(texts) == 1:  # of a list, SentencePiece starts threads: 20 times as long for one
            return [self._processor.Encode(texts[0])]
        return self._processor.Encode(texts)

    def _text(self, ids: Sequence[int]) -> str:
        """The text of ids of text and sentinels."""
        return self._processor.DecodeIds(ids)

    def _follows_space(self, i: int) -> bool:
        """Whether a space stands before this id in a text, unless it is the first."""
        return self.piece(i).startswith("▁")

    def decode(self, ids: Iterable[int]) -> str:
        """Text of the ids before the first EOS. Sentinels read `<extra_id_k>`.

        Ids without text (pad, rows of the embedding's padding, soft prompts) are skipped. Text that
        only looks like a sentinel is marked as `literal` does.
        """
        text_ids = []
        for i in map(int, ids):
            if i == self.eos_id:
                break
            if i != self.pad_id and i < self.size:
                text_ids.append(i)
        text = self._text(text_ids)
        if text.count(_SENTINEL) == np.sum(self.is_sentinel(np.array(text_ids))):
            return text
        parts = []
        for is_sentinel, run in itertools.groupby(text_ids, self.is_sentinel):
            run = list(run)
            space = " " if parts and self._follows_space(run[0]) else ""
            part = self._text(run)
            parts.append(space + (part if is_sentinel else literal(part)))
        return "".join(parts)

    def lacks(self, text: str) -> list[str]:
        """Returns the characters of a text, its sentinels apart, that become the unknown piece.

        >>> vocabulary("demo").lacks("a café")
        ['é']
        """
        if self.unk_id not in self.encode(text):
            return []
        text = unmarked(re.sub(r"<extra_id_\d+>", "", text))
        return [c for c in dict.fromkeys(text) if self.unk_id in self.encode(c)]


@functools.cache
def load(path: str, extra_ids: int = 100) -> Vocabulary:
    """The vocabulary at this path: one object per process, so the file is read once.

    Args:
      path: a SentencePiece model, tokenizer.json, or a folder, as `in_folder` gives it.
    """
    if path.endswith(".json") or os.path.isdir(path):
        from mto_jax.text2text.tokenizer import TokenizerVocabulary

        return TokenizerVocabulary(path)
    return Vocabulary(path, extra_ids)


def in_folder(folder: pathlib.Path) -> str | None:
    """The name of the tokenizer in a folder, for `load`; None if no file in it is a tokenizer's.

    It is spiece.model if that is all of it, else tokenizer.json, else the folder itself.
    """
    model, tokenizer = folder / MODEL_FILE, folder / TOKENIZER_FILE
    if model.is_file() and not _has_more_tokens(folder, Vocabulary(model)):
        return str(model)
    if tokenizer.is_file():
        return str(tokenizer)
    there = folder.is_dir() and any(any(folder.glob(name)) for name in _TOKENIZER_FILES)
    return str(folder) if there else None


def _has_more_tokens(folder: pathlib.Path, plain: Vocabulary) -> bool:
    """Returns whether the folder adds tokens that its SentencePiece model does not have."""
    return any(
        number >= plain.size or plain.piece(number).removeprefix("▁") != content
        for content, number in listed_tokens(folder).items()
    )


def listed_tokens(folder: pathlib.Path) -> dict[str, int]:
    """The ids of the tokens that files of Hugging Face list beside a tokenizer's own pieces.

    Raises:
      UserError: a file does not have the form that Transformers writes.
    """
    ids: dict[str, int] = {}
    for name in (TOKENIZER_FILE, "tokenizer_config.json", "added_tokens.json"):
        if not (folder / name).is_file():
            continue
        try:
            settings = json.loads((folder / name).read_text("utf-8"))
            if name == TOKENIZER_FILE:
                ids |= {token["content"]: token["id"] for token in settings["added_tokens"]}
            elif name == "added_tokens.json":
                ids |= {str(content): int(number) for content, number in settings.items()}
            else:
                tokens = settings.get("added_tokens_decoder", {}).items()
                ids |= {token["content"]: int(number) for number, token in tokens}
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise UserError(f"{folder / name} does not describe a tokenizer: {error!r}.") from error
    return ids


@gin.configurable
def vocabulary(name: str | None = None) -> Vocabulary:
    """The vocabulary of this run.

    Args:
      name: "t5" (from `$MTO_DATA_DIR/vocab/t5_sentencepiece.model`, else from the Hugging Face hub
        or, with HF_HUB_OFFLINE=1, from its cache alone);
        "demo" or "lab", small ones in this package; "hf://org/model[@revision]"; the path of a
        SentencePiece `.model` file, of a tokenizer.json, or of a folder with a tokenizer. None
        means "t5", but verbs that read a model take that of the model
        (`Checkpoint.adopt_vocabulary`).

    Raises:
      UserError: no such name, file or repository, or the hub cannot be reached.
    """
    return load(_find(name or DEFAULT))


def bound_name() -> str:
    """Returns the value of `vocabulary.name` in gin."""
    return gin.get_bindings("vocabulary").get("name") or DEFAULT


def _find(name: str) -> str:
    if name in BUNDLED:
        return str(importlib.resources.files("mto_jax") / "assets" / f"{name}_vocab.model")
    if name == "t5":
        local = pathlib.Path(os.environ.get("MTO_DATA_DIR", "")) / "vocab/t5_sentencepiece.model"
        if "MTO_DATA_DIR" in os.environ and local.is_file():
            return str(local)
        return _download("google-t5/t5-small")
    if name.startswith("hf://"):
        return _download(name.removeprefix("hf://"))
    path = pathlib.Path(name).expanduser()
    if path.is_dir():
        if (tokenizer := in_folder(path)) is not None:
            return tokenizer
        path = path / MODEL_FILE
    if not path.is_file():
        raise UserError(
            f"There is no vocabulary {name!r}: no file {path}. vocabulary.name (macro VOCABULARY) "
            "takes 't5', 'demo', 'lab', 'hf://org/model', the path of a SentencePiece .model file, "
            f"of a tokenizer.json, or of a folder with {MODEL_FILE} or another tokenizer."
        )
    return str(path)


def _download(repository: str) -> str:
    """The path in the hub's cache of spiece.model, or of tokenizer.json where there is none."""
    import huggingface_hub

    name, _, revision = repository.partition("@")
    where = {"repo_id": name, "revision": revision or None}
    try:
        cached = huggingface_hub.try_to_load_from_cache(filename=MODEL_FILE, **where)
        if isinstance(cached, str):
            return cached
        # Ask once whether the hub is there: the client itself would try for half a minute.
        huggingface_hub.utils.get_session().head(huggingface_hub.constants.ENDPOINT, timeout=10)
        try:
            return huggingface_hub.hf_hub_download(filename=MODEL_FILE, **where)
        except huggingface_hub.errors.EntryNotFoundError:  # Gemma's has none
            return huggingface_hub.hf_hub_download(filename=TOKENIZER_FILE, **where)
    except huggingface_hub.errors.GatedRepoError as error:
        raise hub.gated(name) from error
    except Exception as error:  # the hub client raises errors of several HTTP libraries
        cached = huggingface_hub.try_to_load_from_cache(filename=TOKENIZER_FILE, **where)
        if isinstance(cached, str):
            return cached
        reason = first_line(error)
        raise UserError(
            f"Cannot get {MODEL_FILE} or {TOKENIZER_FILE} of {repository!r} from the Hugging Face "
            f"hub ({reason}); it is not in the hub's cache on this machine either. Without a "
            "connection, set MTO_DATA_DIR to a folder with vocab/t5_sentencepiece.model, or "
            "vocabulary.name (macro VOCABULARY) to the path of a SentencePiece .model file or of "
            f"a folder with {MODEL_FILE} or {TOKENIZER_FILE}."
        ) from error


def seqio_vocabulary(vocab: Vocabulary):
    """Returns the vocabulary as one of SeqIO (imports TensorFlow)."""
    if not os.path.isfile(vocab.path) or vocab.path.endswith(".json"):
        from mto_jax.text2text.seqio_tokenizer import SeqioTokenizer

        return SeqioTokenizer(vocab)
    import seqio

    return seqio.SentencePieceVocabulary(vocab.path, extra_ids=vocab.added_ids)


def of_seqio(vocab) -> Vocabulary:
    """The inverse of `seqio_vocabulary`."""
    return getattr(vocab, "vocabulary", None) or load(vocab.sentencepiece_model_file)


def features(vocab: Vocabulary) -> dict:
    """SeqIO's output features of every task here: `inputs` and `targets`, each ending with EOS."""
    import seqio

    feature = seqio.Feature(seqio_vocabulary(vocab), add_eos=True, required=True)
    return {"inputs": feature, "targets": feature}
