"""PIDM: the golden outputs of its published code, views that training sees, and what each input and setting does."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from golden import assert_golden, golden_weights, numbers, picture, state_shapes

from ablations.config import compose
from baselines.diffusion.pidm import PIDM
from baselines.diffusion.pidm_published import load_published
from baselines.diffusion.pidm_unet import PIDMUNet, SourceEncoder
from baselines.diffusion.process import Seen
from baselines.diffusion.samplers import guided, sample
from baselines.diffusion.settings import PIDMSettings
from xinggan.data.batch import images_to_float
from xinggan.distributed import Processes
from xinggan.model.from_settings import build
from xinggan.model.published import PublishedMismatch

GOLDEN = {  # published size, and a small instance
    "pidm_denoiser": ("pidm", "pidm_state.json", 256, PIDMSettings(size=(256, 256))),
    "pidm_small": ("pidm_small", "pidm_small_state.json", 64, PIDMSettings(
        width=64, multipliers=(1, 2, 2), attention_levels=2, time_multiplier=2, steps=4,
    )),
}  # fmt: skip
TINY = PIDMSettings(width=8, multipliers=(1, 2, 2), level_blocks=1, attention_levels=2, dropout=0.0)
UNUSED = 17_981_312  # parameters of the published state dict that no output depends on


@pytest.fixture(scope="module", params=GOLDEN)
def golden(request, shared):
    """The method with golden weights, its inputs (noised, conditions) and the golden arrays."""
    title, state, size, settings = GOLDEN[request.param]
    weights = golden_weights(state_shapes(shared, state), scale=1.0)
    method = load_published(PIDM(settings), weights)
    count = sum(p.numel() for part in method.averaged for p in getattr(method, part).parameters())
    if size == 256:
        assert sum(w.numel() for w in weights.values()) == 180_355_718 == count + UNUSED
    method.pose_maps = lambda poses, image: numbers(f"{title}/pose", (1, 20, size, size), torch.rand)
    noised, source = numbers(f"{title}/noised", (1, 3, size, size)), picture(f"{title}/source", 1, size, size)
    with torch.no_grad():
        conditions = method.conditions(source, torch.zeros(1, 18, 3))
    arrays = np.load(shared / "golden" / f"{request.param}.npz")
    return method, noised, source, conditions, arrays


def test_encoder_gives_the_golden_features(golden):
    method, _, source, _, arrays = golden
    with torch.no_grad():
        features = method.source_encoder(source)
        missing = method.source_encoder(torch.zeros_like(source))[-1]
        time = method.denoiser.time_embedding(method.denoiser.time_features(torch.tensor([500])))
    kept = lambda feature: feature[:, ::8, :: feature.shape[2] // 8, :: feature.shape[3] // 8]  # noqa: E731
    assert len(features) == sum(name.startswith("feature_") for name in arrays) - 1
    for place, feature in enumerate(features):
        assert_golden(kept(feature), arrays[f"feature_{place:02d}"])
    assert_golden(kept(missing), arrays["feature_last_missing"])
    assert_golden(time, arrays["timestep_embedding"])


def test_denoiser_gives_the_golden_predictions_with_source_without_and_guided(golden):
    method, noised, _, conditions, arrays = golden
    step = noised.shape[-1] // 32
    predictions = []

    def network(*inputs):
        predictions.append(method.predicted(*inputs))
        return predictions[-1]

    with torch.no_grad():
        combined = guided(network, conditions, method.branches)(noised, torch.tensor([500]))
    without, with_source = predictions[0].chunk(2)
    for found, name in ((with_source, "conditional"), (without, "unconditional"), (combined, "guided")):
        assert_golden(found[..., ::step, ::step], arrays[name])


@pytest.mark.parametrize("golden", ["pidm_small"], indirect=True)
def test_sampler_goes_the_golden_way(golden, monkeypatch):
    method, noised, _, conditions, arrays = golden
    monkeypatch.setattr("baselines.diffusion.samplers.ImageNoise.draw", lambda self: noised)
    given = {}

    def watched(x, t, *others):
        given[int(t[0])] = x[:1]
        return method.predicted(x, t, *others)

    network = guided(watched, conditions, method.branches)
    places = {"sampler": "ddim", "timesteps": [750, 500, 250, 0], "device": "cpu"}
    given["final"] = sample(method.process, network, (3, 64, 64), torch.tensor([0]), **places)
    for key, name in ((500, "at_500"), (250, "at_250"), (0, "at_000"), ("final", "final")):
        assert_golden(given[key][..., ::2, ::2], arrays[f"ddim_{name}"])


def tiny(**changes):
    return PIDM(replace(TINY, **{"steps": 3} | changes))


def awake(module):
    """With weights everywhere: a fresh network's branches begin at zero."""
    shapes = [(name, tensor.shape) for name, tensor in module.state_dict().items()]
    module.load_state_dict(golden_weights(shapes, scale=1.0))
    return module.eval()


