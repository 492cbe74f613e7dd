"""PIDM in one to four steps, to be compared with GANs, which generate in one pass: distillation by regression.

Not a published method: PIDM (see `pidm`), distilled within one training. For a share of the steps a teacher is trained
as PIDM is; then its moving average is frozen, and the student continues from there with a fresh optimiser. All of it
counts as this method's training. Sampling adds noise to the student's prediction and evaluates the student again, as
for consistency models (Song et al., ICML 2023, algorithm 1).

The student learns to predict in one step where the teacher's many DDIM steps lead, as in Luhman and Luhman (2021), who
start from pure noise; here the student starts from each of the one to four timesteps that sampling uses, and the
teacher steps over a grid that contains them. Consistency distillation, whose student learns from itself a grid step
nearer to the data, diverged in trainings of a few hundred steps. `pidm_adversarial` trains the student otherwise.

Chosen here: both predict v rather than the noise, since a noise prediction determines the image poorly at the noisiest
timestep, where the student starts, and no variance is learnt, which no step uses; the teacher's guidance is distilled
into the student, which then needs one branch.
"""

from math import inf

import torch
from torch import Tensor

from baselines.diffusion.pidm import PIDM
from baselines.diffusion.pidm_unet import PIDMUNet, SourceEncoder
from baselines.diffusion.process import Network, NoiseProcess, draw_noise
from baselines.diffusion.samplers import Branch, ImageNoise, ddim, guided, trailing_timesteps
from baselines.diffusion.settings import FewStepSettings, PIDMFewStepSettings
from baselines.geometry import resized
from xinggan.data.batch import PosePair, images_to_float
from xinggan.model.method import Method

HUBER = 0.001  # below this difference the loss is quadratic, above it linear


class FewStepPIDM(Method):
    """Teacher and student in one method; a subclass says how the student is trained (`student_step`)."""

    averaged = ("source_encoder", "denoiser")  # the student's
    checkpointed = PIDM.checkpointed
    settings: FewStepSettings
    distilling: Tensor

    def __init__(self, settings: FewStepSettings):
        super().__init__()
        self.settings = settings
        self.student, self.teacher = PIDM(settings), PIDM(settings)
        self.student.branches = (Branch(1.0, source=True, pose=True),)
        self.teacher.requires_grad_(False)
        self.register_buffer("distilling", torch.tensor(False))
        self.optimisers["denoiser"] = self.student.optimisers["denoiser"]

    @property
    def source_encoder(self) -> SourceEncoder:
        """The student's."""
        return self.student.source_encoder

    @property
    def denoiser(self) -> PIDMUNet:
        """The student's, evaluated once a sampling step."""
        return self.student.denoiser

    def training_step(self, batch: PosePair, step: int) -> dict[str, Tensor]:
        """A step of PIDM's training in the teacher's share of the steps, after that one of the student's."""
        if step < round(self.settings.teacher_share * self.planned_steps):
            return self.teacher_step(batch, step)
        if not self.distilling:
            with torch.no_grad():  # the student continues from the teacher's average
                torch._foreach_copy_(list(self.student.parameters()), list(self.teacher.parameters()))
            self.optimisers["denoiser"].state.clear()  # moments of another loss would make its first steps far too long
            self.distilling.fill_(True)
        self.teacher.eval()
        return self.student_step(batch)

    def teacher_step(self, batch: PosePair, step: int) -> dict[str, Tensor]:
        """A step of PIDM's training. The teacher is the moving average over the steps."""
        with self.autocast():
            terms = self.student.losses(batch)
        with self.student.warm_up(step):
            gradient = self.update("denoiser", torch.stack(list(terms.values())).sum())
        part = 1 - min(self.settings.teacher_ema, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.teacher.parameters()), list(self.student.parameters()), part)
        return {name: term.detach() for name, term in terms.items()} | {"gradient_denoiser": gradient}

    def student_step(self, batch: PosePair) -> dict[str, Tensor]:
        """One update of the student with the frozen teacher; losses and gradient norms by name."""
        raise NotImplementedError

    @torch.no_grad()
    def teaching(self, source: Tensor, pose: Tensor) -> Network:
        """The teacher's guided prediction for source images [B, 3, h, w] and target poses [B, 18, 3]."""
        return guided(self.teacher.predicted, self.teacher.conditions(source, pose), self.teacher.branches)

    @torch.no_grad()
    def generate(self, source: Tensor, source_pose: Tensor, target_pose: Tensor, seeds: Tensor) -> Tensor:
        """See `Method.generate`. The source is encoded once, the denoiser evaluated once a step."""
        image, pose = self.student.stretched(images_to_float(source), target_pose)
        with self.autocast():
            conditions = self.student.conditions(image, pose)
            generated = few_step_sample(
                self.student.process,
                lambda noised, timesteps: self.student.predicted(noised, timesteps, conditions),
                tuple(image.shape[1:]),
                seeds,
                steps=self.settings.steps,
                device=source.device,
                limit=1.0,
            )
        return resized(generated, source.shape[-2:]).clamp(-1, 1)


class PIDMFewStep(FewStepPIDM):
    """The student learns where the teacher's steps lead."""

    settings: PIDMFewStepSettings

    def __init__(self, settings: PIDMFewStepSettings | None = None):
        super().__init__(settings or PIDMFewStepSettings())

    def student_step(self, batch: PosePair) -> dict[str, Tensor]:
        """One update on the distance from the teacher's result."""
        source, target, pose = self.student.training_views(batch)
        with self.autocast():
            conditions = self.student.conditions(source, pose)
            loss = distillation_loss(
                self.student.process,
                self.teaching(source, pose),
                lambda noised, timesteps: self.student.predicted(noised, timesteps, conditions),
                target,
                steps=self.settings.steps,
                grid=self.settings.grid,
                limit=1.0,
            )
        return {"distillation": loss.detach(), "gradient_denoiser": self.update("denoiser", loss)}


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
