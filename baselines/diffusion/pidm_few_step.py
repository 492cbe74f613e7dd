"""PIDM in one to four steps: the honest rival of a GAN that generates in one pass.

Not a published method: PIDM (see `pidm`), distilled within one training as in `distillation`. For a share of the steps
a teacher is trained as PIDM is; then its moving average is frozen, and the student goes on from there with a fresh
optimiser. All of it counts as this method's training. Chosen here: both predict v rather than the noise, since a noise
prediction says next to nothing about the image at the noisiest timestep, where the student has to say all; the
teacher's guidance is distilled into the student, which then needs one branch.
"""

import torch
from torch import Tensor

from baselines.diffusion.pidm import PIDM
from baselines.diffusion.process import Network, NoiseProcess, Prediction, draw_noise
from baselines.diffusion.samplers import ImageNoise, for_branches, guided, sampling_timesteps
from baselines.diffusion.texture_unet import SourceEncoder, TextureUNet
from xinggan.data.batch import PosePair, images_to_float
from xinggan.data.settings import PoseMap
from xinggan.model.method import Method

MOST_STEPS = 4
HUBER = 0.001  # below this difference the loss is quadratic, above it linear


def distillation_problems(steps: int, grid: int) -> list[str]:
    """What is wrong with these settings of a method, each with its key and what is accepted."""
    problems = []
    if not 1 <= steps <= MOST_STEPS:
        problems.append(f"method.steps={steps}: accepted are 1 to {MOST_STEPS} sampling steps")
    if grid % 12 or not 12 <= grid <= 240:
        problems.append(
            f"method.grid={grid}: accepted are multiples of 12 up to 240, so that 1, 2, 3 and 4 steps fall on the grid"
        )
    return problems


def ddim_steps(
    process: NoiseProcess, network: Network, noised: Tensor, timesteps: list[int], limit: float | None = None
) -> Tensor:
    """Where DDIM leads from x at the first of `timesteps` over the others to the data: [B, ...]."""
    clean = noised
    for now, following in zip(timesteps, [*timesteps[1:], None], strict=True):
        t = torch.full((len(noised),), now, device=noised.device)  # [B]
        prediction = network(noised, t).float()
        clean = process.clean(prediction, noised, t)
        if limit is not None:
            clean = clean.clamp(-limit, limit)
        if following is not None:
            noised = process.noised(clean, process.noise(prediction, noised, t), torch.full_like(t, following))
    return clean


def distillation_loss(
    process: NoiseProcess,
    teacher: Network,
    student: Network,
    clean: Tensor,
    *,
    steps: int,
    grid: int,
    limit: float | None = None,
) -> Tensor:
    """Pseudo-Huber distance of the student's one step from the teacher's many, for data [B, ...]. Returns [].

    The batch starts at one of the student's `steps` timesteps, the same in all processes, which seed alike. limit: as
    in `samplers.sample`.
    """
    points = sampling_timesteps(grid)
    start = sampling_timesteps(steps)[int(torch.randint(steps, ()))]
    timesteps = torch.full((len(clean),), start, device=clean.device)  # [B]
    noised = process.noised(clean, draw_noise(clean), timesteps)
    with torch.no_grad():
        wanted = ddim_steps(process, teacher, noised, points[points.index(start) :], limit)
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
    limit: float | None = None,
) -> Tensor:
    """One item of `shape` for each of seeds, int64 [B]: float32 [B, *shape] (algorithm 1, multistep sampling).

    After the first step, what the student said is noised again and said anew. limit: as in `samplers.sample`.
    """
    noise = ImageNoise(seeds, shape, device)
    clean = torch.zeros(len(seeds), *shape, device=device)
    for number, timestep in enumerate(sampling_timesteps(steps)):
        timesteps = torch.full((len(seeds),), timestep, device=device)  # [B]
        fresh = noise.draw()
        noised = process.noised(clean, fresh, timesteps) if number else fresh
        clean = process.clean(student(noised, timesteps).float(), noised, timesteps)
        if limit is not None:
            clean = clean.clamp(-limit, limit)
    return clean


