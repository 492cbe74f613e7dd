"""Poses: 18 joints in OpenPose order, the limbs between them, and what is drawn from a pose: heatmaps for a network,
the body mask for a metric, the skeleton for a person.

A pose is float32 [18, 3]: x (column) and y (row) in pixels, whole numbers at pixel centres, and visible (1 or 0). A
missing joint has visible 0 and x = y = -1. Joint order, limbs and the rule of PCKh are written here and nowhere else.
"""

from typing import TYPE_CHECKING

import numpy as np

from xinggan.data.settings import PoseMap

if TYPE_CHECKING:
    from torch import Tensor

JOINTS = (
    *("nose", "neck"),
    *("right shoulder", "right elbow", "right wrist", "left shoulder", "left elbow", "left wrist"),
    *("right hip", "right knee", "right ankle", "left hip", "left knee", "left ankle"),
    *("right eye", "left eye", "right ear", "left ear"),
)
HEAD_JOINTS = (0, 1, 14, 15, 16, 17)  # nose, neck, eyes, ears: they span the head box of PCKh
TORSO_JOINTS = (2, 5, 8, 11)  # shoulders and hips: an image takes part in derived pairs when it shows all four

# Pairs of joints, counted from 0: seventeen bones, then six lines that close the head and the trunk of the body mask.
BONES = (
    *((1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7)),  # shoulders and arms
    *((1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13)),  # trunk and legs
    *((1, 0), (0, 14), (14, 16), (0, 15), (15, 17)),  # neck and face
)
LIMBS = (*BONES, (1, 16), (1, 17), (8, 11), (11, 5), (8, 2), (16, 17))

# 7.4 sigma away. The product of two such factors is far from denormal numbers, which slow a convolution down tenfold.
FAINT = 1e-12
CLOSING = [(np.ones((1, 5, 1)), 1), (np.ones((1, 1, 5)), 1)]  # 5 x 5 within each mask of [n, H, W], axis after axis


def are_fractions(poses: np.ndarray) -> bool:
    """Whether the joints of poses [n, 18, 3] seem to be fractions of an image, though a few may lie beyond its edge.

    One or two joints say nothing: they may lie in the corner.
    """
    coordinates = poses[poses[..., 2] > 0][:, :2]
    return len(coordinates) > 2 and bool(np.quantile(coordinates, 0.97, method="lower") < 2)


def drop_undetected(poses: np.ndarray) -> tuple[int, int]:
    """Make joints at exactly 0, 0 missing in poses [n, 18, 3] where a pose has several: tools write undetected ones so.

    Returns the number of such joints and of the poses that have them.
    """
    at_origin = (poses == (0, 0, 1)).all(axis=-1)  # [n, 18]
    if not (at_origin.sum(axis=1) > 1).any():
        return 0, 0
    poses[at_origin] = (-1, -1, 0)
    return int(at_origin.sum()), int(at_origin.any(axis=1).sum())


def heatmaps(
    poses: "Tensor", height: int, width: int, sigma: float = 6.0, kind: PoseMap | str = PoseMap.gaussian
) -> "Tensor":
    """poses [B, 18, 3] -> float32 [B, 18, height, width] on the same device, all zero where a joint is missing.

    `gaussian`: exp(-d² / 2 sigma²) with d the distance to the joint and sigma in pixels, made as the outer product of
    two 1-D factors, which is the same function, and 0 where a factor is below FAINT. `onehot`: 1 at the joint's pixel
    and 0 elsewhere, what the published DeepFashion maps became when they were cast to uint8. Raises ValueError for
    another kind.
    """
    import torch

    x, y, visible = poses.float().unbind(-1)  # [B, 18] each
    columns = torch.arange(width, device=poses.device, dtype=torch.float32)
    rows = torch.arange(height, device=poses.device, dtype=torch.float32)
    if kind == PoseMap.gaussian:
        across = torch.exp((columns - x[..., None]).square() / (-2 * sigma**2))  # [B, 18, W]
        down = torch.exp((rows - y[..., None]).square() / (-2 * sigma**2))  # [B, 18, H]
        across, down = (torch.where(factor < FAINT, 0.0, factor) for factor in (across, down))
    elif kind == PoseMap.onehot:
        across = (columns == (x[..., None] + 0.5).floor()).float()
        down = (rows == (y[..., None] + 0.5).floor()).float()
    else:
        raise ValueError(f"pose map {kind!r} is not known; accepted: {', '.join(PoseMap)}")
    down = down * (visible > 0)[..., None]
    return down[..., :, None] * across[..., None, :]  # [B, 18, H, W]


def pose_maps(poses: "Tensor", image: "Tensor", kind: PoseMap, sigma: float) -> "Tensor":
    """Heatmaps [B, 18, H, W] of `poses` [B, 18, 3], channels last, in the size of `image` [B, 3, H, W].

    sigma: pixels.
    """
    import torch

    height, width = image.shape[-2:]
    return heatmaps(poses, height, width, sigma, kind).contiguous(memory_format=torch.channels_last)


