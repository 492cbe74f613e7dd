"""PoCoLD: the published networks' function, its labels and joint maps against formulas, its published checkpoints."""

import math
import shutil
from functools import cache

import numpy as np
import pytest
import torch
from golden import numbers, state_shapes

from baselines.body_parts import part_labels
from baselines.diffusion.autoencoder import make_autoencoder
from baselines.diffusion.latent_settings import PoCoLDSettings, VAESettings
from baselines.diffusion.pocold import (
    LABELS,
    PoCoLD,
    PoCoLDDenoiser,
    PublishedPoCoLD,
    densepose_labels,
    elsewhere,
    fill_published,
    latent_joint_maps,
)
from baselines.diffusion.process import Seen
from baselines.diffusion.samplers import cascaded_branches
from baselines.geometry import mirrored, mirrored_poses
from xinggan.data.settings import PoseMap
from xinggan.model.published import PublishedMismatch
from xinggan.model.switches import PublishedSettings


@cache
def published_state(shared, name):
    """A state dict as published, with golden weights."""
    state = {}
    for key, shape in state_shapes(shared, name):
        r = numbers(key, shape)
        if key.endswith("_filters"):
            r = r * (8 / shape[1]) ** 0.5
        elif key.endswith(".scale") or (len(shape) == 1 and key.endswith("weight")):
            r = 1 + 0.1 * r
        else:
            r = r * (1 / math.prod(shape[1:])) ** 0.5 if len(shape) > 1 else 0.1 * r
        state[key] = r
    return state


@cache
def published_denoiser(shared, name, **size):
    """The network with golden weights."""
    denoiser = PoCoLDDenoiser(PoCoLDSettings(**size), 4, LABELS)
    fill_published(denoiser, published_state(shared, name), name)
    return denoiser


SMALL = {"width": 64, "multipliers": (1, 2, 2), "filters": 16, "level_blocks": 1}
GOLDEN = [
    ("pocold", "pocold_denoiser", "pocold_state.json", {}, (64, 48)),
    ("pocold_odd", "pocold_odd", "pocold_state.json", {}, (32, 22)),
    ("pocold_small", "pocold_small", "pocold_small_state.json", SMALL, (16, 12)),
]


