# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
# The module fills itself when it is imported.
from typing import Any

class ModelProto(Any): ...
