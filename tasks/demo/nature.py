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

MEALS = """
head | AtLocation | ObjectUse | HasProperty | MadeUpOf
bread | bakery | making sandwiches | fresh | flour and water
a pizza | Italian restaurant | feeding hungry guests | hot, round | dough and cheese
a sandwich | lunch box | having a quick lunch | handy | bread and ham
a birthday cake | birthday party | celebrating a birthday | sweet | flour and sugar
a cookie | cookie jar | snacking with milk | sweet, crunchy | flour and butter
a pancake | breakfast table | having a sweet breakfast | flat, round | eggs and flour
a bowl of soup | dinner table | warming up in winter | hot | vegetables and broth
a salad | salad bar | eating a light meal | healthy, fresh | lettuce and tomatoes
a hamburger | snack bar | satisfying a big appetite | greasy | beef and a bun
an omelette | frying pan | having a quick supper | soft, yellow | eggs
spaghetti | Italian restaurant | cooking a quick dinner | long, thin | wheat
rice | pantry | accompanying curry | white | grains
cheese | cheese shop | topping a pizza | salty, yellow | milk
butter | butter dish | frying onions | soft, yellow | cream
an egg | hen house | baking cakes | fragile, oval | shell and yolk
honey | beehive | sweetening tea | sweet, sticky | nectar
chocolate | sweet shop | making brownies | sweet, brown | cocoa and sugar
ice cream | ice cream parlour | cooling off in summer | cold, sweet | cream and sugar
salt | salt shaker | seasoning food | white, salty | crystals
sugar | sugar bowl | sweetening coffee | white, sweet | cane juice
flour | mill | baking a loaf | white, powdery | ground wheat
popcorn | cinema | snacking during a film | light, crunchy | corn
jam | breakfast table | spreading on toast | sweet, sticky | fruit and sugar
"""

