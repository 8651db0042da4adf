# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Data, inputs, corpora and models of wrong encodings, forms and values."""

import json
import pathlib
from collections.abc import Iterator

from tests.campaign.malformed import COMMANDS, Row

_GOOD_ROW = {"head": "a pen", "tail": "write"}
_SURROGATE = '{"head": "a", "tail": "\\ud800"}'
_DEEP = '{"head": "a", "tail": ' + "[" * 100_000

# Content of a file of text that is read line by line -> what must be said besides its name.
TEXTS: dict[bytes | pathlib.PurePath | None, str] = {
    b"": "",
    "caf\u00e9\ttea\n".encode("latin-1"): "",
    "head\ttail\na\tb\n".encode("utf-16-le"): "",
    "head\ttail\na\tb\n".encode("utf-32-le"): "",
    b"\x80\x81\x82": "",
    b"\x1f\x8b\x08\x00broken": "",
    None: "",
    pathlib.PurePath("itself"): "",
}

_READ_BY = {"tables": "uses.tsv", "infer": "inputs.txt", "adapt": "sentences.txt"}

# Rows of uses.tsv -> what must be said besides its name.
TABLES = {
    "head\ttail\n": "",
    "head\n" + "a pen\n" * 3: "tail",
    "head\tobject\na pen\tb\n": "tail",
    "head\ttail\n\tb\n": "line 2",
    "head\ttail\na pen\t\n": "line 2",
    "head\ttail\na pen\n": "line 2",
    "head\ttail\na pen\tb\tc\n": "line 2",
    "head\thead\na\tb\n": "head",
    "head\ttail\na\x00b\tc\n": "",
    "head\ttail\na\tb\n\n\tc\n": "line 4",
}

# Values of a scalar field in JSON that are no text.
VALUES = ("null", "NaN", "Infinity", "-Infinity", "true", '""', '" "', "[]", "{}", '{"a": 1}')

# Lines of a .jsonl file -> what must be said.
LINES = (
    "",
    "{",
    "[]",
    "3",
    "null",
    '"text"',
    '{"head": "a"}',
    '{"head": "a", "tail": "b"} x',
    "{'head': 'a', 'tail': 'b'}",
    _SURROGATE,
    _DEEP,
)

INPUT_LINES = ("{", "[]", "3", "null", "{}", '{"input": 3}', '{"input": null}', '{"input": []}')
INPUT_LINES += ('{"input": "\\ud800"}', '{"inputs": "a"}', '{"input": "a"', '{"input": ["a"]}')

# Content of config.json of a folder of Hugging Face -> what must be said.
CONFIGS: dict[str, tuple[str, ...]] = {
    "": ("config.json",),
    "{": ("config.json",),
    "[]": ("config.json",),
    "3": ("config.json",),
    "{}": ("config.json",),
    '{"model_type": "bert"}': ("bert",),
    '{"model_type": "t5"}': ("config.json",),
}
FIELDS = ("d_model", "d_kv", "d_ff", "num_heads", "num_layers")
FIELD_VALUES = ('"16"', "0", "-1", "1.5", "null", "[]", "1000000000")

_MODULE = """
import mto_jax as mto
for name, file in (("uses", "uses.jsonl"), ("places", "places.tsv")):
    fields = {"head": "head", "tail": "tail"}
    mto.register_file(name, file, kind="triple", fields=fields, phrase="is")
"""


def _jsonl(text: str, *said: str) -> Row:
    lines = [json.dumps({**_GOOD_ROW, "head": f"a pen {number}"}) for number in range(3)]
    files = {"uses.jsonl": "\n".join([*lines[:1], text, *lines[1:]]) + "\n", "tasks_.py": _MODULE}
    return Row(COMMANDS["tables"], ("uses.jsonl", "line 2", *said), files)


def rows() -> Iterator[Row]:
    """Every file in its place."""
    for content, words in TEXTS.items():
        for verb, file in (
            ("tables", "uses.tsv"),
            ("infer", "inputs.txt"),
            ("adapt", "sentences.txt"),
        ):
            link = pathlib.PurePath(file) if isinstance(content, pathlib.PurePath) else content
            yield Row(COMMANDS[verb], (file, words), {file: link})
    for text, words in TABLES.items():
        yield Row(COMMANDS["tables"], ("uses.tsv", words), {"uses.tsv": text})
    for field in ("head", "tail"):
        for value in VALUES:
            row = {**_GOOD_ROW, field: "VALUE"}
            yield _jsonl(json.dumps(row).replace('"VALUE"', value), field)
    for line in LINES[1:]:
        yield _jsonl(line)
    for line in INPUT_LINES:
        files = {"in.jsonl": '{"input": "a"}\n' + line + "\n"}
        argv = (*COMMANDS["infer"], "--input_file=in.jsonl")
        yield Row(argv, ("in.jsonl", "line 2"), files)
    infer = (*COMMANDS["infer"], "--gin.MODEL_DIR=converted")
    for text, said in CONFIGS.items():
        yield Row(infer, said, {"converted/config.json": text})
    for field in FIELDS:
        for value in FIELD_VALUES:
            yield Row(infer, (field,), {"converted/config.json": _config(field, value)})


def _config(field: str, value: str) -> str:
    """The configuration of the campaign's model with one field changed."""
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_heads": 2, "num_layers": 1}
    config = {
        "model_type": "t5",
        "architectures": ["T5ForConditionalGeneration"],
        "vocab_size": 2048,
        "num_decoder_layers": 1,
        "feed_forward_proj": "gated-gelu",
        "tie_word_embeddings": False,
        **sizes,
        field: "VALUE",
    }
    return json.dumps(config).replace('"VALUE"', value)
