"""The embedded networks, loaded from safetensors files in half precision that travel with the package.

`load_embedded(name)` gives a network ready to use. Each file says in its header what it was trained on and what it
scored on people it had never seen.
"""

import json
from functools import cache
from pathlib import Path
from typing import Literal, overload

import torch
from torch import Tensor, nn

from xinggan.files import sha256_of, write_atomically
from xinggan.metrics.embedded.architectures import AttributeClassifier, PerceptualStage, PoseEstimator

FOLDER = Path(__file__).parent / "weights"
NAMES = ("pose", "attributes", "perceptual")


@overload
def load_embedded(name: Literal["pose"]) -> tuple[PoseEstimator, str]: ...
@overload
def load_embedded(name: Literal["attributes"]) -> tuple[AttributeClassifier, str]: ...
@overload
def load_embedded(name: Literal["perceptual"]) -> tuple[PerceptualStage, str]: ...
def load_embedded(name: str) -> tuple[nn.Module, str]:
    """A new, frozen copy of one of NAMES on the CPU, and the SHA-256 of its weights file; the file is read once.

    `pose`: PoseEstimator, `attributes`: AttributeClassifier, `perceptual`: PerceptualStage. Raises ValueError for
    another name and RuntimeError, naming the file and what to do, when it is missing or damaged.
    """
    if name not in NAMES:
        raise ValueError(f"there is no embedded network {name!r}; there are {', '.join(NAMES)}")
    state, trained, sha256 = _read(name, FOLDER)
    network = empty_network(name, trained)
    network.load_state_dict(state)
    return network.eval().requires_grad_(False), sha256


def training_record(name: str) -> dict[str, str]:
    """What the header of a weights file says (generator version, recipe, held-out scores), and its `sha256`."""
    _, trained, sha256 = _read(name, FOLDER)
    return {**trained, "sha256": sha256}


def empty_network(name: str, trained: dict[str, str], training_form: bool = False) -> nn.Module:
    """The architecture of one of NAMES; `trained` gives the classifier's attributes."""
    if name == "pose":
        return PoseEstimator(training_form)
    if name == "perceptual":
        return PerceptualStage(training_form)
    return AttributeClassifier(json.loads(trained["attributes"]), training_form)


def store(name: str, network: nn.Module, trained: dict[str, str], folder: Path = FOLDER) -> Path:
    """Write a network in its stored form to `folder`, in half precision, whole or not at all."""
    from safetensors.torch import save

    path = folder / f"{name}.safetensors"
    state = {key: value.half().contiguous() for key, value in network.state_dict().items()}
    write_atomically(path, save(state, trained))
    _read.cache_clear()
    return path


@cache
def _read(name: str, folder: Path) -> tuple[dict[str, Tensor], dict[str, str], str]:
    from safetensors import SafetensorError, safe_open

    path = folder / f"{name}.safetensors"
    try:
        with safe_open(path, "pt") as file:
            trained = dict(file.metadata() or {})
            state = {key: file.get_tensor(key).to(torch.float32) for key in file.keys()}  # noqa: SIM118
        empty_network(name, trained).load_state_dict(state)
        return state, trained, sha256_of(path)
    except (OSError, SafetensorError, RuntimeError, KeyError, ValueError) as error:
        cause = " ".join(str(error).split())[:200]
        raise RuntimeError(
            f"the embedded network's weights {path} are missing or damaged ({cause}); reinstall the package, or train "
            f"them anew with `python -m xinggan.metrics.embedded.train --which {name}`"
        ) from error
