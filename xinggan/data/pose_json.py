"""One pose in a JSON file: our own few keys, or what OpenPose writes. Both are in OpenPose order and pixels.

{"joints": [[x, y], null, ... 18 in all], "height": 128, "width": 64}     null: the joint is missing
{"people": [{"pose_keypoints_2d": [x, y, confidence, ...]}]}              OpenPose: 18 joints (COCO) or 25 (BODY_25)
"""

import json
from typing import Any

import numpy as np

from xinggan.data.poses import JOINTS

# BODY_25 has the middle of the hips as joint 8 and six joints of the feet at its end; the others are ours.
OF_BODY_25 = (*range(8), *range(9, 19))


def parse_pose_json(content: Any) -> tuple[np.ndarray, tuple[int, int] | None]:
    """A decoded JSON file -> pose float32 [18, 3] and (height, width), None for OpenPose's. Raises ValueError."""
    if isinstance(content, dict) and "joints" in content:
        return _own_joints(content["joints"]), (_pixels(content, "height"), _pixels(content, "width"))
    if isinstance(content, dict) and isinstance(content.get("people"), list):
        if len(content["people"]) != 1:
            raise ValueError(f"{len(content['people'])} people; expected one: leave the one that is meant")
        person = content["people"][0]
        return _openpose_joints(person.get("pose_keypoints_2d") if isinstance(person, dict) else None), None
    raise ValueError('neither {"joints": ..., "height": ..., "width": ...} nor OpenPose\'s {"people": ...}')


def _own_joints(joints: Any) -> np.ndarray:
    if not isinstance(joints, list) or len(joints) != len(JOINTS):
        found = len(joints) if isinstance(joints, list) else "no list of"
        raise ValueError(f"{found} joints; expected {len(JOINTS)} (OpenPose order), each [x, y] or null")
    pose = np.full((len(JOINTS), 3), (-1, -1, 0), dtype=np.float32)
    for index, joint in enumerate(joints):
        if joint is None:
            continue
        if not isinstance(joint, list) or len(joint) != 2 or not all(_is_coordinate(value) for value in joint):
            raise ValueError(f"joint {index} ({JOINTS[index]}) is {json.dumps(joint)[:40]}; expected [x, y] or null")
        pose[index] = (*joint, 1)
    return pose


def _openpose_joints(values: Any) -> np.ndarray:
    if not isinstance(values, list) or len(values) not in (54, 75) or not all(map(_is_coordinate, values)):
        found = f"{len(values)} values" if isinstance(values, list) else "no list"
        raise ValueError(f"pose_keypoints_2d: {found}; expected 18 (COCO) or 25 (BODY_25) times x, y, confidence")
    joints = np.array(values, dtype=np.float32).reshape(-1, 3)
    joints = joints[list(OF_BODY_25)] if len(joints) == 25 else joints
    present = joints[:, 2] > 0
    if present.any() and joints[present, :2].max() <= 1:
        raise ValueError(
            "pose_keypoints_2d: coordinates between 0 and 1; expected pixels (OpenPose: --keypoint_scale 0)"
        )
    return np.where(present[:, None], np.insert(joints[:, :2], 2, 1, axis=1), (-1, -1, 0)).astype(np.float32)


def _is_coordinate(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e6


def _pixels(content: dict, key: str) -> int:
    value = content.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < 1e5:
        raise ValueError(f"{key} is {json.dumps(value)[:40]}; expected pixels of the image that the joints belong to")
    return value
