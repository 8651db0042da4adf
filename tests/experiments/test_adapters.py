# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The templates of the frozen model that adapters are compared with."""

from mto_jax.experiments.adapters import without_prompt
from mto_jax.text2text.templates import TEMPLATES


def test_every_template_has_a_plain_one():
    for template in TEMPLATES.values():
        bare = without_prompt(template)
        assert bare.soft == "none"
        assert {*template.kinds} <= {*bare.kinds}
        if template.soft == "none":
            assert bare == template
    assert without_prompt(TEMPLATES["MaskedPrePT"]) == TEMPLATES["MaskedPrompting"]
    assert without_prompt(TEMPLATES["PostPT"]) == TEMPLATES["Prompting"]
    assert without_prompt(TEMPLATES["MaskedPreSup"]) == TEMPLATES["MaskedMapping"]
    name = "PreMaskedChoicePrompting"
    assert without_prompt(TEMPLATES[name]) == TEMPLATES["MaskedChoicePrompting"]
