# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
# The package is a wrapper made by SWIG, without annotations.
from typing import Any

class SentencePieceProcessor(Any): ...
class SentencePieceTrainer(Any): ...
