"""What the words on the report's page mean; docs/evaluation.md says the same at more length."""

#: Terms, and what they mean.
GLOSSARY = (
    (
        "distance",
        "Of points on everything that can move, from where they were predicted to where they were at"
        " that moment: mean over the points of a thing, then over things, then over episodes.",
    ),
    (
        "track error",
        "The same, averaged over all moments until then.",
    ),
    (
        "Chamfer",
        "From each predicted point to the nearest true one, and back; mean of both directions. Blind"
        " to which point is which.",
    ),
    (
        "EMD",
        "Earth mover's distance: mean distance of the best one-to-one pairing of at most 256 points.",
    ),
    (
        "position, angle",
        "Of a thing's frame, and of the turn since the beginning; what bends has no angle.",
    ),
    (
        "IoU, PSNR, SSIM",
        "Of the drawn Gaussians against the same Gaussians posed by the truth: overlap of what is"
        " seen of each thing; likeness where a thing is in either picture. Film: against what a camera"
        " filmed.",
    ),
    (
        "penetration",
        "How deep the deepest thing is in another, in a tool or in the ground, mean over all moments"
        " until then.",
    ),
    (
        "momentum, energy",
        "Errors of a thing's momentum, and of its kinetic and height energy, by its points.",
    ),
    (
        "energy from nothing",
        "By how much energy rose in steps in which no tool touched anything that can move.",
    ),
    (
        "covered",
        "How often a thing was within the radius that a model promised for nine times out of ten, by its"
        " place or by the mean distance of its points: 85"
        " to 95 % is honest. Radius: its mean.",
    ),
    (
        "right at 3 s",
        "Share of things that moved whose distance after 3 s is within 5 % of the length of their"
        " path, with Wilson's interval.",
    ),
    (
        "unusual",
        "Out-of-distribution score: the share of training situations that are less unusual.",
    ),
    (
        "still",
        "Episodes in which nothing moves by more than 1 mm: counted apart.",
    ),
    (
        "persistence",
        "Nothing moves. Constant velocity: all goes on as it did at the beginning, which is at rest"
        " in most episodes. Prior: physics without learning.",
    ),
)