def test_generating_follows_the_released_timesteps_for_ddim_and_trailing_ones_for_solvers(people):
    seen = []
    for changes in ({}, {"spacing": "trailing"}, {"sampler": "unipc"}, {"sampler": "ddpm"}):
        method = awake(tiny(**changes))
        hook = lambda module, inputs, output: seen.append(int(inputs[1][0]))  # noqa: E731
        method.denoiser.register_forward_hook(hook)
        image = method.generate_pairs(people.test.batch([0, 1]), torch.arange(2))
        assert image.shape == (2, 3, 32, 16) and image.abs().max() <= 1
    assert seen == [666, 333, 0, *[999, 666, 332] * 2, 666, 333, 0]


def test_the_papers_guidance_has_three_branches_and_leaves_the_pose_out_too(people):
    released, paper = tiny(), tiny(guidance="paper", guidance_pose=1.5)
    assert [(b.weight, b.source, b.pose) for b in released.branches] == [(-1, False, True), (2, True, True)]
    parts = [(b.weight, b.source, b.pose) for b in paper.branches]
    assert parts == [(-2.5, False, False), (2, True, False), (1.5, False, True)]
    for method, lost in ((released, 0), (paper, 1)):
        blank = []
        hook = lambda module, inputs: blank.append((inputs[2] == 0).flatten(1).all(1).float().mean())  # noqa: B023, E731
        method.settings = replace(method.settings, condition_dropout=0.999)
        method.denoiser.register_forward_pre_hook(hook)
        method.losses(people.train.batch(range(4)))
        assert blank == [lost]
    with pytest.raises(ValueError, match=r"guidance_pose=2\.0 has nothing to act on .* choose guidance=paper"):
        tiny(guidance_pose=2.0)


def test_a_missing_source_is_a_grey_image_and_a_missing_pose_is_blank(people):
    method = awake(tiny(guidance="paper"))
    batch = people.train.batch([0, 1])
    noised, timesteps, yes, no = (
        torch.randn(2, 3, 32, 16),
        torch.tensor([10, 900]),
        torch.ones(2) > 0,
        torch.ones(2) < 0,
    )
    with torch.no_grad():
        image, pose = method.stretched(images_to_float(batch.source_image), batch.target_pose)
        conditions, maps = method.conditions(image, pose), method.pose_maps(pose, image)
        without_source = method.denoiser(noised, timesteps, maps, method.features(0 * image))
        without_pose = method.denoiser(noised, timesteps, 0 * maps, method.features(image))
        for seen, expected in ((Seen(no, yes), without_source), (Seen(yes, no), without_pose)):
            found = method.predicted(noised, timesteps, conditions, seen)
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_every_input_changes_the_prediction_and_every_weight_takes_part():
    settings = replace(TINY, width=4, multipliers=(1, 1, 2, 2, 4, 4), attention_levels=3)
    encoder, denoiser = awake(SourceEncoder(settings)), awake(PIDMUNet(settings, 23, 6))
    inputs = [torch.randn(2, 3, 64, 96), torch.tensor([10, 400]), torch.rand(2, 20, 64, 96), torch.randn(2, 3, 64, 96)]

    def predicted(noised, timesteps, maps, source):
        features = encoder(source)
        return denoiser(noised, timesteps, maps, [features[place] for place in denoiser.places])

    usual = predicted(*inputs)
    usual.square().mean().backward()
    used = {name for name, p in [*encoder.named_parameters(), *denoiser.named_parameters()] if p.grad is not None}
    assert used == {name for name, _ in [*encoder.named_parameters(), *denoiser.named_parameters()]}
    for place in range(4):
        others = [x.flip(0) if number == place else x for number, x in enumerate(inputs)]
        with torch.no_grad():
            assert (usual - predicted(*others)).abs().max() > 1e-5


