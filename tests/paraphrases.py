"""Thirty pairs of sentences that mean the like and share few words."""

from __future__ import annotations

PAIRS = (
    (
        "The boat left the harbour before dawn.",
        "A ship sailed out of port in the dark.",
    ),
    ("She was furious with her brother.", "Her sibling had made her very angry."),
    ("The soup needs more salt.", "This broth tastes bland, season it."),
    ("Profits fell sharply last quarter.", "The company earned much less money this spring."),
    ("A kitten slept by the stove.", "The young cat was napping near the oven."),
    ("He could not remember the password.", "The login secret had slipped his mind."),
    ("Rain ruined the wedding.", "The bride's big day was spoiled by a downpour."),
    ("The king died without an heir.", "The monarch left no child to take the throne."),
    ("I have been sleeping badly for weeks.", "Insomnia has plagued me this past month."),
    ("The train was an hour late.", "Our railway journey was badly delayed."),
    ("Children laughed in the playground.", "Kids were giggling on the swings."),
    ("The doctor prescribed antibiotics.", "A physician wrote out medicine for the infection."),
    ("Snow covered the whole village.", "Every roof and lane lay white under winter."),
    ("The thief escaped over the wall.", "A burglar got away by climbing the fence."),
    ("We should hire another programmer.", "The team needs one more software developer."),
    ("The orchestra tuned their instruments.", "Musicians were getting their violins ready."),
    (
        "Old letters were hidden in the attic.",
        "Under the roof lay forgotten correspondence.",
    ),
    ("The desert stretched to the horizon.", "Sand reached as far as the eye could see."),
    ("My grandmother taught me to bake bread.", "Granny showed me how loaves are made."),
    ("The election was decided by a few votes.", "A handful of ballots settled who would govern."),
    ("The engine overheated on the hill.", "Going uphill, the motor got too hot."),
    ("He apologised for the misunderstanding.", "He said sorry that there had been confusion."),
    ("The forest was silent at night.", "After dark no sound came from the woods."),
    ("Prices of houses keep rising.", "Buying a home gets more expensive every year."),
    ("The dog buried its bone in the garden.", "A hound dug a hole in the yard for its treat."),
    ("She won the race by a second.", "The runner finished barely ahead of the others."),
    ("The museum closes on Mondays.", "You cannot visit the gallery at the start of the week."),
    ("A strange light moved across the sky.", "Something glowing drifted overhead."),
    ("The recipe calls for three eggs.", "You will need a few eggs to cook this dish."),
    ("He was afraid of speaking in public.", "Giving talks to an audience terrified him."),
)
