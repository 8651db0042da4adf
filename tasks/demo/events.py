# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Things that PersonX does, and sentences with a gap: tables of facts, laid out as in `things.py`.

To keep the rows short, "PersonX" is left out before an event, and "to" before an intent, a need or
a wish; `knowledge.py` puts them back.
"""

COOKING = """
head | xIntent | xNeed | xWant | xEffect | xAttr
* | | buy the ingredients | | | skilful
bakes a cake | celebrate a birthday | buy flour and sugar | light the candles | sticky fingers | generous
bakes bread | eat a fresh loaf | let the dough rise | spread butter on a slice | a warm kitchen | patient
cooks dinner | feed the family | chop the vegetables | set the table | a pile of dirty dishes | caring
makes soup | warm up on a cold day | peel carrots | pour it into bowls | steamy windows |
fries an egg | have a hearty breakfast | heat the pan | sprinkle salt on it | a greasy stove |
makes pancakes | surprise the children | mix milk and eggs | add maple syrup | spilled batter | fun
grills sausages | enjoy a summer evening | light the charcoal | hand out mustard | smoky clothes | sociable
brews coffee | wake up properly | grind the beans | drink a cup slowly | a pleasant smell |
makes a salad | eat more vegetables | wash the lettuce | add oil and vinegar | a light meal | healthy
boils potatoes | prepare a side dish | fill a pot with water | mash them with milk | hot steam |
makes jam | preserve the strawberries | buy plenty of sugar | fill the jars | sweet supplies for winter | thrifty
squeezes oranges | drink fresh juice | cut the oranges in half | throw away the peel | juicy hands | healthy
decorates a wedding cake | impress the guests | prepare white icing | take a photo of it | an aching back | creative
makes pizza | have fun with friends | roll out the dough | eat it while it is hot | flour on the floor | sociable
makes tea | calm down | put the kettle on | sit on the sofa with a mug | a warm cup |
"""

CHORES = """
head | xIntent | xNeed | xWant | xEffect | xAttr
* | have a clean home | | | | tidy
washes the dishes | have clean plates again | fill the sink | dry the plates with a towel | wrinkled hands |
mops the floor | remove muddy footprints | fetch a bucket of water | let the floor dry | a shiny floor |
vacuums the carpet | get rid of crumbs | move the chairs aside | empty the dust bag | a clean carpet |
does the laundry | wear fresh clothes tomorrow | sort the colours | hang everything on the line | a basket of clean clothes |
irons a shirt | look smart at work | plug in the iron | hang it in the wardrobe | a smooth shirt | elegant
takes out the rubbish | stop the bad smell | tie up the bag | wash both hands | an empty bin | helpful
cleans the windows | see the garden clearly | climb a small ladder | admire the view | bright rooms |
makes the bed | start the day neatly | get up | fluff the pillows | a neat bedroom | disciplined
dusts the shelves | stop sneezing | find a cloth | put the books back | an itchy nose |
scrubs the bathtub | remove soap stains | put on rubber gloves | take a long bath | sore arms | thorough
tidies the attic | make room for boxes | switch on the attic light | sell old things | cobwebs in the hair | organised
sweeps the porch | clear away dry leaves | get the broom | sit on the porch | a pile of leaves |
sorts the mail | find important letters | empty the mailbox | pay the bills | a tidy desk | organised
packs the groceries away | keep the food fresh | come home from the shop | cook something tasty | full shelves | organised
"""

GARDENING = """
head | xIntent | xNeed | xWant | xEffect | xAttr
* | | | | | patient
plants a tree | leave something for the next generation | dig a deep hole | water the young roots | muddy boots | thoughtful
waters the flowers | keep the roses alive | fill the watering can | smell the blossoms | wet shoes |
mows the lawn | play football on short grass | check the fuel | rake the cuttings together | green stains on the shoes |
pulls weeds | give the carrots more space | kneel on the ground | throw the weeds on the compost | dirty knees | thorough
picks apples | press apple juice | lean a ladder against the tree | share the harvest with neighbours | a full basket |
sows tomato seeds | harvest tomatoes in summer | loosen the soil | wait for the first shoots | earth under the fingernails | hopeful
trims the hedge | see over to the street | sharpen the shears | gather the cut twigs | scratched arms | tidy
digs a pond | attract frogs | mark the outline with a rope | fill it with rainwater | sore muscles | ambitious
rakes leaves | uncover the grass | wait until autumn | jump into the pile | blisters on the thumbs | hardworking
harvests potatoes | store food for winter | loosen the ground with a fork | make French fries | a heavy sack |
builds a compost heap | get rich soil | collect kitchen scraps | turn the heap every month | fewer bags of rubbish | thrifty
grows herbs on the balcony | cook with fresh basil | buy small pots | invite friends for pasta | a fragrant balcony | creative
"""

REPAIRS = """
head | xIntent | xNeed | xWant | xEffect | xAttr
* | | find the right tools | put the tools away | | practical
repairs a bicycle | ride to work again | take off the wheel | test the brakes | oily hands |
fixes a leaking tap | save water | turn off the main valve | check for drips | a lower water bill | thrifty
paints a wall | brighten up the room | cover the furniture | open the windows | paint on the trousers |
builds a bookshelf | have a place for novels | measure the boards | arrange the books by colour | sawdust on the floor | skilful
hangs a picture | decorate the hallway | hammer in a nail | step back and look at it | a prettier hallway |
changes a light bulb | see in the dark hallway | switch off the power | turn the light on | a bright hallway | helpful
changes a tyre | continue the journey | lift the car with a jack | visit a garage | dirty sleeves |
sews on a button | wear the coat again | thread a needle | cut off the thread | a pricked finger | careful
patches the roof | keep the rain out | borrow a tall ladder | wait for the next storm | a dry attic | brave
unclogs the sink | let the water run off | get a plunger | rinse the pipe with hot water | splashed clothes |
builds a tree house | give the children a hideout | choose a strong tree | climb up the rope ladder | splinters in the palm | creative
assembles a wardrobe | unpack the clothes | read the instructions | hang up the coats | a missing screw | persistent
sharpens the knives | slice tomatoes easily | find the whetstone | try the blade on paper | sharp blades | careful
glues a broken vase | save a gift from grandmother | collect all the pieces | put tulips into it | glue on the fingertips | careful
"""

EXERCISE = """
head | xIntent | xNeed | xWant | xEffect | xAttr
* | stay fit | warm up | drink some water | | athletic
runs a marathon | prove their endurance | train for many months | lie down and rest | aching legs | determined
goes for a swim | cool off on a hot day | put on a swimsuit | dry off in the sun | wet hair |
lifts weights | build stronger muscles | join a gym | drink a protein shake | bigger muscles | strong
plays football | score a goal | meet the team on the field | celebrate with the team | grass stains | sociable
plays tennis | beat an old rival | book a court | shake hands at the net | a sore elbow | competitive
does yoga | become more flexible | unroll a mat | breathe slowly | a straighter back | calm
rides a bicycle to work | avoid the traffic jam | pump up the tyres | lock it to a rail | red cheeks | sporty
climbs a mountain | see the view from the top | buy sturdy boots | sign the summit book | thin air in the lungs | brave
learns to skate | dance on the ice | rent a pair of skates | try a small jump | bruised knees | brave
goes jogging | lose some weight | tie the running shoes | take a cold shower | a faster heartbeat | disciplined
rows across the lake | reach the other shore | rent a boat | jump into the water | blisters on the hands | strong
trains for a race | run faster than the others | find a quiet track | win the gold medal | stronger legs | ambitious
goes skiing | race down the snowy slopes | travel to the mountains | drink hot chocolate | cold toes | adventurous
"""

LEARNING = """
head | xIntent | xNeed | xWant | xEffect | xAttr
* | learn something new | concentrate | | |
studies for an exam | get a good grade | borrow the textbook | sleep for ten hours | tired eyes | ambitious
does homework | please the teacher | open the notebook | play outside | a finished exercise |
learns Spanish | talk to people in Mexico | find a language course | travel to Spain | a larger vocabulary | open-minded
reads a novel | escape into another world | pick a book from the shelf | recommend it to a friend | vivid dreams | thoughtful
writes an essay | convince the readers | collect good arguments | check the spelling | a full page | intelligent
asks a question in class | understand the lesson | raise a hand | write down the answer | new knowledge | curious
visits a museum | see ancient statues | buy a ticket at the entrance | buy a postcard | sore feet | cultured
learns to drive | become independent | reach the legal age | buy a used car | a driving licence | determined
solves a puzzle | train the brain | sort the pieces by colour | frame the finished picture | a moment of triumph | clever
gives a presentation | share the results | prepare the slides | answer questions | a dry throat | confident
learns the alphabet | read alone | start school | write their own name | first written words | young
passes the exam | earn a degree | study hard | throw a party | a certificate | intelligent
looks up a word | know the exact meaning | open the dictionary | use it in a sentence | a clear definition | curious
does an experiment | test a theory | put on safety glasses | write a report | unexpected results | curious
"""

ARTS = """
head | xIntent | xNeed | xWant | xEffect | xAttr
* | | | | | creative
paints a portrait | capture a friendly face | set up the easel | hang it in a gallery | colourful fingers | talented
plays the piano | entertain the guests | sit down on the bench | bow to the audience | nimble fingers | musical
writes a poem | express deep feelings | find a rhyme | read it aloud | ink stains | sensitive
sings in the choir | perform at Christmas | learn the melody | hear the applause | a hoarse voice | musical
takes photographs | remember the holiday | charge the camera | print the best pictures | a full memory card | observant
knits a sweater | give a warm present | choose soft wool | try on the sweater | stiff fingers | patient
dances tango | move to the music | find a partner | rest on a chair | tired feet | elegant
makes pottery | own a handmade bowl | knead the clay | paint the bowl blue | clay on the apron |
learns the guitar | play songs at the campfire | tune the strings | start a band | hard fingertips | musical
acts in a play | make the audience laugh | memorise the lines | meet fans at the stage door | loud applause | expressive
draws a map | help others find the way | explore the area | colour the rivers blue | a useful plan | precise
sews a dress | have something unique to wear | cut the fabric | wear it at the ball | scraps of cloth everywhere | skilful
records a song | become famous | rent a studio | share it with listeners | a first album | ambitious
carves a pumpkin | scare the neighbours on Halloween | scoop out the seeds | put a candle inside | orange pulp on the table |
"""

HELPING = """
head | xIntent | xNeed | xWant | xEffect | xAttr
* | be helpful | | | | kind
helps a neighbour move | be a good neighbour | clear the whole Saturday | eat pizza together | a sore back | strong
babysits a toddler | give the parents a free evening | learn the bedtime rules | read a story aloud | toys all over the floor | responsible
gives blood | save a life | answer medical questions | drink a glass of juice | a small bandage on the arm | brave
comforts a crying friend | cheer the friend up | listen carefully | offer a tissue | a wet shoulder | caring
rescues a kitten | bring it to safety | climb the tree | find its owner | scratches on the hands | brave
volunteers at a shelter | support homeless people | sign up online | talk with the guests | new friendships | generous
carries heavy bags for a stranger | spare the stranger pain | offer a hand | say goodbye politely | a thankful smile | strong
tutors a classmate | explain the difficult formulas | understand the subject | see better grades | a deeper understanding | smart
calls an ambulance | get medical help quickly | notice an accident | stay with the injured | sirens in the street | responsible
lends a book to a friend | share a great story | finish the last chapter | talk about the ending | a gap on the shelf | trusting
holds the door open | let others pass first | reach the door early | walk in last | a friendly nod | polite
collects litter in the park | protect the animals | bring a large bag | recycle the bottles | a full rubbish bag | responsible
teaches the children to swim | keep them safe in water | go to a shallow pool | praise every child | splashes in the face | patient
feeds the birds in winter | keep them from starving | buy sunflower seeds | watch them from the window | hungry visitors |
"""

GAPS = """
head | isFilledBy
eats ___ for breakfast | toast, cereal, porridge
drinks ___ at the party | lemonade, wine, punch
plays ___ in the orchestra | the violin, the flute, the cello
bakes ___ for dessert | a cake, cookies, a tart
drives ___ to work | a car, a van, a motorcycle
catches ___ in the river | a trout, a salmon, a frog
wears ___ in winter | a coat, gloves, a scarf
wears ___ to the wedding | a suit, a dress, a tie
reads ___ on the train | a novel, a newspaper, a magazine
buys ___ at the bakery | bread, rolls, croissants
buys ___ at the pharmacy | cough syrup, pills, bandages
picks ___ in the orchard | apples, pears, cherries
grows ___ in the garden | tomatoes, carrots, roses
feeds ___ on the farm | the pigs, the cows, the hens
sees ___ at the zoo | a lion, an elephant, a giraffe
sees ___ in the night sky | the moon, a star, a comet
keeps ___ as a pet | a hamster, a rabbit, a parrot
plays ___ at the stadium | football, rugby, baseball
plays ___ on a rainy day | cards, chess, dominoes
cuts ___ with scissors | paper, hair, cloth
cuts ___ with a knife | meat, cheese, bread
writes ___ with a pen | a letter, a postcard, an essay
puts ___ into the suitcase | shirts, socks, a towel
puts ___ on the pizza | cheese, olives, mushrooms
puts ___ in the coffee | sugar, milk, cream
takes ___ to the beach | a towel, sunscreen, a parasol
takes ___ on the hike | a map, a water bottle, a compass
borrows ___ from the library | a novel, a dictionary, an atlas
borrows ___ from a neighbour | a ladder, an egg, a drill
rides ___ in the countryside | a horse, a bicycle, a pony
repairs ___ in the garage | the car, the motorcycle, the lawn mower
repairs ___ in the bathroom | the tap, the shower, the pipe
paints ___ in the living room | the wall, the ceiling, the door
gives ___ on Valentine's Day | flowers, chocolates, a ring
gives ___ to the dog | a bone, a treat, water
hangs ___ on the wall | a picture, a mirror, a clock
visits ___ on holiday | Italy, the coast, an island
visits ___ on a school trip | a museum, a castle, a farm
learns ___ at school | mathematics, history, spelling
learns ___ from grandfather | carving, fishing, a card trick
builds ___ in the workshop | a table, a shelf, a chair
builds ___ on the beach | a sand castle, a moat, a tunnel
watches ___ at the cinema | a comedy, a thriller, a cartoon
throws ___ into the bin | paper, leftovers, an empty can
sends ___ by mail | a parcel, a card, a letter
sings ___ in the shower | a pop song, an aria, a folk song
loses ___ on the bus | a wallet, a glove, an umbrella
finds ___ on the beach | a shell, driftwood, amber
finds ___ in the forest | mushrooms, berries, a feather
washes ___ in the sink | the dishes, lettuce, a cup
cleans ___ on Saturday | the bathroom, the windows, the stairs
sells ___ at the market | vegetables, eggs, honey
collects ___ as a hobby | stamps, coins, records
orders ___ in the restaurant | soup, steak, fish
orders ___ in the pub | a beer, a cider, crisps
cooks ___ for the guests | spaghetti, a roast, curry
sews ___ by hand | a button, a curtain, a doll's dress
stores ___ in the cellar | potatoes, wine, old furniture
stores ___ in the refrigerator | milk, butter, leftovers
lights ___ in the evening | a candle, the lamp, the fireplace
"""

TABLES = {
    "cooking": COOKING,
    "chores": CHORES,
    "gardening": GARDENING,
    "repairs": REPAIRS,
    "exercise": EXERCISE,
    "learning": LEARNING,
    "arts": ARTS,
    "helping": HELPING,
    "gaps": GAPS,
}
