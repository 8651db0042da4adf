# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Things that people make and use: tables of facts, one per category.

Columns are ATOMIC-2020 relation names; a row is a head with its tails, separated by commas. The
row `*` holds tails that every head of the table shares. Everything here was written for this
project.
"""

HAND_TOOLS = """
head | AtLocation | ObjectUse | HasProperty | MadeUpOf
* | workshop | | |
a hammer | toolbox | driving nails | heavy, hard | steel
a saw | shed | cutting wood | sharp | steel
a screwdriver | toolbox | turning screws | handy | steel
a wrench | garage | tightening bolts | strong | iron
a drill | | making holes | loud | metal
a chisel | | carving wood | sharp | steel
a sheet of sandpaper | hardware store | smoothing wood | rough, thin | paper
a ladder | garage | reaching high places | tall | aluminium
a tape measure | toolbox | measuring lengths | flexible, precise | steel
a pair of pliers | toolbox | gripping wires | strong | steel
an axe | shed | chopping firewood | sharp, heavy | steel
a nail | hardware store | joining boards | pointed, thin | iron
a screw | hardware store | fastening shelves | small | brass
a paintbrush | art room | spreading paint | soft | bristles
a spirit level | | checking straight lines | precise | aluminium
a workbench | | sawing and gluing | sturdy | wood
a clamp | | holding parts together | strong | iron
a crowbar | | prying boards apart | heavy | iron
"""

KITCHEN_TOOLS = """
head | AtLocation | ObjectUse | HasProperty | MadeUpOf
* | kitchen | | |
a knife | kitchen drawer | cutting bread | sharp | steel
a fork | kitchen drawer | picking up food | pointed | steel
a spoon | kitchen drawer | eating soup | shiny, smooth | steel
a whisk | kitchen drawer | beating eggs | light | wire
a rolling pin | | flattening dough | smooth, round | wood
a cutting board | | chopping vegetables | flat | wood
a can opener | kitchen drawer | opening cans | handy | steel
a corkscrew | kitchen drawer | opening wine bottles | twisted | steel
a grater | | shredding cheese | rough | steel
a peeler | kitchen drawer | peeling potatoes | sharp | steel
a ladle | | serving soup | deep | steel
a spatula | | flipping pancakes | flat | plastic
a sieve | | sifting flour | round | wire
a kitchen scale | | weighing flour | precise | plastic
a colander | | draining pasta | full of holes | metal
a measuring cup | | measuring milk | clear | glass
a pepper mill | dining table | grinding pepper | small | wood
a pair of tongs | | turning meat on the grill | long | steel
"""

CLOTHES = """
head | AtLocation | ObjectUse | HasProperty | MadeUpOf
* | wardrobe | | |
a coat | | staying warm in winter | thick, warm | wool
a raincoat | | staying dry in the rain | waterproof | plastic
a shirt | office | dressing for work | light | cotton
a sweater | | keeping the body warm | warm, soft | wool
a dress | | dressing for a party | elegant | silk
a skirt | | dressing in summer | light | cotton
a suit | | attending a wedding | elegant | wool
a scarf | | protecting the neck | long, warm | wool
a hat | | shading the face | light | felt
a glove | coat pocket | warming the hand | warm | leather
a sock | sock drawer | keeping a foot warm | soft | cotton
a boot | hallway | walking through mud | sturdy | leather
a sandal | beach | walking on hot sand | light | leather
a belt | | holding up trousers | long | leather
a tie | office | looking formal | thin | silk
an apron | kitchen | protecting clothes from stains | practical | cotton
a swimsuit | swimming pool | swimming in the sea | stretchy | nylon
an umbrella | hallway | keeping off the rain | waterproof | nylon
a pair of pyjamas | bedroom | sleeping in comfort | comfortable | cotton
"""

OFFICE = """
head | AtLocation | ObjectUse | HasProperty | MadeUpOf
a pencil | pencil case | drawing and sketching | thin | wood and graphite
a pen | desk | signing letters | thin | plastic and ink
an eraser | pencil case | removing pencil marks | small, soft | rubber
a ruler | classroom | drawing straight lines | straight | plastic
a notebook | school bag | taking notes | thin | paper
a book | library | reading stories | interesting | paper
a dictionary | library | looking up words | thick | paper
a newspaper | kiosk | learning the news | cheap | paper
a stapler | desk | joining sheets of paper | handy | metal
a paper clip | desk | holding papers together | tiny | wire
a pair of scissors | desk drawer | cutting paper | sharp | steel
glue | art room | sticking paper together | sticky | resin
a piece of chalk | classroom | writing on a blackboard | white, dusty | limestone
a blackboard | classroom | explaining a lesson | dark | slate
an envelope | post office | mailing letters | flat | paper
a stamp | post office | paying for mail | tiny, sticky | paper
a calendar | office wall | keeping track of dates | practical | paper
a map | glove compartment | finding the way | colourful | paper
a globe | classroom | learning geography | round | plastic
a backpack | classroom | carrying school books | practical | nylon
"""

VEHICLES = """
head | AtLocation | ObjectUse | HasProperty | CapableOf
a car | garage | driving to work | fast | carrying a family
a bus | bus stop | travelling across town | large | carrying fifty passengers
a truck | highway | transporting goods | heavy | hauling furniture
a bicycle | bicycle path | riding to school | cheap | rolling downhill
a motorcycle | road | riding on country roads | noisy, fast | overtaking cars
a train | railway station | travelling between cities | long, fast | crossing a bridge on rails
a plane | airport | travelling to other countries | fast, loud | flying above the clouds
a helicopter | hospital roof | rescuing climbers | loud | hovering in the air
a ship | harbour | crossing the ocean | huge | carrying containers
a rowing boat | lake | fishing on a lake | small | floating on water
a sailing boat | marina | racing in the wind | graceful | gliding without an engine
a ferry | harbour | taking cars to an island | slow | crossing a wide river
a submarine | ocean | exploring the deep sea | silent | diving under water
a rocket | launch site | travelling into space | powerful | leaving the atmosphere
a tractor | farm | pulling a plough | strong, slow | ploughing a field
an ambulance | hospital | bringing patients to hospital | fast | flashing blue lights
a fire engine | fire station | putting out fires | red, loud | spraying a burning house
a taxi | street | getting home at night | convenient | picking up passengers
a tram | street | getting around the city | electric | following its rails
a hot air balloon | sky | enjoying the view from above | colourful, slow | drifting with the wind
a sled | snowy hill | sliding down a hill | fast | gliding over snow
"""

SPORTS = """
head | AtLocation | ObjectUse | HasProperty | MadeUpOf
a football | stadium | scoring goals | round | leather
a basketball | sports hall | shooting at a hoop | bouncy, round | rubber
a tennis ball | tennis court | practising a serve | bouncy | rubber and felt
a tennis racket | tennis court | hitting a ball over a net | light | carbon and strings
a baseball bat | baseball field | hitting a fast ball | long, hard | wood
a golf club | golf course | hitting a ball into a hole | long | steel
a golf ball | golf course | practising a long swing | small, hard | rubber
a hockey stick | ice rink | passing a puck | curved | wood
a pair of skates | ice rink | gliding over ice | sharp | leather and steel
a pair of skis | ski slope | gliding down a mountain | long, smooth | wood and carbon
a surfboard | beach | riding waves | smooth, long | foam
a skateboard | skate park | doing tricks | fast | wood
a yoga mat | gym | stretching on the floor | thin, soft | rubber
a dumbbell | gym | building muscles | heavy | iron
a skipping rope | gym | jumping on the spot | thin | rope
a boxing glove | boxing ring | protecting the fist | thick | leather
a bow | archery range | shooting arrows | curved, flexible | wood
a fishing rod | fishing boat | catching trout | long, flexible | carbon
a bicycle helmet | hallway | protecting the head | hard | plastic and foam
a paddle | canoe | steering a canoe | flat, long | wood
a whistle | referee's pocket | starting a match | shrill, tiny | plastic
"""

TABLES = {
    "hand tools": HAND_TOOLS,
    "kitchen tools": KITCHEN_TOOLS,
    "clothes": CLOTHES,
    "office": OFFICE,
    "vehicles": VEHICLES,
    "sports": SPORTS,
}
