"""Synthetic people: an embedded data set of persons seen again in other poses, from other sides, by other cameras.

`render(seed, people, views)` gives images with exact joints, part labels and identities, `describe(seed,
people)` the attributes of the same people. In the order of the computation: `people` draws a person, `posture` poses
the skeleton, `figure` builds the body of solids, `raycast` finds the solid that each sample of the image shows, `paint`
colours body and backdrop, `scene` puts everything together and marks the joints.
"""

from xinggan.data.synthetic.figure import PARTS
from xinggan.data.synthetic.people import ATTRIBUTES
from xinggan.data.synthetic.scene import Rendering, describe, render

GENERATOR_VERSION = "2"  # changed whenever a pixel, a joint or an attribute changes

__all__ = ["ATTRIBUTES", "GENERATOR_VERSION", "PARTS", "Rendering", "describe", "render"]
