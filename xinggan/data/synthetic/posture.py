"""The posture of a person in a view: angles of the limbs, and forward kinematics down to the joints in 3-D.

Body axes are x to the person's left, y up, z to the front; a bone hangs along its own -y from where it starts. Angles
are given for an active and a resting side, which may change places, so left and right are alike. Joints are the 18 of
OpenPose.
"""

from dataclasses import dataclass

import numpy as np

from xinggan.data.synthetic.people import Chance, Floats, People

# shoulder flexion (forwards), abduction (sideways), twist about the bone (outwards), elbow flexion; degrees
ARMS: dict[str, tuple[float, float, float, float]] = {
    "hanging": (0, 9, 0, 14),
    "bent": (0, 12, -8, 88),
    "waving": (0, 112, 90, 75),
    "overhead": (168, 14, 0, 18),
    "surrendering": (0, 78, 88, 98),
    "on hip": (-14, 48, -78, 92),
    "at ear": (42, 38, -22, 138),
    "pointing": (84, 14, 0, 8),
    "carrying": (16, 8, -12, 84),
    "folded": (26, 16, -62, 104),
    "in pocket": (-20, 14, -30, 42),
}
# weight, stride (0 standing, 1 walking, 2 running), active arm, resting arm
POSTURES: tuple[tuple[float, float, str, str], ...] = (
    (0.32, 1.0, "hanging", "hanging"),
    (0.14, 0.0, "hanging", "hanging"),
    (0.06, 0.8, "at ear", "hanging"),
    (0.05, 0.0, "in pocket", "in pocket"),
    (0.04, 0.0, "on hip", "on hip"),
    (0.04, 0.3, "on hip", "hanging"),
    (0.09, 0.3, "waving", "hanging"),
    (0.06, 0.2, "overhead", "overhead"),
    (0.04, 0.0, "surrendering", "surrendering"),
    (0.05, 0.3, "pointing", "hanging"),
    (0.04, 0.8, "carrying", "carrying"),
    (0.03, 0.0, "folded", "folded"),
    (0.04, 2.0, "bent", "bent"),
)
LONGEST_STRIDE = (2.0, 2.0, 0.8, 0.5)  # in trousers, shorts, a skirt, a long skirt
Length = Floats | float  # of all people alike, or one a person


@dataclass(frozen=True)
class Skeletons:
    """n posed skeletons in metres; axes of the view: x to the right of the image, y up, z towards the camera.

    Bones are pelvis, chest, head and, with a side before them, upper arm, forearm, hand, thigh, shin, foot.
    """

    joints: Floats  # [n, 18, 3]
    starts: dict[str, Floats]  # bone -> [n, 3]
    frames: dict[str, Floats]  # bone -> [n, 3, 3]: columns are the bone's own left, up and front
    up: Floats  # [n, 3] away from the ground
    ground: Floats  # [n, 3] the point of the ground below the pelvis


def rotation(axis: int, degrees: Floats) -> Floats:
    """[n, 3, 3] right-handed rotations about a coordinate axis."""
    angle = np.radians(degrees)
    matrix = np.zeros((len(angle), 3, 3))
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix[:, axis, axis] = 1
    matrix[:, first, first] = matrix[:, second, second] = np.cos(angle)
    matrix[:, second, first] = np.sin(angle)
    matrix[:, first, second] = -matrix[:, second, first]
    return matrix


def turn(frames: Floats, vectors: Floats) -> Floats:
    """[n, 3, 3] times [n, 3], summed in a fixed order: the result for a person does not depend on the others."""
    x, y, z = vectors[:, :1], vectors[:, 1:2], vectors[:, 2:]
    return frames[:, :, 0] * x + frames[:, :, 1] * y + frames[:, :, 2] * z


