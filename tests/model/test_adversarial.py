"""The training step against the papers' losses written out, and activations that are computed again."""

from copy import deepcopy

import pytest
import torch
from torch.nn import functional as F

from xinggan.data.batch import images_to_float
from xinggan.model.generator import XingGAN
from xinggan.model.losses import adversarial_loss
from xinggan.model.method import Method
from xinggan.model.switches import Norm, XingGANSettings, xinggan


def method_of(norm=Norm.batch, **changes):
    return XingGAN(xinggan(norm=norm, **{"width": 8, "blocks": 2, "history": 0, "dropout": 0.0} | changes)).train()


class WrittenOut:
    """One training step of XingGAN: three networks, three Adams, every loss by its formula, nothing saved or frozen."""

    def __init__(self, method):
        self.method = deepcopy(method)
        networks = {"generator": self.method.generator, **self.method.discriminators}
        self.optimisers = {
            name: torch.optim.Adam(network.parameters(), lr=2e-4, betas=(0.5, 0.999), fused=False)
            for name, network in networks.items()
        }

    def step(self, batch):
        weights, discriminators = self.method.settings.losses, self.method.discriminators
        source, target = images_to_float(batch.source_image), images_to_float(batch.target_image)
        source_maps, target_maps = (self.method.pose_maps(p, source) for p in (batch.source_pose, batch.target_pose))
        conditions = {"appearance": source, "shape": target_maps}
        generated = self.method.generator(source, source_maps, target_maps)
        losses = {"l1": weights.l1 * F.l1_loss(generated, target)}
        losses["perceptual"] = weights.perceptual * self.method.frozen[0](generated, target)
        for name, discriminator in discriminators.items():
            scores = discriminator(torch.cat([generated, conditions[name]], dim=1))
            losses[f"adversarial_{name}"] = weights.adversarial / 2 * adversarial_loss(scores, True)
        self._update("generator", sum(losses.values()))
        for name, discriminator in discriminators.items():
            real = discriminator(torch.cat([target, conditions[name]], dim=1))
            fake = discriminator(torch.cat([generated.detach(), conditions[name]], dim=1))
            wrong = adversarial_loss(real, True) + adversarial_loss(fake, False)
            losses[f"discriminator_{name}"] = weights.adversarial / 2 * wrong
            self._update(name, losses[f"discriminator_{name}"])
        return losses

    def _update(self, name, loss):
        self.optimisers[name].zero_grad()
        loss.backward()
        self.optimisers[name].step()


@pytest.mark.parametrize("norm", list(Norm))
def test_three_training_steps_equal_the_losses_written_out(people, norm):
    method = method_of(norm)
    written_out = WrittenOut(method)
    for step in range(3):
        batch = people.train.batch(range(4 * step, 4 * step + 4))
        expected, found = written_out.step(batch), method.training_step(batch, step)
        for name, loss in expected.items():
            torch.testing.assert_close(found[name], loss.detach(), atol=1e-4, rtol=1e-4)


def saved_bytes(method, batch):
    """What autograd keeps of the generator's forward pass."""
    sizes = {}

    def pack(tensor):
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    torch.manual_seed(0)
    image = images_to_float(batch.source_image)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kept = method.generator(image, *(method.pose_maps(p, image) for p in (batch.source_pose, batch.target_pose)))
        del kept
    return sum(sizes.values())


@pytest.mark.parametrize("norm", list(Norm))
def test_activations_computed_again_change_nothing_but_the_memory(people, norm):
    kept, again = (XingGAN(XingGANSettings(width=8, blocks=2, norm=norm, history=3)).train() for _ in range(2))
    again.checkpoint_activations()
    batch = people.train.batch(range(4))
    assert saved_bytes(again, batch) < 0.5 * saved_bytes(kept, batch)
    for step in range(2):
        batch, losses = people.train.batch(range(4 * step, 4 * step + 4)), []
        for method in (kept, again):
            torch.manual_seed(step)
            losses.append(method.training_step(batch, step))
        assert losses[0].keys() == losses[1].keys()
        assert all(torch.equal(losses[0][name], losses[1][name]) for name in losses[0])
    state = again.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in kept.state_dict().items())


def test_a_method_without_such_modules_refuses_to_compute_activations_again():
    with pytest.raises(ValueError, match=r"checkpoint_activations: Method has no modules that allow it"):
        Method().checkpoint_activations()