class PIDMFewStep(Method):
    """Teacher and student in one. ValueError for settings out of range, naming all of them."""

    averaged = ("source_encoder", "denoiser")  # the student's
    distilling: Tensor

    def __init__(
        self,
        width: int = 128,
        multipliers: tuple[int, ...] = (1, 1, 2, 2, 4, 4),
        level_blocks: int = 2,
        attention_levels: int = 3,
        dropout: float = 0.1,
        steps: int = 2,
        grid: int = 24,
        teacher_share: float = 0.8,
        teacher_ema: float = 0.9999,
        guidance_source: float = 2.0,
        guidance_pose: float = 2.0,
        condition_dropout: float = 0.1,
        learning_rate: float = 2e-5,
        pose_map: PoseMap = PoseMap.gaussian,
        pose_sigma: float = 6.0,
        seed: int = 0,
    ):
        """steps: of sampling. grid: of the teacher, in distillation. teacher_share: of the training's steps.

        guidance_source, guidance_pose: of the teacher whose predictions are distilled. The rest is PIDM's.
        """
        super().__init__()
        problems = distillation_problems(steps, grid)
        if not 0 < teacher_share < 1:
            problems.append(f"method.teacher_share={teacher_share}: accepted is between 0 and 1, both excluded")
        if not 0 <= teacher_ema < 1:
            problems.append(f"method.teacher_ema={teacher_ema}: accepted is 0 up to, not including, 1")

        def pidm() -> PIDM:
            return PIDM(
                width=width,
                multipliers=multipliers,
                level_blocks=level_blocks,
                attention_levels=attention_levels,
                dropout=dropout,
                prediction=Prediction.v,
                guidance_source=guidance_source,
                guidance_pose=guidance_pose,
                condition_dropout=condition_dropout,
                learning_rate=learning_rate,
                pose_map=pose_map,
                pose_sigma=pose_sigma,
                seed=seed,
            )

        try:
            self.student, self.teacher = pidm(), pidm()
        except ValueError as error:
            problems.append(str(error))
        if problems:
            raise ValueError("; ".join(problems))
        self.steps, self.grid, self.teacher_share, self.teacher_ema = steps, grid, teacher_share, teacher_ema
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
        """A step of PIDM's training while the teacher is made, then one of distillation."""
        if step < round(self.teacher_share * self.planned_steps):
            with self.autocast():
                loss = self.student.denoising_loss(batch)
            gradient = self.update("denoiser", loss)
            self._move_teacher(1 - min(self.teacher_ema, (1 + step) / (10 + step)))
            return _terms(denoising=loss, gradient=gradient)
        if not self.distilling:
            with torch.no_grad():  # the student goes on from the teacher's average
                torch._foreach_copy_(list(self.student.parameters()), list(self.teacher.parameters()))
            self.optimisers["denoiser"].state.clear()  # moments of another loss would make its first steps far too long
            self.distilling.fill_(True)
        with self.autocast():
            loss = self._distillation_loss(batch)
        gradient = self.update("denoiser", loss)
        return _terms(distillation=loss, gradient=gradient)

    @torch.no_grad()
    def _move_teacher(self, part: float) -> None:
        """Bring the teacher's weights this part of the way to the student's: a moving average over the steps."""
        torch._foreach_lerp_(list(self.teacher.parameters()), list(self.student.parameters()), part)

    def _distillation_loss(self, batch: PosePair) -> Tensor:
        target, teacher = images_to_float(batch.target_image), self.teacher.eval()
        features, maps = self.student.conditions(batch.source_image, batch.target_pose)
        with torch.no_grad():
            taught, _ = teacher.conditions(batch.source_image, batch.target_pose)
            taught = [for_branches(level, [branch.source for branch in teacher.branches]) for level in taught]
            taught_maps = for_branches(maps, [branch.pose for branch in teacher.branches])
        return distillation_loss(
            self.student.process,
            guided(lambda noised, t: teacher.denoiser(noised, t, taught_maps, taught), teacher.branches),
            lambda noised, t: self.student.denoiser(noised, t, maps, features),
            target,
            steps=self.steps,
            grid=self.grid,
            limit=1.0,
        )

    @torch.no_grad()
    def generate(self, source: Tensor, source_pose: Tensor, target_pose: Tensor, seeds: Tensor) -> Tensor:
        """See `Method.generate`. The source is encoded once, the denoiser evaluated once a step."""
        with self.autocast():
            features, maps = self.student.conditions(source, target_pose)
            return few_step_sample(
                self.student.process,
                lambda noised, timesteps: self.student.denoiser(noised, timesteps, maps, features),
                tuple(source.shape[1:]),
                seeds,
                steps=self.steps,
                device=source.device,
                limit=1.0,
            )


def _terms(gradient: Tensor, denoising: Tensor | None = None, distillation: Tensor | None = None) -> dict[str, Tensor]:
    """A step's losses by name; the one of the other stage is 0, since the trainer averages over both."""
    none = torch.zeros_like(gradient)
    return {
        "denoising": none if denoising is None else denoising.detach(),
        "distillation": none if distillation is None else distillation.detach(),
        "gradient_denoiser": gradient,
    }
