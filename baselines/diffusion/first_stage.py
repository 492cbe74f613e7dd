"""Training the autoencoder in the first steps of a run: how many they are, and what one of them does.

A method with such a stage has an optimiser named "vae" for its module `autoencoder`. The learning rate falls to 0
over the second half of the stage, as the trainer's does only at the end of the whole run.
"""

import torch
from torch import Tensor

from baselines.diffusion.autoencoder import AutoencoderKL, training_terms
from xinggan.data.batch import images_to_float
from xinggan.model.method import Method
from xinggan.training.schedule import learning_rate_factor

TERMS = ("vae_l1", "vae_divergence", "gradient_vae")


def first_stage_steps(method: Method, share: float) -> int:
    """The steps that the autoencoder trains for: `share` of those planned, at least one; 0 if it is from a file."""
    return max(1, round(share * method.planned_steps)) if "vae" in method.optimisers else 0


def first_stage_step(method: Method, autoencoder: AutoencoderKL, images: Tensor, step: int, steps: int) -> dict:
    """One update of the autoencoder on target images, uint8 [B, 3, H, W]. Returns the losses TERMS, [] each."""
    for group in method.optimisers["vae"].param_groups:
        group["lr"] = group.setdefault("initial_lr", group["lr"]) * learning_rate_factor(step, steps, steps // 2)
    with method.autocast():
        terms = training_terms(autoencoder, images_to_float(images))
    gradient = method.update("vae", torch.stack(list(terms.values())).sum())
    return {name: term.detach() for name, term in terms.items()} | {"gradient_vae": gradient}


def idle(names: tuple[str, ...], device: torch.device) -> dict[str, Tensor]:
    """The losses of the stage that is not on: 0, as the trainer wants the same names from every step."""
    return {name: torch.zeros((), device=device) for name in names}