@pytest.mark.parametrize(("tag", "file", "state", "size", "grid"), GOLDEN, ids=[row[0] for row in GOLDEN])
def test_networks_compute_what_the_published_ones_do(shared, tag, file, state, size, grid):
    denoiser = published_denoiser(shared, state, **size)
    noised, source = numbers(f"{tag}/noised", (1, 4, *grid)), numbers(f"{tag}/source", (1, 4, *grid))
    coarse = (1, 1, -(-grid[0] // 4), -(-grid[1] // 4))
    labels = {
        kind: (25 * numbers(f"{tag}/{kind}_labels", coarse, torch.rand)).floor().long()[0]
        .repeat_interleave(4, 1).repeat_interleave(4, 2)[:, : grid[0], : grid[1]]
        for kind in ("target", "source")
    }  # fmt: skip
    pose = torch.nn.functional.one_hot(labels["target"], LABELS).permute(0, 3, 1, 2).float()
    golden = np.load(shared / "golden" / f"{file}.npz")
    timesteps, penalties = torch.tensor([500]), []

    with torch.no_grad():
        features = denoiser.source_encoder(source)
        for level, feature in enumerate(features):
            h, w = (-(-side // 2**level) for side in grid)
            square = feature.transpose(1, 2).unflatten(2, (h, w))
            kept = square[:, ::8, :: max(1, h // 8), :: max(1, w // 8)]
            assert np.abs(kept.numpy() - golden[f"feature_{level}"]).max() < 1e-4
        conditions = [pose, *features]
        masks, found = elsewhere(labels["source"], labels["target"], len(features)), {}
        for name, *flags in (
            ("pose_and_source", True, True), ("pose_only", False, True),
            ("source_only", True, False), ("neither", False, False),
        ):  # fmt: skip
            seen, all_masks = Seen(*torch.tensor(flags)[:, None]), masks if name == "pose_and_source" else []
            found[name] = denoiser(noised, timesteps, conditions, seen, all_masks, penalties)
        s = PoCoLDSettings()
        branches = cascaded_branches(s.guidance_source, s.guidance_pose, s.guidance_start)
        predictions = {(True, True): found["pose_and_source"], (False, False): found["neither"]}
        weighted = [branch.weight(timesteps) * predictions[branch.source, branch.pose] for branch in branches]
    found["guided"] = torch.stack(weighted).sum(0)
    for name, prediction in found.items():
        assert np.abs(prediction.numpy() - golden[name]).max() < 1e-4, name
    if "penalty" in golden:
        assert torch.stack(penalties).sum().item() == pytest.approx(float(golden["penalty"]), rel=1e-4)


def test_sizes_are_the_published_ones():
    denoiser = PoCoLDDenoiser(PoCoLDSettings(), 4, LABELS)
    parts = (denoiser.unet, denoiser.source_encoder, denoiser.pose)
    assert [sum(p.numel() for p in part.parameters()) for part in parts] == [108_980_889, 14_923_904, 104]


def test_guidance_decays_to_its_scales():
    """max(5 t / T, 3); of equal scales the branch that sees the pose alone has no weight."""
    timesteps = torch.tensor([0, 600, 800, 999])
    neither, both = cascaded_branches(3.0, 3.0, 5.0)
    torch.testing.assert_close(both.weight(timesteps), torch.tensor([3.0, 3.0, 4.0, 4.995]))
    torch.testing.assert_close(neither.weight(timesteps), 1 - both.weight(timesteps))
    weights = [branch.weight(timesteps) for branch in cascaded_branches(2.0, 4.5, 5.0)]
    torch.testing.assert_close(weights[0], torch.tensor([-3.5, -3.5, -3.5, -3.995]))
    torch.testing.assert_close(weights[2], torch.tensor([2.0, 3.0, 4.0, 4.995]))
    torch.testing.assert_close(torch.stack(weights).sum(0), torch.ones(4))


def test_labels_are_those_of_the_parts_seen_from_the_front_and_from_behind_and_flip_with_the_image(people):
    poses = people.train.batch(range(16)).target_pose
    parts, labels = part_labels(poses, 2, (16, 8)), densepose_labels(poses, 2, (16, 8))
    assert torch.equal(parts == 10, labels == 0)
    assert labels.min() >= 0 and labels.max() < LABELS
    for pose, part, label in zip(poses, parts, labels, strict=True):
        behind = bool(pose[2, 2] > 0 and pose[5, 2] > 0 and pose[2, 0] > pose[5, 0])
        assert set(label[part == 1].tolist()) <= {1 if behind else 2}
    rows = torch.ones(len(poses), dtype=torch.bool)
    flipped = densepose_labels(mirrored_poses(poses, rows, 16), 2, (16, 8), rows)
    assert (flipped == mirrored(labels[:, None], rows)[:, 0]).float().mean() > 0.98  # edges fall on either side


def test_joint_maps_have_the_value_of_the_pixels_at_the_latents_centres():
    poses = torch.zeros(1, 18, 3)
    poses[0, 4] = torch.tensor([9.0, 21.0, 1])
    maps = latent_joint_maps(poses, 4, (8, 4), PoseMap.gaussian, sigma=6.0)
    for row in range(8):
        for column in range(4):
            x, y = 4 * column + 1.5, 4 * row + 1.5  # the centre of 4 pixels, counted from the first one's
            expected = math.exp(-((x - 9) ** 2 + (y - 21) ** 2) / (2 * 6**2))
            assert maps[0, 4, row, column].item() == pytest.approx(expected, rel=1e-5)
    assert maps[0, [j for j in range(18) if j != 4]].abs().max() == 0


def test_one_draw_leaves_out_the_pose_or_the_source_of_the_whole_batch_never_both(people):
    method = PoCoLD(PoCoLDSettings(width=4, multipliers=(1, 1), level_blocks=1, vae_width=4, vae_factor=4, filters=2))
    method.begin(people.train)
    seen = []
    method.denoiser.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[3]))
    for step in range(60):
        torch.manual_seed(step)
        terms = method.denoising_terms(people.train.batch([0, 1]))
        source, pose = seen[-1].source.tolist(), seen[-1].pose.tolist()
        assert source[0] == source[1] and pose[0] == pose[1] and (source[0] or pose[0])
        assert (terms["constraint"] > 0) == (source[0] and pose[0])
    rows = [(bool(s.source[0]), bool(s.pose[0])) for s in seen]
    assert {(True, True), (True, False), (False, True)} == set(rows)


@pytest.fixture
def checkpoint(shared, tmp_path):
    """A published checkpoint in half precision, saved from several processes, with an autoencoder beside it."""
    state = {f"module.{key}": tensor.half() for key, tensor in published_state(shared, "pocold_state.json").items()}
    torch.save(state, tmp_path / "pocold.pt")
    make_autoencoder(VAESettings(vae_width=4))[0].save_pretrained(tmp_path / "vae")
    return tmp_path / "pocold.pt"


def test_a_published_checkpoint_generates_at_its_authors_resolution_in_the_data_sets_size(checkpoint, people):
    method = PublishedPoCoLD(PublishedSettings(path=str(checkpoint)))
    assert method.settings.working_size(32, 16) == (512, 384)
    assert method.size == (256, 176)
    method.settings.steps = 1
    assert method.generate_pairs(people.test.batch([0]), torch.tensor([1])).shape == (1, 3, 32, 16)


def test_a_checkpoint_that_does_not_fit_is_refused_with_every_name(checkpoint, shared):
    state = dict(published_state(shared, "pocold_state.json"))
    del state["rie.conv_in.bias"]
    state["unet.conv_out.bias"], state["more"] = torch.zeros(3), torch.zeros(1)
    torch.save(state, checkpoint)
    with pytest.raises(PublishedMismatch) as refusal:
        PublishedPoCoLD(PublishedSettings(path=str(checkpoint)))
    for said in ("missing (our names): source_encoder.conv_in.bias", "unexpected: more", "unet.conv_out.bias (3,)"):
        assert said in str(refusal.value)
    shutil.rmtree(checkpoint.parent / "vae")
    with pytest.raises(ValueError, match="stabilityai/sd-vae-ft-mse"):
        PublishedPoCoLD(PublishedSettings(path=str(checkpoint)))
