# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Food, animals, plants, places and people at work: tables of facts, laid out as in `things.py`."""

FRUIT = """
head | AtLocation | ObjectUse | HasProperty
* | fruit bowl | |
an apple | orchard | baking a pie | crunchy, round
a banana | | making banana bread | yellow, soft
an orange | | making orange juice | juicy, round
a lemon | | flavouring tea | sour, yellow
a pear | orchard | making compote | sweet, juicy
a peach | orchard | decorating a tart | fuzzy, sweet
a cherry | orchard | topping a cake | red, small
a strawberry | strawberry field | making jam | red, sweet
a grape | vineyard | making wine | small, juicy
a melon | | cooling down in summer | heavy, juicy
a pineapple | | decorating cocktails | prickly, sweet
a plum | orchard | making prunes | purple, sweet
a blueberry | forest | filling muffins | blue, tiny
a coconut | tropical beach | making coconut milk | hard, hairy
a raspberry | hedge | making syrup | red, delicate
a lime | | seasoning fish | sour, green
"""

PETS_AND_FARM = """
head | AtLocation | ObjectUse | HasProperty | CapableOf
a dog | dog kennel | guarding a house | loyal | barking, fetching a stick
a cat | sofa | catching mice | curious, independent | purring, climbing curtains
a horse | stable | riding through the country | strong, fast | galloping, jumping over fences
a cow | pasture | producing milk | large, calm | chewing grass
a pig | farm | producing ham | pink, clever | rolling in mud
a sheep | pasture | producing wool | woolly | grazing on hills
a goat | farm | producing goat cheese | stubborn | climbing steep rocks
a hen | hen house | producing eggs | feathered | clucking
a rooster | farm | waking up the farm | proud, loud | crowing at dawn
a duck | pond | producing feathers | feathered | quacking, swimming on a pond
a donkey | farm | carrying sacks | stubborn, patient | carrying heavy loads
a rabbit | rabbit hutch | | soft, shy | hopping, digging burrows
a hamster | cage | | tiny, furry | running in a wheel
a goldfish | aquarium | | orange, quiet | swimming in circles
a parrot | bird cage | | colourful, clever | imitating human speech
a guinea pig | cage | | furry, gentle | squeaking for food
a honeybee | beehive | pollinating flowers | busy | making honey, stinging
"""

WILD_ANIMALS = """
head | AtLocation | HasProperty | CapableOf
* | zoo | wild |
a lion | savanna | strong, dangerous | roaring, hunting zebras
a tiger | jungle | striped, dangerous | swimming across rivers
an elephant | savanna | huge, grey | spraying water with its trunk
a giraffe | savanna | tall | eating leaves from tall trees
a zebra | savanna | striped | outrunning a lion
a monkey | jungle | clever, playful | swinging from branches
a gorilla | rainforest | strong, heavy | beating its chest
a bear | forest | heavy, dangerous | catching salmon, sleeping all winter
a wolf | forest | grey | howling at the moon
a fox | forest | red, sly | stealing chickens
a deer | forest | shy, graceful | leaping over ditches
a beaver | river | hardworking | building dams, gnawing trees
a bat | cave | nocturnal | flying in the dark
a kangaroo | grassland | muscular | jumping great distances
a koala | eucalyptus tree | sleepy, furry | sleeping all day
a camel | desert | patient | walking for days without water
a hippopotamus | river | huge, heavy | staying under water
a crocodile | swamp | dangerous, scaly | snapping its jaws
a snake | desert | scaly | swallowing a mouse whole
a panda | bamboo forest | rare | eating bamboo all day
"""

TABLES = {
    "fruit": FRUIT,
    "pets and farm animals": PETS_AND_FARM,
    "wild animals": WILD_ANIMALS,
}
