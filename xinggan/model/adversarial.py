"""Adversarial training as PATN published it and XingGAN took it over: one procedure for many generators.

Generator, appearance and shape discriminator are updated in this order, on the losses of XingGAN's section 3.5 (ECCV
2020) and PATN's section 3.3 (CVPR 2019). The methods differ in their generator and in the losses' weights.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from xinggan.data.batch import PosePair, images_to_float
from xinggan.data.poses import pose_maps
from xinggan.data.settings import PoseMap
from xinggan.model.discriminator import APPEARANCE_INPUTS, SHAPE_INPUTS, Discriminator
from xinggan.model.generator import initialise_generator
from xinggan.model.losses import HistoryPool, PerceptualLoss, adversarial_loss
from xinggan.model.method import Method, adam
from xinggan.model.switches import Discriminators, LossWeights, Norm


class PoseTransferGAN(Method):
    """A method around a generator that is called as generator(source, source_pose_maps, target_pose_maps).

    A base class between `Method` and the methods, though the suite has no other: a training object that a method
    held would need that method's optimisers, precision and processes for every line it runs, and each method would
    pass four calls on to it. A subclass only builds its generator; its name and parameters are what a yaml file sees.
    """

    averaged = ("generator",)

    def __init__(
        self,
        generator: nn.Module,
        losses: LossWeights,
        discriminators: str,
        width: int,
        norm: Norm,
        dropout: float,
        learning_rate: float,
        history: int,
        pose_map: PoseMap,
        pose_sigma: float,
        seed: int,
    ):
        """width, norm, dropout: of the discriminators. history: images a pool. pose_sigma: pixels."""
        super().__init__()
        self.losses = losses
        self.pose_map, self.pose_sigma = pose_map, pose_sigma
        self.generator = generator
        initialise_generator(self.generator, seed)
        self.judges = nn.ModuleDict()  # "appearance", "shape"
        if self.losses.adversarial:
            with torch.random.fork_rng(devices=[]):  # the library's default initialisation, but from our seed
                torch.manual_seed(seed + 1)
                if discriminators in (Discriminators.both, Discriminators.appearance):
                    self.judges["appearance"] = Discriminator(APPEARANCE_INPUTS, width, norm, dropout)
                if discriminators in (Discriminators.both, Discriminators.shape):
                    self.judges["shape"] = Discriminator(SHAPE_INPUTS, width, norm, dropout)
        self.pools = nn.ModuleDict({name: HistoryPool(history) for name in self.judges})
        # In a list, so that the frozen network's weights stay out of this method's checkpoints.
        self._perceptual = [PerceptualLoss(self.losses.perceptual_network)] if self.losses.perceptual else []
        self.networks = {str(losses.perceptual_network): loss.sha256 for loss in self._perceptual}
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimisers["generator"] = adam(self.generator.parameters(), learning_rate)
        for name, judge in self.judges.items():
            self.optimisers[name] = adam(judge.parameters(), learning_rate)

    def training_step(self, batch: PosePair, step: int) -> dict[str, Tensor]:
        """Generator first, then each discriminator on this batch's images (or older ones from its pool)."""
        source, target = images_to_float(batch.source_image), images_to_float(batch.target_image)
        source_maps, target_maps = self._maps(batch.source_pose, source), self._maps(batch.target_pose, source)
        conditions = {"appearance": source, "shape": target_maps}

        with self.autocast():
            generated = self.generator(source, source_maps, target_maps)  # [B, 3, H, W]
        terms, gradient = self._judged(generated, target, conditions)
        terms["gradient_generator"] = self.update("generator", generated, gradient)

        generated = generated.detach().float()
        for name, judge in self.judges.items():
            fake = self._from_history(name, torch.cat([generated, conditions[name]], dim=1))
            with self.autocast():
                real_scores = judge(torch.cat([target, conditions[name]], dim=1))
                fake_scores = judge(fake)
                kind = self.losses.adversarial_kind
                wrong = adversarial_loss(real_scores, True, kind) + adversarial_loss(fake_scores, False, kind)
                loss = self.losses.adversarial * wrong / 2
            terms[f"gradient_{name}"] = self.update(name, loss)
            terms[f"discriminator_{name}"] = loss
        return {name: term.detach() for name, term in terms.items()}

    def _judged(
        self, generated: Tensor, target: Tensor, conditions: dict[str, Tensor]
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The generator's losses, [] each, and the gradient of their sum at the generated images, [B, 3, H, W].

        What one network keeps for its gradient is gone before the next one judges.
        """
        leaf = generated.detach().requires_grad_()
        image = leaf.view_as(leaf)  # the counter of operations hooks modules' inputs, and may not hook a leaf
        terms: dict[str, Tensor] = {}
        gradients: list[Tensor] = []
        for name, term in self._generator_terms(image, target, conditions):
            terms[name] = term.detach()
            gradients += torch.autograd.grad(term, leaf)
        if not terms:
            raise ValueError("losses: every weight is 0 and no discriminator is left, so there is nothing to train for")
        return terms, sum(reversed(gradients[:-1]), gradients[-1])  # in the order in which autograd would add them

    def _generator_terms(
        self, generated: Tensor, target: Tensor, conditions: dict[str, Tensor]
    ) -> Iterator[tuple[str, Tensor]]:
        """Name and value of each, computed when it is asked for."""
        weights = self.losses
        if weights.l1:
            yield "l1", weights.l1 * nn.functional.l1_loss(generated.float(), target)
        if weights.perceptual:
            with self.autocast():
                perceptual = weights.perceptual * self._perceptual[0](generated, target)
            yield "perceptual", perceptual
        for name, judge in self.judges.items():
            judge.requires_grad_(False)  # the generator's update needs no gradient of the judge's weights
            with self.autocast():
                scores = judge(torch.cat([generated, conditions[name]], dim=1))
                fooled = adversarial_loss(scores, True, weights.adversarial_kind)
            yield f"adversarial_{name}", weights.adversarial * fooled / len(self.judges)
            judge.requires_grad_(True)

    def _from_history(self, name: str, fake: Tensor) -> Tensor:
        """The pool sees the global batch, so that several processes hold the same pool as one would."""
        pool: HistoryPool = self.pools[name]  # type: ignore[assignment]
        return self.processes.own_rows(pool.exchange(self.processes.gather(fake)))

    @torch.no_grad()
    def generate(self, source: Tensor, source_pose: Tensor, target_pose: Tensor, seeds: Tensor) -> Tensor:
        """See `Method.generate`. These generators have no noise input, so the seeds change nothing."""
        image = images_to_float(source)
        with self.autocast():
            generated = self.generator(image, self._maps(source_pose, image), self._maps(target_pose, image))
        return generated.float()

    def _maps(self, poses: Tensor, image: Tensor) -> Tensor:
        return pose_maps(poses, image, self.pose_map, self.pose_sigma)

    def _apply(self, change, recurse: bool = True):
        for loss in self._perceptual:
            loss._apply(change)  # moves to a device with the rest
        return super()._apply(change, recurse)
