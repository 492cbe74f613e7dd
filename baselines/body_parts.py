"""Ten rectangular body parts of a pose: they move features in Deform and label positions in PoCoLD.

As in Deform (Siarohin et al., CVPR 2018), rectangles around head, torso and limbs are laid in the source and in the
target pose, and one affine transform a part maps the target's rectangle to the source's. PoCoLD asks which part a
position belongs to; there the rectangles stand in for DensePose, which the suite's data sets do not have.

Head and torso rectangles reach half a limb's thickness beyond their joints (the published code enlarges its masks too).
Chosen here, where the paper is silent: two visible joints make a head and three a torso, sides are at least a pixel,
and limbs are a tenth of the image's height thick where no diagonal of the torso shows.
"""

from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor
from torch.nn import functional as F

from xinggan.data.poses import HEAD_JOINTS, TORSO_JOINTS

# Upper and lower arms, upper and lower legs, as pairs of joints; and each one's symmetric limb.
LIMBS = ((2, 3), (3, 4), (5, 6), (6, 7), (8, 9), (9, 10), (11, 12), (12, 13))
SYMMETRIC = (2, 3, 0, 1, 6, 7, 4, 5)
BOXES = ((HEAD_JOINTS, 2), (TORSO_JOINTS, 3))  # head and torso, with the visible joints that they need
PARTS = len(BOXES) + len(LIMBS)
BACKGROUND = PARTS  # its label; parts have 0 to 9
LABELS = PARTS + 1
DIAGONALS = ((2, 11), (5, 8))  # of the torso: shoulder to the other side's hip


@dataclass(frozen=True)
class Rectangles:
    """A rectangle for each of the ten parts: head, torso, then LIMBS. In pixels; sides are not 0."""

    centre: Tensor  # [B, 10, 2]: x, y
    axes: Tensor  # [B, 10, 2, 2]: from the centre to the middle of two neighbouring sides, each x, y
    known: Tensor  # [B, 10] bool: whether enough of the part's joints show


def rectangles(poses: Tensor, height: int) -> Rectangles:
    """poses: [B, 18, 3] in images `height` pixels high. Boxes along the image's sides enclose head and torso.

    A limb's rectangle lies along the line between its joints, a third of the torso's mean diagonal thick.
    """
    points, visible = poses[..., :2].float(), poses[..., 2] > 0  # [B, 18, 2], [B, 18]
    one, other = (list(ends) for ends in zip(*DIAGONALS, strict=True))
    shown = (visible[:, one] & visible[:, other]).float()  # [B, 2]
    diagonals = (points[:, one] - points[:, other]).norm(dim=-1)  # [B, 2]
    thickness = (diagonals * shown).sum(1) / (3 * shown.sum(1).clamp(min=1))
    thickness = torch.where(shown.sum(1) > 0, thickness, height / 10).clamp(min=1)[:, None, None]  # [B, 1, 1]

    boxes = [_box(points[:, joints], visible[:, joints], least) for joints, least in BOXES]
    low, high, box_known = (torch.stack(values, dim=1) for values in zip(*boxes, strict=True))  # [B, 2, 2], ..., [B, 2]
    half = (high - low + thickness) / 2
    box_axes = torch.diag_embed(half)  # [B, 2, 2, 2]

    first, second = (list(ends) for ends in zip(*LIMBS, strict=True))
    a, b = points[:, first], points[:, second]  # [B, 8, 2]
    limb_known = visible[:, first] & visible[:, second]
    length = (b - a).norm(dim=-1, keepdim=True)
    along = torch.where(length > 0, (b - a) / length.clamp(min=1e-6), torch.tensor([0.0, 1.0], device=poses.device))
    across = torch.stack([-along[..., 1], along[..., 0]], dim=-1)
    limb_axes = torch.stack([along * length.clamp(min=1), across * thickness], dim=2) / 2  # [B, 8, 2, 2]

    return Rectangles(
        torch.cat([(low + high) / 2, (a + b) / 2], dim=1),
        torch.cat([box_axes, limb_axes], dim=1),
        torch.cat([box_known, limb_known], dim=1),
    )


