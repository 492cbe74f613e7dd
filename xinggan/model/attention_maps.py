"""Where joints of the target looked in the source: weights of the crossing blocks' attention for a few positions.

Both branches meet the source in the appearance code (XingGAN, ECCV 2020, eq. 1 to 6): SA takes up the appearance code's
values at the places it weighs, AS compares the shape code with the appearance code there. The weights are computed
anew from the codes that the blocks are given, only when asked for, so that generating costs nothing more.
"""

import numpy as np
import torch
from torch import Tensor

from xinggan.attention_file import AttentionMaps
from xinggan.data.batch import PosePair, images_to_float
from xinggan.data.poses import pose_maps
from xinggan.model.attention import CrossAttention, Pyramid, pyramid_grids, pyramid_of
from xinggan.model.blocks import CrossingBlock
from xinggan.model.generator import XingGenerator
from xinggan.model.method import Method
from xinggan.model.published_method import PublishedXingGAN
from xinggan.model.switches import Attention
from xinggan.model.xing import XingGAN

# Of each group the first joint that both images show, or else the first that the target shows.
GROUPS = ((0, 1, 14, 15), (2, 5), (8, 11), (10, 13, 9, 12))  # head, shoulder, hip, ankle or else knee
STRIDE = 4  # pixels of an image a position of its codes


@torch.no_grad()
def attention_maps(method: Method, batch: PosePair) -> AttentionMaps | None:
    """Weights of the first and the last block from up to four joints of each target; `batch` on the method's device.

    None for methods without this attention (attention=none among them), and where no target shows a joint. The method
    is left in the mode it was in.
    """
    if not isinstance(method, XingGAN | PublishedXingGAN) or not isinstance(method.generator, XingGenerator):
        return None
    architecture, (height, width) = method.generator.architecture, batch.source_image.shape[-2:]
    sources, targets = batch.source_pose.cpu().numpy(), batch.target_pose.cpu().numpy()  # [B, 18, 3] each
    joints = [looked_from(target, source, height, width) for target, source in zip(targets, sources, strict=True)]
    if architecture.attention == Attention.none or not any(joints):
        return None
    training = method.training
    method.eval()
    image = images_to_float(batch.source_image)
    source_maps, target_maps = (
        pose_maps(poses, image, method.pose_map, method.pose_sigma) for poses in (batch.source_pose, batch.target_pose)
    )
    found = []
    with method.autocast():
        for row, of_pair in enumerate(joints):
            at = torch.from_numpy(positions(targets[row, of_pair], width)).to(image.device)
            one = slice(row, row + 1)
            found.append(weights_at(method.generator, image[one], source_maps[one], target_maps[one], at))
    method.train(training)
    blocks, branches = list(found[0]), list(next(iter(found[0].values())))
    weights = [[torch.cat([of[block][branch] for of in found]) for block in blocks] for branch in branches]
    pair = np.repeat(np.arange(len(joints), dtype=np.int16), [len(of_pair) for of_pair in joints])
    joint = np.concatenate(joints).astype(np.int16)
    code = height // STRIDE, width // STRIDE
    return AttentionMaps(
        weights=torch.stack([torch.stack(of_branch) for of_branch in weights]).half().cpu().numpy(),
        branches=np.array(branches),
        blocks=np.array(blocks, dtype=np.int16),
        grids=np.array(pyramid_grids(*code, architecture.levels), dtype=np.int16),
        pair=pair,
        joint=joint,
        target=targets[pair, joint, :2],
        source=np.where(sources[pair, joint, 2:] > 0, sources[pair, joint, :2], np.float32(-1)),
    )


def looked_from(target: np.ndarray, source: np.ndarray, height: int, width: int) -> list[int]:
    """Joints of the target pose [18, 3], one a group of GROUPS as far as the image of height x width shows one."""
    x, y = np.floor(target[:, :2] + 0.5).T
    shown = (target[:, 2] > 0) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    chosen = []
    for group in GROUPS:
        there = [joint for joint in group if shown[joint]]
        chosen += sorted(there, key=lambda joint: source[joint, 2] <= 0)[:1]
    return chosen


def positions(pixels: np.ndarray, width: int) -> np.ndarray:
    """x and y of pixels [Q, 2 or 3] in images of `width` -> the position of a flattened code that covers each, [Q]."""
    x, y = (np.floor(pixels[:, :2] + 0.5).astype(np.int64) // STRIDE).T
    return y * (width // STRIDE) + x


def weights_at(
    generator: XingGenerator, source: Tensor, source_maps: Tensor, target_maps: Tensor, at: Tensor
) -> dict[int, dict[str, Tensor]]:
    """Weights [Q, S] by block (first and last, counted from 1) and branch, for the positions `at` [Q] of one pair.

    source: [1, 3, H, W] in [-1, 1]; pose maps: [1, 18, H, W].
    """
    appearance, shape = generator.encode(source, source_maps, target_maps)
    pyramid, found = pyramid_of(appearance, generator.architecture.levels), {}
    for number, block in enumerate(generator.blocks, start=1):
        if number in (1, len(generator.blocks)):
            found[number] = _block_weights(block, appearance, shape, pyramid, at)  # type: ignore[arg-type]
        appearance, shape = block(appearance, shape, pyramid)
    return found


def _block_weights(
    block: CrossingBlock, appearance: Tensor, shape: Tensor, pyramid: Pyramid, at: Tensor
) -> dict[str, Tensor]:
    """Of the branches that the block has; its codes and their pyramid as `CrossingBlock.forward` takes them."""
    x, y = block.appearance(appearance), block.shape(shape)
    found = {}
    if block.shape_guided is not None:
        found["SA"] = _rows(block.shape_guided, x, y, pyramid, at)
    if appearance_guided := block.shape_guided if block.tied else block.appearance_guided:
        found["AS"] = _rows(appearance_guided, y, x, pyramid, at)
    return found


def _rows(attention: CrossAttention, updated: Tensor, guide: Tensor, pyramid: Pyramid, at: Tensor) -> Tensor:
    """Rows `at` of `CrossAttention.weights`, [Q, S] float32, without the others."""
    ((queries, keys),) = attention.correlated([updated], [pyramid.pool(guide)], pyramid)
    return torch.softmax(queries[0, at] @ keys[0].T, dim=-1)[:, : len(pyramid.bins)].float()