def body_masks(poses: np.ndarray, height: int, width: int, radius: int = 4) -> np.ndarray:
    """poses [n, 18, 3] -> bool [n, height, width], drawn as by the evaluation tools of PG2 ... XingGAN.

    Every limb is a quadrilateral with `radius` pixels to either side of the segment, every joint a disk of that radius;
    a closing by a 5 x 5 square joins them. Missing joints and limbs with a missing end are left out.
    """
    from skimage.draw import disk, polygon
    from skimage.morphology import closing

    masks = np.zeros((len(poses), height, width), dtype=bool)
    points, present = poses[..., 1::-1].astype(np.float64), poses[..., 2] > 0  # [n, 18, 2] row, column; [n, 18]
    first, second = np.array(LIMBS).T
    a, b = points[:, first], points[:, second]  # [n, 23, 2]
    drawn = present[:, first] & present[:, second] & (a != b).any(axis=-1)
    length = np.linalg.norm(a - b, axis=-1, keepdims=True).clip(min=np.finfo(float).tiny)
    aside = radius * np.stack([b[..., 1] - a[..., 1], a[..., 0] - b[..., 0]], axis=-1) / length
    corners = np.stack([a + aside, a - aside, b - aside, b + aside], axis=-1)  # [n, 23, 2, 4]
    for pose, limb in np.argwhere(drawn):
        rows, columns = corners[pose, limb]
        masks[pose][polygon(rows, columns, shape=(height, width))] = True
    for pose, joint in np.argwhere(present):
        masks[pose][disk(points[pose, joint], radius, shape=(height, width))] = True
    return closing(masks, CLOSING) if len(masks) else masks


def pckh(
    prediction: np.ndarray, target: np.ndarray, tolerance: float = 0.5, head_joints_needed: int = 2
) -> tuple[np.ndarray, np.ndarray]:
    """Count the right joints of each image, as the evaluation tools of PATN and XingGAN do.

    prediction, target: [n, 18, 3] with x and y in pixels and visible (1 or 0). The head box spans the target's nose,
    neck, eyes and ears. A joint is right when it lies strictly less than `tolerance` of the box's width away along x
    and of its height along y. Only joints that the target shows count; one that the prediction calls absent is wrong.
    Returns (correct [n], total [n]); total is 0 for images left out because their target shows fewer than
    `head_joints_needed` head joints. A set's PCKh is correct.sum() / total.sum(). Raises ValueError for other shapes.
    """
    if prediction.shape != target.shape or target.shape[1:] != (18, 3):
        raise ValueError(f"PCKh compares two arrays [n, 18, 3]; got {prediction.shape} and {target.shape}")
    shown = target[..., 2] > 0  # [n, 18]
    head, head_shown = target[:, HEAD_JOINTS, :2], shown[:, HEAD_JOINTS, None]  # [n, 6, 2], [n, 6, 1]
    lowest = np.where(head_shown, head, np.inf).min(1)  # [n, 2]
    highest = np.where(head_shown, head, -np.inf).max(1)
    scored = head_shown.sum((1, 2)) >= head_joints_needed  # [n]
    box = np.where(scored[:, None], highest - lowest, 0.0)  # [n, 2] width, height
    distance = np.abs(prediction[..., :2] - target[..., :2])  # [n, 18, 2]
    right = (distance < tolerance * box[:, None]).all(2) & (prediction[..., 2] > 0) & shown
    return right.sum(1), np.where(scored, shown.sum(1), 0)


def draw_skeleton(
    pose: np.ndarray, height: int, width: int, scale: int = 1, background: np.ndarray | None = None
) -> np.ndarray:
    """pose [18, 3] -> uint8 [height * scale, width * scale, 3]: coloured bones on black or `background`.

    The right side of the body is warm (yellow to red), the left side cold (green to blue), head and neck violet.
    A background of another size is enlarged to this one.
    """
    from PIL import Image, ImageDraw

    smooth = 4  # drawn so many times larger, then averaged: Pillow's lines have hard edges
    size = (width * scale, height * scale)
    layer = Image.new("RGBA", (size[0] * smooth, size[1] * smooth))
    draw = ImageDraw.Draw(layer)
    unit = scale * smooth
    thickness = max(1.0, min(height, width) / 32) * unit
    points = [((x + 0.5) * unit, (y + 0.5) * unit) if visible > 0 else None for x, y, visible in pose.tolist()]
    for (a, b), colour in zip(BONES, BONE_COLOURS, strict=True):
        start, end = points[a], points[b]
        if start and end:
            draw.line([start, end], fill=colour, width=round(thickness))
    for joint, point in enumerate(points):
        if point:
            draw.circle(point, thickness * 0.75, fill=JOINT_COLOURS[joint])
    below = Image.new("RGB", size) if background is None else Image.fromarray(background).resize(size)
    layer = layer.resize(size, Image.Resampling.BOX)
    below.paste(layer, mask=layer.getchannel("A"))
    return np.asarray(below).copy()


BONE_COLOURS = (
    *((255, 190, 60), (70, 200, 160), (255, 150, 50), (250, 110, 50), (50, 190, 210), (60, 150, 240)),
    *((240, 90, 80), (230, 60, 70), (200, 40, 60), (90, 130, 230), (80, 100, 220), (70, 70, 200)),
    *((200, 160, 250), (230, 140, 220), (240, 120, 180), (170, 140, 250), (140, 120, 240)),
)
# A joint has the colour of the bone that ends there; the neck, where they all begin, is nearly white.
JOINT_COLOURS = tuple(
    next((colour for (_, end), colour in zip(BONES, BONE_COLOURS, strict=True) if end == joint), (240, 240, 240))
    for joint in range(len(JOINTS))
)
