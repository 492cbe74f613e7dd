"""Losses against closed forms, and the history pool's promises."""

import pytest
import torch

from xinggan.model.losses import HistoryPool, PerceptualLoss, adversarial_loss


def test_adversarial_losses_equal_their_formulas():
    scores = torch.tensor([[0.3, -1.2], [2.0, 0.0]])
    probability = scores.sigmoid()
    assert adversarial_loss(scores, True, "bce") == pytest.approx(-probability.log().mean().item(), abs=1e-6)
    assert adversarial_loss(scores, False, "bce") == pytest.approx(-(1 - probability).log().mean().item(), abs=1e-6)
    assert adversarial_loss(scores, True, "lsgan") == pytest.approx(((scores - 1) ** 2).mean().item())
    assert adversarial_loss(scores, False, "lsgan") == pytest.approx((scores**2).mean().item())


def test_perceptual_loss_is_zero_for_equal_images_and_reaches_only_the_generated_one():
    loss = PerceptualLoss("embedded")
    image = torch.rand(1, 3, 32, 16, requires_grad=True)
    assert loss(image, image.detach()).item() == 0
    loss(image, torch.zeros(1, 3, 32, 16)).backward()
    assert image.grad.abs().sum() > 0
    assert all(p.grad is None for p in loss.parameters())


def test_missing_vgg19_weights_are_named_with_the_place_to_put_them(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"vgg19-dcbb9e9d.pth.*Put the file at"):
        PerceptualLoss("vgg19")


def images(*values):
    return torch.tensor(values, dtype=torch.float32).view(-1, 1, 1, 1)


def test_pool_gives_back_fresh_images_until_it_is_full_then_sometimes_older_ones():
    torch.manual_seed(0)
    pool = HistoryPool(4)
    assert torch.equal(pool.exchange(images(0, 1, 2, 3)), images(0, 1, 2, 3))
    given = torch.cat([pool.exchange(images(value)) for value in range(4, 204)]).flatten()
    fresh = (given == torch.arange(4, 204)).float().mean()
    assert 0.4 < fresh < 0.6
    assert (given <= torch.arange(4, 204)).all()
    assert len(set(given.tolist()) & set(pool.images.flatten().tolist())) <= len(pool.images)


def test_pool_without_capacity_changes_nothing():
    assert torch.equal(HistoryPool(0).exchange(images(1, 2)), images(1, 2))


def test_pool_survives_a_checkpoint():
    pool, copy = HistoryPool(3), HistoryPool(3)
    pool.exchange(images(5, 6))
    copy.load_state_dict(pool.state_dict())
    assert torch.equal(copy.images, images(5, 6))
