"""Synthetic people: an embedded data set of persons seen again in other poses, from other sides, by other cameras.

`render(seed, people, views)` gives images with exact joints, silhouettes, part labels and identities, `describe(seed,
people)` the attributes of the same people. From the inside out: `chance` draws, `people` says who, `motion` how they
stand, `figure` puts flesh on the bones, `raycast` looks at it, `clothes` and `backdrop` colour it, `annotate` marks the
joints, `scene` puts everything together.
"""

from xinggan.data.synthetic.figure import PARTS
from xinggan.data.synthetic.people import ATTRIBUTES
from xinggan.data.synthetic.scene import Rendering, describe, render
from xinggan.data.synthetic.sheet import sheet

GENERATOR_VERSION = "2"  # changed whenever a pixel, a joint or an attribute changes

__all__ = ["ATTRIBUTES", "GENERATOR_VERSION", "PARTS", "Rendering", "describe", "render", "sheet"]