def test_images_of_another_size_are_stretched_with_their_joints_and_come_back_in_theirs(people):
    method = tiny(size=(64, 32))
    images = torch.randint(0, 256, (1, 3, 24, 20), dtype=torch.uint8)
    pose = torch.zeros(1, 18, 3)
    pose[0, 0] = torch.tensor([19.5, 11.5, 1])  # the right edge, half the height
    image, moved = method.stretched(images_to_float(images), pose)
    assert image.shape == (1, 3, 64, 32)
    assert moved[0, 0].tolist() == pytest.approx([31.5, 31.5, 1])
    given = replace(people.test.batch([0]), source_image=images)
    assert awake(method).generate_pairs(given, torch.tensor([1])).shape == images.shape


def test_training_mirrors_a_pair_with_its_pose_and_draws_the_enlargement_of_each_image(people):
    batch = people.train.batch(range(4))
    source, target, pose = tiny(flip=1.0, zoom=0.0).training_views(batch)
    plain = tiny(flip=0.0, zoom=0.0).training_views(batch)
    assert torch.equal(source, plain[0].flip(-1)) and torch.equal(target, plain[1].flip(-1))
    shown = pose[..., 2] > 0
    torch.testing.assert_close(pose[..., 0][shown], 15 - plain[2][..., 0][shown])
    assert torch.equal(pose[..., 1:], plain[2][..., 1:])
    enlarged = tiny(flip=0.0, zoom=0.3).training_views(batch)
    assert all(not torch.equal(a, b) for a, b in zip(enlarged, plain, strict=True))


def test_two_processes_lose_what_one_would(people):
    method = awake(tiny(dropout=0.5, condition_dropout=0.5))

    def loss(rows, index, count):
        torch.manual_seed(0)
        with Processes(index, count).active(), torch.no_grad():
            return sum(method.train().losses(people.train.batch(rows)).values()).item()

    halves = [loss([0, 1, 2], 0, 2), loss([3, 4, 5], 1, 2)]
    assert sum(halves) / 2 == pytest.approx(loss(range(6), 0, 1), rel=1e-5)
    assert halves[0] != pytest.approx(halves[1], rel=1e-4)


def test_learning_rate_rises_over_the_warm_up_and_gradients_are_clipped(people):
    method, rates = tiny(warmup_steps=4, learning_rate=1e-3), []
    for step in range(6):
        with method.warm_up(step):
            rates.append(method.optimisers["denoiser"].param_groups[0]["lr"] / 1e-3)
    assert rates == pytest.approx([0.04, 0.28, 0.52, 0.76, 1, 1])
    (weights,) = (group["params"] for group in method.optimisers["denoiser"].param_groups)
    for weight in weights:
        weight.grad = torch.ones_like(weight)
    method.optimisers["denoiser"].step()
    assert torch.stack([weight.grad.norm() for weight in weights]).norm().item() == pytest.approx(1, rel=1e-4)


@pytest.fixture(scope="module")
def published_file(shared, tmp_path_factory):
    """A training checkpoint as the published code saves it: moving average in half precision, names with `module.`."""
    weights = golden_weights(state_shapes(shared, "pidm_state.json"), scale=1.0)
    file = tmp_path_factory.mktemp("published") / "last.pt"
    torch.save({"model": {}, "ema": {f"module.{name}": w.half() for name, w in weights.items()}, "conf": {}}, file)
    return file, weights


def test_a_published_checkpoint_is_read_and_one_that_does_not_fit_is_refused_by_name(published_file):
    file, weights = published_file
    experiment = compose(["method=pidm", f"published={file}", "steps=2", "guidance_source=3"])
    method = build(experiment.method)
    assert (experiment.training, method.size, method.training) == (None, (256, 176), False)
    assert (method.settings.steps, method.settings.sampler, method.settings.size) == (2, "ddim", [256, 256])
    assert [branch.weight for branch in method.branches] == [-2, 3]
    kept = method.denoiser.down[10].attention.to_v.weight
    torch.testing.assert_close(kept, weights["input_blocks.11.1.to_kv.weight"][256:, :, 0], atol=1e-3, rtol=1e-3)
    del weights["out.2.bias"]
    weights |= {"out.2.weight": torch.zeros(3, 128, 3, 3), "input_blocks.1.0.extra.weight": torch.zeros(1)}
    with pytest.raises(PublishedMismatch) as refusal:
        load_published(method, weights, "last.pt")
    for said in (
        "last.pt: does not fit",
        "denoiser.head.bias",
        "input_blocks.1.0.extra.weight",
        "denoiser.head.weight",
    ):
        assert said in str(refusal.value)
