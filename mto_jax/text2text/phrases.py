# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The words for each relation of ATOMIC-2020, in the two sets in use, and of ConceptNet.

A *postfix* phrase follows the head; a *wrap* phrase has the head inside, where the word `H` stands.
"""

import gin

from mto_jax.errors import unknown

POSTFIX = {
    "AtLocation": "is located at",
    "ObjectUse": "is used for",
    "CapableOf": "is capable of",
    "HasProperty": "has the property of",
    "isFilledBy": "is filled by",
    "xAttr": "is seen as",
    "xIntent": "because they intended",
    "xNeed": "before that they need",
    "xWant": "after that they want",
    "oEffect": "effects on PersonY are",
    "oReact": "then, PersonY feels",
    "oWant": "then, PersonY wants",
    "xEffect": "effects on PersonX are",
    "xReact": "then, PersonX feels",
    "isAfter": "comes after",
    "isBefore": "comes before",
    "Desires": "desires",
    "NotDesires": "doesn't like",
    "Causes": "causes",
    "HasSubEvent": "occurs when",
    "xReason": "is a reason for",
    "MadeUpOf": "is made of",
    "HinderedBy": "is hindered by",
}

WRAP = {
    "AtLocation": "you are likely to find H in",
    "ObjectUse": "H is used for",
    "CapableOf": "H can",
    "HasProperty": "H is",
    "isFilledBy": "H can be filled by",
    "xAttr": "H So, PersonX is seen as",
    "xIntent": "H they intend",
    "xNeed": "But before H, PersonX needed",
    "xWant": "After H, PersonX would want",
    "oEffect": "as a result of H, others will",
    "oReact": "H then, PersonY feels",
    "oWant": "as a result of H, others would want",
    "xEffect": "As a result of H, PersonX will",
    "xReact": "H then, PersonX feels",
    "isAfter": "Something that happens after H is",
    "isBefore": "Something that happens before H is",
    "Desires": "H wants",
    "NotDesires": "H does not want",
    "Causes": "Sometimes H causes",
    "HasSubEvent": "Something you might do while H is",
    "xReason": "H The reason for PersonX doing this is",
    "MadeUpOf": "H is made up of",
    "HinderedBy": "H is hindered by",
}

# The 34 relations of ConceptNet-100K, the most frequent first; the paper has no words for them,
# these are ours, and those of ATOMIC's postfix set where a relation is the same.
CONCEPTNET = {
    "IsA": "is a",
    "AtLocation": POSTFIX["AtLocation"],
    "UsedFor": POSTFIX["ObjectUse"],
    "CapableOf": POSTFIX["CapableOf"],
    "HasProperty": POSTFIX["HasProperty"],
    "HasSubevent": "and while doing that you",
    "HasPrerequisite": "but before that you need to",
    "Causes": POSTFIX["Causes"],
    "HasA": "has",
    "ReceivesAction": "can be",
    "MotivatedByGoal": "because you want to",
    "DefinedAs": "is defined as",
    "Desires": POSTFIX["Desires"],
    "PartOf": "is a part of",
    "NotDesires": POSTFIX["NotDesires"],
    "NotCapableOf": "is not capable of",
    "CausesDesire": "makes you want to",
    "HasFirstSubevent": "and first of all you",
    "HasLastSubevent": "and last of all you",
    "MadeOf": POSTFIX["MadeUpOf"],
    "NotHasProperty": "does not have the property of",
    "SymbolOf": "is a symbol of",
    "NotIsA": "is not a",
    "CreatedBy": "is created by",
    "NotHasA": "does not have",
    "RelatedTo": "is related to",
    "InstanceOf": "is an instance of",
    "InheritsFrom": "is a kind of",
    "DesireOf": "has the desire of",
    "NotMadeOf": "is not made of",
    "LocationOfAction": "is done at",
    "LocatedNear": "is located near",
    "HasPainIntensity": "has the pain intensity",
    "HasPainCharacter": "has the pain character",
}

STYLES = {"postfix": POSTFIX, "wrap": WRAP}
RELATIONS = tuple(POSTFIX)


@gin.configurable
def relation_phrase(relation: str, style: str = "postfix") -> str:
    """The phrase of an ATOMIC-2020 relation.

    Args:
        relation: for example "xIntent".
        style: "postfix" (the default, the likelier one behind the paper's tables) or "wrap".

    Raises:
        UserError: for a relation or style without phrases; it suggests the nearest name.
    """
    if style not in STYLES:
        raise unknown("style of relation phrases", style, STYLES)
    if relation not in STYLES[style]:
        raise unknown(f"{style} phrase for the relation", relation, STYLES[style])
    return STYLES[style][relation]