DRINKS = """
head | AtLocation | ObjectUse | HasProperty | MadeUpOf
* | cafe | | liquid |
water | well | quenching thirst | clear | hydrogen and oxygen
coffee | coffee pot | staying awake | hot, bitter | roasted beans
tea | teapot | calming down in the afternoon | hot | dried leaves
milk | dairy | preparing cereal | white | fat and protein
orange juice | breakfast table | getting vitamins | sweet | squeezed oranges
lemonade | picnic | refreshing children in summer | sour, cold | lemons and sugar
wine | wine cellar | toasting at a wedding | red | grapes
beer | pub | celebrating a victory | bitter, cold | hops and barley
hot chocolate | ski lodge | warming cold hands | hot, sweet | cocoa and milk
apple cider | farm shop | celebrating the harvest | sweet | pressed apples
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

BIRDS_AND_SMALL_ANIMALS = """
head | AtLocation | HasProperty | CapableOf
an eagle | mountain peak | majestic | soaring high, spotting prey from far away
an owl | old barn | nocturnal, wise | hunting silently at night
a sparrow | hedge | small, brown | chirping
a swan | lake | white, graceful | gliding over the water
a penguin | ice shelf | black and white | diving for fish, sliding on ice
a peacock | palace garden | colourful, proud | spreading its tail
a woodpecker | forest | noisy | pecking holes in trees
a seagull | harbour | white, noisy | stealing chips
a pigeon | town square | grey, common | finding its way home
a butterfly | meadow | colourful, delicate | fluttering from flower to flower
a spider | cobweb | eight-legged | spinning a web
an ant | anthill | tiny, hardworking | carrying crumbs
a mosquito | swamp | annoying | biting at night
a ladybird | rose bush | red, spotted | eating plant lice
a snail | garden | slow, slimy | carrying its shell
a frog | pond | green, slippery | croaking, leaping
a turtle | beach | slow | hiding in its shell
a shark | ocean | dangerous, grey | smelling blood
a whale | ocean | huge | singing under water, holding its breath
a dolphin | ocean | playful, clever | jumping out of the water
an octopus | reef | clever, soft | squirting ink
a crab | beach | hard | walking sideways
a salmon | river | silvery | swimming upstream
a jellyfish | sea | transparent | stinging swimmers
a worm | soil | long, soft | loosening the earth
a grasshopper | meadow | green | jumping far
a squirrel | tree | quick | hiding nuts, climbing trees
a hedgehog | hedge | spiny | rolling into a ball
a mole | burrow | blind | digging tunnels
"""

LANDSCAPE = """
head | AtLocation | ObjectUse | HasProperty
a tree | forest | giving shade | tall
a rose | flower bed | expressing love | fragrant, thorny
a tulip | flower bed | welcoming spring | colourful
a sunflower | field | producing oil | tall, yellow
a cactus | desert | decorating a windowsill | prickly
grass | lawn | feeding cattle | green
a bush | garden | hiding a fence | leafy
a leaf | branch | making compost | green, thin
a stone | riverbed | building walls | hard, heavy
sand | beach | making glass | fine, dry
snow | mountain top | making a snowman | white, cold
ice | ice rink | cooling drinks | slippery, cold
a cloud | sky | predicting rain | white, grey
the sun | sky | growing crops | hot, bright
the moon | night sky | lighting up the night | round, pale
a star | night sky | guiding sailors | bright, distant
a river | valley | transporting timber | long, winding
a mountain | national park | climbing and hiking | high, rocky
a lake | valley | swimming in summer | calm, deep
an island | ocean | spending a quiet holiday | lonely
a volcano | island | studying the inside of the earth | hot, dangerous
a waterfall | gorge | generating electricity | loud, wet
a cave | hillside | sheltering from a storm | dark, damp
a pond | park | keeping ducks | shallow
wood | sawmill | heating a cabin | flammable
gold | jewellery shop | making rings | shiny, valuable
coal | mine | heating a furnace | black
a farm | countryside | growing wheat | muddy
a bridge | valley | crossing a river | long, strong
a lighthouse | coast | warning ships | tall, bright
a castle | hill | defending a king | old, huge
a barn | farm | storing hay | dusty
a windmill | countryside | grinding grain | old, tall
"""

PLACES = """
head | AtLocation | ObjectUse | HasProperty
* | town | |
a library | university | borrowing books | quiet
a school | | educating children | noisy
a hospital | | treating the sick | clean, busy
a bakery | | buying fresh bread | warm, fragrant
a supermarket | shopping centre | buying groceries | crowded, large
a restaurant | | dining with friends | busy
a cinema | shopping centre | seeing a new film | dark
a theatre | | watching plays | elegant
a museum | | looking at paintings | quiet, educational
a church | village | praying | peaceful, old
a park | | walking the dog | green, peaceful
a playground | park | letting children play | noisy
a swimming pool | sports centre | swimming laps | wet, blue
a gym | sports centre | lifting weights | sweaty
a bank | | depositing money | safe
a post office | | sending parcels | busy
a police station | | reporting a crime | safe
a fire station | | parking fire engines | alert
a railway station | | catching a train | crowded, busy
an airport | | catching a flight | crowded, huge
a hotel | | spending the night | comfortable
a factory | industrial area | producing cars | noisy, large
a stadium | | hosting football matches | loud, huge
a zoo | | seeing exotic animals | educational
a launderette | | washing a lot of clothes | warm
a pharmacy | | buying medicine | clean
a bookshop | | browsing novels | quiet, cosy
a hair salon | shopping centre | getting a haircut | busy
"""

PEOPLE = """
head | AtLocation | CapableOf | HasProperty
a baker | bakery | kneading dough, baking bread | hardworking
a cook | restaurant kitchen | preparing a meal for twenty | creative
a waiter | restaurant | carrying three plates | polite
a doctor | hospital | treating illness, prescribing medicine | knowledgeable
a nurse | hospital | taking care of patients | caring
a dentist | dental clinic | pulling teeth | precise
a surgeon | operating room | removing an appendix | precise, calm
a teacher | classroom | explaining fractions | patient
a student | university | studying for exams | curious
a scientist | laboratory | running experiments | curious
a librarian | library | recommending novels | quiet, helpful
a farmer | farm | harvesting wheat, milking cows | hardworking
a gardener | garden | pruning roses | patient
a carpenter | workshop | building cabinets | skilful
a plumber | bathroom | repairing pipes | practical
an electrician | building site | installing wires | careful
a painter | studio | painting portraits | creative
a sculptor | studio | carving marble | creative
a musician | stage | playing an instrument | musical
a singer | opera house | hitting high notes | expressive
a dancer | stage | spinning on one foot | graceful
an actor | theatre | learning long roles | expressive
a writer | desk | inventing stories | imaginative
a journalist | newsroom | interviewing politicians | curious
a photographer | studio | taking portraits | observant
a police officer | police station | directing traffic | alert
a firefighter | fire station | putting out fires, climbing ladders | brave
a soldier | barracks | marching for hours | disciplined
a pilot | cockpit | landing a plane | calm, responsible
a bus driver | bus | steering through traffic | punctual
a sailor | ship | tying knots | hardy
a fisher | harbour | mending nets | patient
a judge | courtroom | deciding a case | fair
a lawyer | courtroom | defending a client | persuasive
a shopkeeper | corner shop | selling newspapers | friendly
a cashier | supermarket | counting change | quick
a mail carrier | street | delivering letters | punctual
a tailor | tailor shop | sewing suits | precise
a shoemaker | shoe workshop | repairing soles | skilful
a hairdresser | hair salon | cutting hair | friendly
a mechanic | garage | repairing engines | practical
an engineer | design office | designing bridges | logical
an architect | design office | drawing house plans | creative
an astronaut | space station | floating without gravity | brave
a clown | circus | making children laugh | funny
a magician | stage | pulling a rabbit out of a hat | mysterious
an athlete | stadium | running very fast | fit
a lifeguard | beach | saving swimmers | alert
a detective | crime scene | solving mysteries | observant
a vet | animal clinic | healing sick animals | gentle
a beekeeper | beehive | collecting honey | calm
a miner | mine | digging for coal | tough
a referee | football field | stopping a match | fair
a babysitter | nursery | calming a crying baby | responsible
a tour guide | museum | telling the history of a town | knowledgeable
"""

TABLES = {
    "fruit": FRUIT,
    "meals": MEALS,
    "drinks": DRINKS,
    "pets and farm animals": PETS_AND_FARM,
    "wild animals": WILD_ANIMALS,
    "birds and small animals": BIRDS_AND_SMALL_ANIMALS,
    "landscape": LANDSCAPE,
    "places": PLACES,
    "people": PEOPLE,
}
