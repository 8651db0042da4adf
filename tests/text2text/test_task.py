# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tasks: their records as tokenised examples."""

from mto_jax.text2text.records import Triple
from mto_jax.text2text.task import Task, tokenise
from mto_jax.text2text.templates import TEMPLATES, Wording
from mto_jax.text2text.vocabulary import vocabulary

LENGTHS = {"inputs": 32, "targets": 16}


def test_a_fact_as_a_sentence_has_no_name_in_front_and_a_full_stop_behind_the_gap():
    demo = vocabulary("demo")
    uses = Task("uses", "triple", Wording("is used for"), train=(), held_out=())
    record = Triple("uses", "uses", "a saw", ("cutting wood",))

    def texts(name, **options):
        ((inputs, targets),) = tokenise(TEMPLATES[name], [record], uses, demo, LENGTHS, **options)
        return demo.decode(inputs).replace(" .", "."), demo.decode(targets)

    assert texts("Prompting")[0] == "uses: a saw is used for"
    assert texts("Prompting", as_sentence=True) == ("a saw is used for", "cutting wood")
    source, target = texts("MaskedPrompting", as_sentence=True)
    assert source == "a saw is used for <extra_id_0>."
    assert target == texts("MaskedPrompting")[1]
