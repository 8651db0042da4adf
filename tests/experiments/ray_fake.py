# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The fake runner as gin binds it, for workers of Ray."""

import os
import signal

import gin

from tests.experiments import fake


@gin.configurable
class RayFake(fake.FakeRunner):
    """Its process is killed when a cell of the seed `deadly` of the task xNeed is begun."""

    def __init__(self, deadly=None, **options):
        super().__init__(**options)
        self.deadly = deadly

    def make_models(self):
        with open(self.log, "a") as file:
            file.write(f"made models {os.getpid()}\n")

    def run(self, group, progress):
        for cell in group:
            if cell.task == "xNeed" and cell.seed == self.deadly:
                self._note("killed", cell)
                os.kill(os.getpid(), signal.SIGKILL)
            yield from super().run([cell], progress)
