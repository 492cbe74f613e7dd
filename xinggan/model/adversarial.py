"""Adversarial training as in PATN and XingGAN: one procedure for several generators.

Generator, appearance and shape discriminator are updated in this order, on the losses of XingGAN's section 3.5 (ECCV
2020) and PATN's section 3.3 (CVPR 2019). XingGAN, PATN and BiGraphGAN differ in their generator and loss weights.
"""

import torch
from torch import Tensor, nn

from xinggan.data.batch import PosePair, images_to_float
from xinggan.model.blocks import ConvBlock, Encoder, initialise_generator
from xinggan.model.discriminator import APPEARANCE_INPUTS, SHAPE_INPUTS, Discriminator
from xinggan.model.fusion import AttentionHead, ImageDecoder
from xinggan.model.losses import HistoryPool, PerceptualLoss, adversarial_loss
from xinggan.model.method import Method, adam
from xinggan.model.switches import Discriminators, TransferSettings


class PoseTransferGAN(Method):
    """A method around a generator that is called as generator(source, source_pose_maps, target_pose_maps)."""

    averaged = ("generator",)
    checkpointed: tuple[type[nn.Module], ...] = (Encoder, ConvBlock, ImageDecoder, AttentionHead)

    def __init__(self, generator: nn.Module, settings: TransferSettings):
        super().__init__()
        self.settings = s = settings
        self.generator = generator
        initialise_generator(self.generator, s.seed)
        self.discriminators = nn.ModuleDict()  # "appearance", "shape"
        if s.losses.adversarial:
            with torch.random.fork_rng(devices=[]):  # the library's default initialisation, but from our seed
                torch.manual_seed(s.seed + 1)
                if s.discriminators in (Discriminators.both, Discriminators.appearance):
                    self.discriminators["appearance"] = Discriminator(APPEARANCE_INPUTS, s.width, s.norm, s.dropout)
                if s.discriminators in (Discriminators.both, Discriminators.shape):
                    self.discriminators["shape"] = Discriminator(SHAPE_INPUTS, s.width, s.norm, s.dropout)
        self.pools = nn.ModuleDict({name: HistoryPool(s.history) for name in self.discriminators})
        if s.losses.perceptual:
            self.frozen = [loss := PerceptualLoss(s.losses.perceptual_network)]
            self.networks = {str(s.losses.perceptual_network): loss.sha256}
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimisers["generator"] = adam(self.generator.parameters(), s.learning_rate)
        for name, discriminator in self.discriminators.items():
            self.optimisers[name] = adam(discriminator.parameters(), s.learning_rate)

    def training_step(self, batch: PosePair, step: int) -> dict[str, Tensor]:
        """Update the generator, then each discriminator on this batch's images or older ones from its pool."""
        source, target = images_to_float(batch.source_image), images_to_float(batch.target_image)  # [B, 3, H, W]
        source_maps, target_maps = self.pose_maps(batch.source_pose, source), self.pose_maps(batch.target_pose, source)
        conditions = {"appearance": source, "shape": target_maps}

        self.discriminators.requires_grad_(False)  # the generator's update needs no gradient of their weights
        with self.autocast():
            generated = self.generator(source, source_maps, target_maps)  # [B, 3, H, W]
            terms = self.generator_losses(generated, target, conditions)
        terms["gradient_generator"] = self.update("generator", torch.stack(list(terms.values())).sum())
        self.discriminators.requires_grad_(True)

        generated = generated.detach().float()
        for name, discriminator in self.discriminators.items():
            fake = self._from_history(name, torch.cat([generated, conditions[name]], dim=1))
            with self.autocast():
                real_scores = discriminator(torch.cat([target, conditions[name]], dim=1))
                fake_scores = discriminator(fake)
                kind = self.settings.losses.adversarial_kind
                both = adversarial_loss(real_scores, True, kind) + adversarial_loss(fake_scores, False, kind)
                loss = self.settings.losses.adversarial * both / 2  # the mean of real and fake
            terms[f"gradient_{name}"] = self.update(name, loss)
            terms[f"discriminator_{name}"] = loss
        return {name: term.detach() for name, term in terms.items()}

    def generator_losses(self, generated: Tensor, target: Tensor, conditions: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weighted terms of the generator's loss (XingGAN, section 3.5), [] each; images [B, 3, H, W]."""
        weights, terms = self.settings.losses, {}
        if weights.l1:
            terms["l1"] = weights.l1 * nn.functional.l1_loss(generated.float(), target)
        if weights.perceptual:
            terms["perceptual"] = weights.perceptual * self.frozen[0](generated, target)
        for name, discriminator in self.discriminators.items():
            scores = discriminator(torch.cat([generated, conditions[name]], dim=1))
            loss = adversarial_loss(scores, True, weights.adversarial_kind)
            terms[f"adversarial_{name}"] = weights.adversarial * loss / len(self.discriminators)
        return terms

    def _from_history(self, name: str, fake: Tensor) -> Tensor:
        """Exchange the global batch with the pool, as one process alone would; return this process's rows."""
        pool: HistoryPool = self.pools[name]  # type: ignore[assignment]
        return self.processes.own_rows(pool.exchange(self.processes.gather(fake)))

    @torch.no_grad()
    def generate(self, source: Tensor, source_pose: Tensor, target_pose: Tensor, seeds: Tensor) -> Tensor:
        """See `Method.generate`. These generators have no noise input, so the seeds change nothing."""
        image = images_to_float(source)
        with self.autocast():
            generated = self.generator(image, self.pose_maps(source_pose, image), self.pose_maps(target_pose, image))
        return generated.float()