def _box(points: Tensor, visible: Tensor, least: int) -> tuple[Tensor, Tensor, Tensor]:
    """points [B, n, 2], visible [B, n] -> least and greatest x, y [B, 2] of those visible, whether they are enough."""
    known = visible.sum(dim=1) >= least
    visible = visible | ~known[:, None]  # an unknown box is any box
    low = points.masked_fill(~visible[..., None], inf).amin(dim=1)
    high = points.masked_fill(~visible[..., None], -inf).amax(dim=1)
    return low, high, known


def with_symmetric_limbs(source: Rectangles) -> Rectangles:
    """The source's rectangles, in which a limb that does not show has the symmetric limb's, where that shows."""
    order = [*range(len(BOXES)), *(len(BOXES) + limb for limb in SYMMETRIC)]
    known = source.known
    centre = torch.where(known[..., None], source.centre, source.centre[:, order])
    axes = torch.where(known[..., None, None], source.axes, source.axes[:, order])
    return Rectangles(centre, axes, known | known[:, order])


def affine_transforms(source: Rectangles, target: Rectangles) -> Tensor:
    """The transforms [B, 10, 2, 3] of homogeneous places of the target image to the source image, corner to corner.

    Each is the least-squares transform of the four corners, whose residual is 0 for two rectangles.
    """
    inverse = target.axes / target.axes.square().sum(-1, keepdim=True)  # of a matrix with orthogonal columns
    matrix = source.axes.mT @ inverse  # [B, 10, 2, 2]
    shift = source.centre - (matrix @ target.centre[..., None])[..., 0]
    return torch.cat([matrix, shift[..., None]], dim=-1)


def warp_parts(features: Tensor, source: Rectangles, target: Rectangles, stride: int) -> Tensor:
    """Move features [B, C, h, w], one every `stride` pixels of the source image, into the target pose.

    Each part is sampled where its transform points. It is 0 outside its target rectangle and where it is unknown in
    either pose. Returns the maximum over the parts for each channel, [B, C, h, w].
    """
    height, width = features.shape[-2:]
    places = feature_centres(height, width, stride, features.device)  # [h, w, 2]
    inside = covered(target, places) & source.known[:, :, None, None]  # [B, 10, h, w]
    affine = affine_transforms(source, target)
    moved = torch.einsum("hwx,bpyx->bphwy", places, affine[..., :2]) + affine[:, :, None, None, :, 2]
    extent = torch.tensor([width * stride, height * stride], device=features.device)
    grid = ((2 * moved + 1) / extent - 1).flatten(1, 2)  # [B, 10 h, w, 2]: from -1 to 1
    sampled = F.grid_sample(features.float(), grid, align_corners=False)  # [B, C, 10 h, w]
    return (sampled.unflatten(2, (PARTS, height)) * inside[:, None]).amax(dim=2)


def part_labels(poses: Tensor, stride: int, grid: tuple[int, int]) -> Tensor:
    """The part at each feature of a `grid` (h, w), one every `stride` pixels: int64 [B, h, w], 0 to 10.

    poses: [B, 18, 3] in pixels. A feature in several parts belongs to the last of head, torso, arms, legs: limbs lie
    over the torso. A feature in no part has the label BACKGROUND.
    """
    height, width = grid
    places = feature_centres(height, width, stride, poses.device)
    inside = covered(rectangles(poses, height * stride), places)  # [B, 10, h, w]
    order = torch.arange(1, PARTS + 1, device=poses.device).view(-1, 1, 1)
    last = (inside * order).amax(dim=1)  # [B, h, w]: 0 where no part is
    return torch.where(last > 0, last - 1, BACKGROUND)


def feature_centres(height: int, width: int, stride: int, device: torch.device) -> Tensor:
    """x and y in pixels of the centres of height x width features, one every `stride` pixels: [h, w, 2]."""
    rows, columns = ((torch.arange(size, device=device) + 0.5) * stride - 0.5 for size in (height, width))
    return torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)


def covered(parts: Rectangles, places: Tensor) -> Tensor:
    """True where one of the places [h, w, 2] (x, y in pixels) lies in a part that is known: bool [B, 10, h, w]."""
    away = places - parts.centre[:, :, None, None]  # [B, 10, h, w, 2]
    lengths = parts.axes.square().sum(-1)[:, :, None, None]  # [B, 10, 1, 1, 2]
    inside = (torch.einsum("bphwx,bpax->bphwa", away, parts.axes).abs() <= lengths).all(dim=-1)
    return inside & parts.known[:, :, None, None]
