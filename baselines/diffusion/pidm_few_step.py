"""PIDM in one to four steps, to be compared with GANs, which generate in one pass.

Not a published method: PIDM (see `pidm`), distilled within one training. For a share of the steps a teacher is trained
as PIDM is; then its moving average is frozen, and the student continues from there with a fresh optimiser. All of it
counts as this method's training.

The student learns to predict in one step where the teacher's many DDIM steps lead, as in Luhman and Luhman (2021), who
start from pure noise; here the student starts from each of the one to four timesteps that sampling uses, and the
teacher steps over a grid that contains them. Sampling adds noise to the student's prediction and evaluates the student
again, as for consistency models (Song et al., ICML 2023, algorithm 1). Consistency distillation, whose student learns
from itself a grid step nearer to the data, diverged in trainings of a few hundred steps.

Chosen here: both predict v rather than the noise, since a noise prediction determines the image poorly at the noisiest
timestep, where the student starts; the teacher's guidance is distilled into the student, which then needs one branch.
"""

from math import inf

import torch
from torch import Tensor

from baselines.diffusion.pidm import PIDM
from baselines.diffusion.process import Network, NoiseProcess, draw_noise
from baselines.diffusion.samplers import ImageNoise, ddim, guided, trailing_timesteps
from baselines.diffusion.settings import PIDMFewStepSettings
from baselines.diffusion.texture_unet import SourceEncoder, TextureUNet
from xinggan.data.batch import PosePair, images_to_float
from xinggan.model.method import Method

HUBER = 0.001  # below this difference the loss is quadratic, above it linear


def distillation_loss(
    process: NoiseProcess,
    teacher: Network,
    student: Network,
    clean: Tensor,
    *,
    steps: int,
    grid: int,
    limit: float = inf,
) -> Tensor:
    """Pseudo-Huber distance of the student's one step from the teacher's many, for data [B, ...]. Returns [].

    The batch starts at one of the student's `steps` timesteps, the same in all processes, which have the same
    seed. limit: as in `samplers.sample`.
    """
    points = trailing_timesteps(grid)
    start = trailing_timesteps(steps)[int(torch.randint(steps, ()))]
    timesteps = torch.full((len(clean),), start, device=clean.device)  # [B]
    noised = process.noised(clean, draw_noise(clean), timesteps)
    with torch.no_grad():
        wanted = ddim(process, teacher, noised, points[points.index(start) :], limit)
    difference = process.clean(student(noised, timesteps).float(), noised, timesteps) - wanted
    return ((difference.square() + HUBER**2).sqrt() - HUBER).mean()


@torch.no_grad()
def few_step_sample(
    process: NoiseProcess,
    student: Network,
    shape: tuple[int, ...],
    seeds: Tensor,
    *,
    steps: int,
    device: torch.device | str,
    limit: float = inf,
) -> Tensor:
    """One item of `shape` for each of seeds, int64 [B]: float32 [B, *shape] (algorithm 1, multistep sampling).

    Every step after the first adds noise to the last prediction. limit: as in `samplers.sample`.
    """
    noise = ImageNoise(seeds, shape, device)
    clean = torch.zeros(len(seeds), *shape, device=device)
    for number, timestep in enumerate(trailing_timesteps(steps)):
        timesteps = torch.full((len(seeds),), timestep, device=device)  # [B]
        fresh = noise.draw()
        noised = process.noised(clean, fresh, timesteps) if number else fresh
        clean = process.clean(student(noised, timesteps).float(), noised, timesteps).clamp(-limit, limit)
    return clean


class PIDMFewStep(Method):
    """Teacher and student in one method."""

    averaged = ("source_encoder", "denoiser")  # the student's
    checkpointed = PIDM.checkpointed
    distilling: Tensor

    def __init__(self, settings: PIDMFewStepSettings | None = None):
        super().__init__()
        self.settings = s = settings or PIDMFewStepSettings()
        self.student, self.teacher = PIDM(s), PIDM(s)
        self.teacher.requires_grad_(False)
        self.register_buffer("distilling", torch.tensor(False))
        self.optimisers["denoiser"] = self.student.optimisers["denoiser"]

    @property
    def source_encoder(self) -> SourceEncoder:
        """The student's."""
        return self.student.source_encoder

    @property
    def denoiser(self) -> TextureUNet:
        """The student's, evaluated once a sampling step."""
        return self.student.denoiser

    def training_step(self, batch: PosePair, step: int) -> dict[str, Tensor]:
        """A step of PIDM's training in the teacher's share of the steps, after that one of distillation."""
        if step < round(self.settings.teacher_share * self.planned_steps):
            with self.autocast():
                loss = self.student.denoising_loss(batch)
            gradient = self.update("denoiser", loss)
            part = 1 - min(self.settings.teacher_ema, (1 + step) / (10 + step))
            with torch.no_grad():  # the teacher is the moving average over the steps
                torch._foreach_lerp_(list(self.teacher.parameters()), list(self.student.parameters()), part)
            return {"denoising": loss.detach(), "gradient_denoiser": gradient}
        if not self.distilling:
            with torch.no_grad():  # the student continues from the teacher's average
                torch._foreach_copy_(list(self.student.parameters()), list(self.teacher.parameters()))
            self.optimisers["denoiser"].state.clear()  # moments of another loss would make its first steps far too long
            self.distilling.fill_(True)
        with self.autocast():
            loss = self._distillation_loss(batch)
        gradient = self.update("denoiser", loss)
        return {"distillation": loss.detach(), "gradient_denoiser": gradient}

    def _distillation_loss(self, batch: PosePair) -> Tensor:
        teacher = self.teacher.eval()
        conditions = self.student.conditions(batch.source_image, batch.target_pose)
        with torch.no_grad():
            taught = teacher.conditions(batch.source_image, batch.target_pose)
            teacher_network = guided(teacher.predicted, taught, teacher.branches)
        return distillation_loss(
            self.student.process,
            teacher_network,
            lambda noised, timesteps: self.student.predicted(noised, timesteps, conditions),
            images_to_float(batch.target_image),
            steps=self.settings.steps,
            grid=self.settings.grid,
            limit=1.0,
        )

    @torch.no_grad()
    def generate(self, source: Tensor, source_pose: Tensor, target_pose: Tensor, seeds: Tensor) -> Tensor:
        """See `Method.generate`. The source is encoded once, the denoiser evaluated once a step."""
        with self.autocast():
            conditions = self.student.conditions(source, target_pose)
            return few_step_sample(
                self.student.process,
                lambda noised, timesteps: self.student.predicted(noised, timesteps, conditions),
                tuple(source.shape[1:]),
                seeds,
                steps=self.settings.steps,
                device=source.device,
                limit=1.0,
            )