def pose_people(people: People, heading: Floats, pitch: Floats, chance: Chance) -> Skeletons:
    """Posed skeletons of n people.

    Args: heading: [n] degrees, 0 to the camera, 90 to the right of the image. pitch: [n] degrees that the camera looks
    down.
    """
    posture = chance.choose([weight for weight, *_ in POSTURES])
    stride = np.array([stride for _, stride, _, _ in POSTURES])[posture]
    stride = np.minimum(stride, np.array(LONGEST_STRIDE)[people.attributes["lower_kind"]])
    arms = np.array([[ARMS[active], ARMS[resting]] for _, _, active, resting in POSTURES])[posture]  # [n, 2, 4]
    swapped = chance.below(2).astype(bool)
    arms = np.where(swapped[:, None, None], arms[:, ::-1], arms)
    phase = chance.between(0, 2 * np.pi)

    level = rotation(0, pitch)
    running = np.maximum(stride - 1, 0)
    lean = 3 * stride + 8 * running + chance.around(0, 2.0)
    starts = {"pelvis": np.zeros((len(heading), 3))}
    frames = {"pelvis": level @ rotation(1, heading) @ rotation(0, 0.4 * lean)}

    def point(bone: str, x: Length, y: Length, z: Length) -> Floats:
        """[n, 3] the point (x, y, z) of a bone's frame."""
        offset = np.stack([np.broadcast_to(length, len(heading)) for length in (x, y, z)], axis=-1)
        return starts[bone] + turn(frames[bone], offset)

    def hang(bone: str, parent: str, offset: tuple[Length, Length, Length], swing: Floats) -> None:
        """Start `bone` at `offset` in its parent's frame and swing it."""
        starts[bone], frames[bone] = point(parent, *offset), frames[parent] @ swing

    counter_twist = -9 * stride * np.sin(phase)
    hang("chest", "pelvis", (0, 0.14, 0), rotation(1, counter_twist + chance.around(0, 4)) @ rotation(0, 0.6 * lean))
    nod = rotation(1, chance.around(0, 13) - counter_twist) @ rotation(0, chance.around(2, 5) - 0.6 * lean)
    hang("head", "chest", (0, 0.42, 0.03), nod)
    for index, (side, sign) in enumerate((("right", -1), ("left", 1))):
        step = -sign * np.sin(phase)  # 1: this leg is in front
        swing = np.maximum(-sign * np.cos(phase), 0)  # 1: this leg is in the air and moves forwards
        flexion, abduction, twist, elbow = arms[:, index].T
        hanging = elbow < 20
        flexion = flexion - np.where(hanging, 24, 6 + 22 * running) * stride * step + chance.around(0, 5)
        abduction = abduction + chance.around(0, 3)
        elbow = elbow + np.where(hanging, 12 * stride, 0) + np.abs(chance.around(0, 7))
        shoulder = rotation(2, sign * abduction) @ rotation(0, -flexion) @ rotation(1, sign * twist)
        hang(f"{side} upper arm", "chest", (sign * people.shoulders, 0.345, 0), shoulder)
        hang(f"{side} forearm", f"{side} upper arm", (0, -0.285 * people.arms, 0), rotation(0, -elbow))
        hang(f"{side} hand", f"{side} forearm", (0, -0.25 * people.arms, 0), rotation(0, -chance.between(0, 15)))

        thigh = (24 - 4 * running) * stride * step + 14 * running + chance.around(1, 3)
        knee = 5 + stride * (10 + 30 * swing) + np.abs(chance.around(0, 4))
        spread = 3.5 - 2 * np.minimum(stride, 1) + chance.around(0, 1.5)
        toes = rotation(0, 0.75 * (thigh - knee)) @ rotation(1, sign * chance.around(8, 4))
        hang(f"{side} thigh", "pelvis", (sign * people.hips, 0, 0), rotation(2, sign * spread) @ rotation(0, -thigh))
        hang(f"{side} shin", f"{side} thigh", (0, -0.415 * people.legs, 0), rotation(0, knee))
        hang(f"{side} foot", f"{side} shin", (0, -0.405 * people.legs, 0), toes)

    size = people.head
    joints = [point("head", 0, 0.105 * size, 0.138 * size), point("chest", 0, 0.355, 0)]
    for limb in (("upper arm", "forearm", "hand"), ("thigh", "shin", "foot")):
        joints += [starts[f"{side} {bone}"] for side in ("right", "left") for bone in limb]
    joints += [point("head", sign * 0.036 * size, 0.140 * size, 0.112 * size) for sign in (-1, 1)]
    joints += [point("head", sign * 0.088 * size, 0.118 * size, 0.015 * size) for sign in (-1, 1)]

    up = level[:, :, 1]
    soles = np.stack([point(f"{side} foot", 0, -0.085, z) for side in ("right", "left") for z in (-0.04, 0.15)], axis=1)
    reach = soles - starts["pelvis"][:, None]
    heights = reach[..., 0] * up[:, :1] + reach[..., 1] * up[:, 1:2] + reach[..., 2] * up[:, 2:]  # [n, soles]
    ground = starts["pelvis"] + heights.min(axis=1)[:, None] * up
    return Skeletons(np.stack(joints, axis=1), starts, frames, up, ground)
