"""PIDM in one to four steps with an adversarial loss: the diffusion model that competes with a GAN in one pass.

Not a published method: adversarial diffusion distillation (ADD; Sauer et al., ECCV 2024, section 3) of PIDM (see
`pidm`), with teacher, stages and sampling as in `pidm_few_step`. From a training image noised to one of the timesteps s
that sampling uses, the student predicts the clean image x(s) at once, and its loss is L_adv + lambda L_distill.

L_distill = c(t) |x(s) - y(t)|^2 (ADD, equation 4): x(s) is noised again to a random t, y(t) is what the frozen teacher,
guided, sees in it, and c(t) = sqrt(abar_t) trusts it less the noisier it is. No gradient passes through the teacher.
L_adv is that of the suite's GANs in place of ADD's discriminator on the features of DINO: XingGAN's two discriminators,
of which one sees x(s) beside the source image and one beside the pose maps, with the least squares loss. ADD's gradient
penalty on real images, with a weight of 1e-5 there, is left out.
"""

import torch
from torch import Tensor, nn

from baselines.diffusion.pidm_few_step import FewStepPIDM
from baselines.diffusion.process import draw_integers, draw_noise
from baselines.diffusion.samplers import trailing_timesteps
from baselines.diffusion.settings import TIMESTEPS, PIDMAdversarialSettings
from xinggan.data.batch import PosePair
from xinggan.model.discriminator import APPEARANCE_INPUTS, Discriminator
from xinggan.model.losses import adversarial_loss
from xinggan.model.method import adam
from xinggan.model.switches import AdversarialLoss, Norm


class PIDMAdversarial(FewStepPIDM):
    """The student learns from the teacher and from two discriminators."""

    settings: PIDMAdversarialSettings

    def __init__(self, settings: PIDMAdversarialSettings | None = None):
        s = settings or PIDMAdversarialSettings()
        super().__init__(s)
        inputs = {"appearance": APPEARANCE_INPUTS, "shape": 3 + self.student.maps}
        with torch.random.fork_rng(devices=[]):  # the library's initialisation, but from our seed
            torch.manual_seed(s.seed + 1)
            self.discriminators = nn.ModuleDict(
                {
                    name: Discriminator(count, s.discriminator_width, Norm.instance, 0.0)
                    for name, count in inputs.items()
                }
            )
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for name, discriminator in self.discriminators.items():
            self.optimisers[name] = adam(discriminator.parameters(), s.discriminator_rate)

    def student_step(self, batch: PosePair) -> dict[str, Tensor]:
        """Update the student, then each discriminator on the same images."""
        source, target, pose = self.student.training_views(batch)
        with self.autocast():
            conditions = self.student.conditions(source, pose)
            beside = {"appearance": source, "shape": conditions[0]}
            generated = self.generated(target, conditions)  # [B, 3, h, w]
            terms = {"distillation": self.settings.distillation * self.distance(generated, source, pose)}
            self.discriminators.requires_grad_(False)  # the student's update needs no gradient of their weights
            for name, discriminator in self.discriminators.items():
                scores = discriminator(torch.cat([generated, beside[name]], dim=1))
                loss = adversarial_loss(scores, True, AdversarialLoss.lsgan)
                terms[f"adversarial_{name}"] = loss / len(self.discriminators)
        terms["gradient_denoiser"] = self.update("denoiser", torch.stack(list(terms.values())).sum())
        self.discriminators.requires_grad_(True)

        generated = generated.detach()
        for name, discriminator in self.discriminators.items():
            with self.autocast():
                real = adversarial_loss(discriminator(torch.cat([target, beside[name]], dim=1)), True, "lsgan")
                fake = adversarial_loss(discriminator(torch.cat([generated, beside[name]], dim=1)), False, "lsgan")
                terms[f"discriminator_{name}"] = (real + fake) / 2
            terms[f"gradient_{name}"] = self.update(name, terms[f"discriminator_{name}"])
        return {name: term.detach() for name, term in terms.items()}

    def generated(self, target: Tensor, conditions: list[Tensor]) -> Tensor:
        """The student's images [B, 3, h, w] in one step, each from its target noised to one of sampling's timesteps."""
        process, steps = self.student.process, self.settings.steps
        starts = torch.tensor(trailing_timesteps(steps), device=target.device)
        timesteps = starts[draw_integers(steps, target)]  # [B]
        noised = process.noised(target, draw_noise(target), timesteps)
        return process.clean(self.student.predicted(noised, timesteps, conditions).float(), noised, timesteps)

    def distance(self, generated: Tensor, source: Tensor, pose: Tensor) -> Tensor:
        """Weighted squared distance of generated images [B, 3, h, w] from what the teacher sees in them, []."""
        process, timesteps = self.teacher.process, draw_integers(TIMESTEPS, generated)
        with torch.no_grad():
            noised = process.noised(generated, draw_noise(generated), timesteps)
            seen = process.clean(self.teaching(source, pose)(noised, timesteps), noised, timesteps).clamp(-1, 1)
        return (process.signal_rate[timesteps] * (generated - seen).square().flatten(1).mean(1)).mean()
