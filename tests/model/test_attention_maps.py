"""Attention maps of a few positions against the weights that the images were made with."""

import itertools

import numpy as np
import pytest
import torch

from baselines.gan.patn import PATN
from baselines.gan.settings import PATNSettings
from xinggan.data.poses import JOINTS
from xinggan.model.attention import CrossAttention
from xinggan.model.attention_maps import attention_maps, code_positions, query_joints
from xinggan.model.generator import XingGAN
from xinggan.model.switches import Attention, Branches, LossWeights, Norm, Scale, XingGANSettings


def attentive(module):
    """Weights at which attention is far from equal, and gammas at which it counts."""
    random = torch.Generator().manual_seed(1)
    for name, parameter in module.named_parameters():
        if name.endswith("gamma"):
            parameter.data.fill_(0.5)
        elif ".query." in name or ".key." in name:
            parameter.data.normal_(0, 0.4, generator=random)
    return module


def method_of(**switches):
    shape = {"width": 8, "blocks": 3, "norm": Norm.instance, "pyramid": (1, 3), "history": 0}
    return attentive(XingGAN(XingGANSettings(losses=LossWeights(perceptual=0), **shape, **switches)))


@pytest.fixture
def batch(people):
    return people.test.batch(range(3))


@pytest.mark.parametrize(("scale", "attention"), itertools.product(Scale, [Attention.plain, Attention.enhanced]))
@pytest.mark.parametrize("branches", list(Branches))
def test_maps_hold_the_weights_that_the_images_were_made_with(batch, scale, attention, branches):
    method = method_of(scale=scale, attention=attention, branches=branches)
    maps = attention_maps(method, batch)
    assert maps.branches.tolist() == {"both": ["SA", "AS"], "appearance": ["SA"], "shape": ["AS"]}[branches]

    used = []  # by the images, of all positions: of each block, then of each branch

    def hook(module, given):
        updated, _, guide_regions, grids = given
        used.append(module.weights(updated, guide_regions, grids))

    for module in method.modules():
        if isinstance(module, CrossAttention):
            module.register_forward_pre_hook(hook)
    method.eval()
    method.generate(batch.source_image, batch.source_pose, batch.target_pose, torch.zeros(3, dtype=torch.int64))
    assert maps.weights.max() > 2 / maps.weights.shape[-1], "the test would not tell a wrong map from equal weights"
    at = code_positions(maps.target, 16)
    for place, branch in itertools.product(range(2), range(len(maps.branches))):
        block = maps.blocks[place] - 1
        expected = used[block * len(maps.branches) + branch][maps.pair, at]
        torch.testing.assert_close(torch.from_numpy(maps.weights[branch, place]).float(), expected, atol=5e-4, rtol=0)
    torch.testing.assert_close(torch.from_numpy(maps.weights).float().sum(-1), torch.ones(maps.weights.shape[:3]),
                               atol=2e-3, rtol=0)  # fmt: skip


def test_making_maps_changes_neither_the_images_nor_the_method(batch):
    method = method_of().train()
    state = {name: tensor.clone() for name, tensor in method.state_dict().items()}
    first, second = method_of().eval(), method_of().eval()
    attention_maps(second, batch)
    seeds = torch.zeros(3, dtype=torch.int64)
    assert torch.equal(first.generate_pairs(batch, seeds), second.generate_pairs(batch, seeds))
    attention_maps(method, batch)
    assert method.training
    assert all(torch.equal(tensor, state[name]) for name, tensor in method.state_dict().items())


def test_methods_without_this_attention_and_targets_without_joints_have_no_maps(batch):
    assert attention_maps(method_of(attention=Attention.none), batch) is None
    assert attention_maps(PATN(PATNSettings(width=4, blocks=1, losses=LossWeights(perceptual=0))), batch) is None
    batch.target_pose[:] = -1
    assert attention_maps(method_of(), batch) is None


def test_one_joint_of_each_group_is_a_query_if_the_target_shows_it():
    def pose(*visible):
        return np.array([(8, 8, 1) if joint in visible else (-1, -1, 0) for joint in JOINTS], dtype=np.float32)

    everything = pose(*JOINTS)
    names = lambda *poses: [JOINTS[joint] for joint in query_joints(*poses, 32, 16)]  # noqa: E731
    assert names(everything, everything) == ["nose", "right shoulder", "right hip", "right ankle"]
    assert names(everything, pose("neck", "left hip", "left ankle")) == [
        "neck", "right shoulder", "left hip", "left ankle",
    ]  # fmt: skip
    assert names(pose("left shoulder", "left knee"), everything) == ["left shoulder", "left knee"]
    outside = everything.copy()
    outside[0, 0] = 16
    assert names(outside, everything)[0] == "neck"


@pytest.mark.parametrize(("height", "width"), [(64, 32), (128, 64), (256, 176)])
def test_positions_are_those_whose_four_by_four_pixels_hold_the_joint(height, width):
    number = np.arange(height * width // 16).reshape(height // 4, width // 4).repeat(4, axis=0).repeat(4, axis=1)
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, width, 50), rng.integers(0, height, 50)
    assert code_positions(np.stack([x, y], axis=1).astype(np.float32), width).tolist() == number[y, x].tolist()
