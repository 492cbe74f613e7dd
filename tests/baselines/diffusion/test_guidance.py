"""Guidance against the papers' formulas written out; conditions lost in training; refusals."""

import pytest
import torch

from baselines.diffusion.process import kept_in_training
from baselines.diffusion.samplers import (
    cascaded_branches,
    disentangled_branches,
    for_branches,
    guidance_problems,
    guided,
)
from xinggan.distributed import Processes

SOURCE, POSE = torch.randn(2, 5), torch.randn(2, 5)


def network_of(source, pose):
    """Not linear in its conditions, so that a wrong branch shows."""
    return lambda x, t: (x + source).sin() + (2 * x - pose).cos() * t[:, None] + source * pose


def prediction(branches, x, t):
    """As a method makes it; also the batch sizes that the network saw."""
    source = for_branches(SOURCE, [branch.source for branch in branches])
    pose = for_branches(POSE, [branch.pose for branch in branches])
    seen = []

    def network(noised, timesteps):
        seen.append(len(noised))
        return network_of(source, pose)(noised, timesteps)

    return guided(network, branches)(x, t), seen


def alone(source, pose, x, t):
    return network_of(SOURCE if source else 0 * SOURCE, POSE if pose else 0 * POSE)(x, t)


@pytest.mark.parametrize(("source_scale", "pose_scale"), [(2.0, 2.0), (0.5, 3.0), (0.0, 1.5), (1.0, 2.0)])
def test_disentangled_guidance_is_pidms_formula_in_one_batch(source_scale, pose_scale):
    x, t = torch.randn(2, 5), torch.tensor([3, 700])
    nothing = alone(False, False, x, t)
    expected = nothing + source_scale * (alone(True, False, x, t) - nothing)
    expected = expected + pose_scale * (alone(False, True, x, t) - nothing)
    got, seen = prediction(disentangled_branches(source_scale, pose_scale), x, t)
    torch.testing.assert_close(got, expected, atol=1e-3, rtol=1e-5)
    assert len(seen) == 1
    assert seen[0] <= 3 * 2


@pytest.mark.parametrize(("source_scale", "pose_scale"), [(2.0, 2.0), (0.5, 3.0), (3.0, 1.0), (1.0, 2.0)])
def test_cascaded_guidance_is_its_formula_in_one_batch(source_scale, pose_scale):
    x, t = torch.randn(2, 5), torch.tensor([3, 700])
    nothing, pose = alone(False, False, x, t), alone(False, True, x, t)
    expected = nothing + pose_scale * (pose - nothing) + source_scale * (alone(True, True, x, t) - pose)
    got, seen = prediction(cascaded_branches(source_scale, pose_scale), x, t)
    torch.testing.assert_close(got, expected, atol=1e-3, rtol=1e-5)
    assert len(seen) == 1


@pytest.mark.parametrize("branches", [disentangled_branches(1, 1), cascaded_branches(1, 1)])
def test_without_guidance_the_network_is_evaluated_on_the_joint_condition_alone(branches):
    x, t = torch.randn(2, 5), torch.tensor([3, 700])
    got, seen = prediction(branches, x, t)
    torch.testing.assert_close(got, alone(True, True, x, t))
    assert seen == [2]


def test_conditions_are_lost_as_often_as_asked_for_and_alike_in_several_processes():
    def kept(index, count):
        torch.manual_seed(0)
        with Processes(index, count).active():
            return kept_in_training(40_000 // count, 0.1, torch.device("cpu"))

    assert kept(0, 1).float().mean().item() == pytest.approx(0.9, abs=0.01)
    assert torch.equal(torch.cat([kept(0, 2), kept(1, 2)]), kept(0, 1))
    assert kept_in_training(1000, 0.0, torch.device("cpu")).all()


def test_guidance_without_a_trained_unconditional_branch_is_refused():
    assert guidance_problems(2.0, 2.0, 0.1) == guidance_problems(1.0, 1.0, 0.0) == []
    (problem,) = guidance_problems(2.0, 1.0, 0.0)
    assert "guidance_source=2.0" in problem
    assert "not trained with method.condition_dropout=0" in problem
    assert len(guidance_problems(-1.0, float("nan"), 1.0)) == 3
