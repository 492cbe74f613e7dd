"""Feature networks for metrics of whole sets, in the form torch-fidelity gives them, and features of whole sets.

The features of a set are extracted once and serve every metric and every reference set.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from xinggan.files import sha256_of
from xinggan.metrics.images import ImageSet
from xinggan.progress import Progress
from xinggan.torchvision_operators import import_torchvision
from xinggan.weights_files import MetricUnavailable, find_weights


@dataclass(frozen=True)
class Extractor:
    """A feature extractor of torch-fidelity, giving pooled features and logits, and what the protocol says of it."""

    network: nn.Module  # uint8 [B, 3, H, W] -> ([B, d], [B, logits])
    description: dict[str, str]
    class_logits: Callable[[Tensor], Tensor] = lambda logits: logits  # from [n, logits] those of one choice of classes


@dataclass(frozen=True)
class Features:
    """What a feature network says about the n images of a set."""

    of: str  # which set this is, for protocols and progress
    pooled: Tensor  # [n, d] float32
    logits: Tensor  # [n, logits] float32

    def __len__(self) -> int:
        return len(self.pooled)

    def at(self, rows: NDArray[np.integer], of: str) -> "Features":
        """The features of these images, as a set of its own."""
        return Features(of, self.pooled[rows], self.logits[rows])


def open_inception(device: torch.device | str = "cpu") -> Extractor:
    """torch-fidelity's Inception network. Raises MetricUnavailable when its weights are not at hand or not readable."""
    path = find_weights("inception")
    import_torchvision()
    from torch_fidelity.utils import create_feature_extractor

    name, layers = "inception-v3-compat", ["2048", "logits_unbiased"]
    try:
        network = create_feature_extractor(
            name, layers, cuda=False, verbose=False, feature_extractor_weights_path=str(path)
        )
    except (RuntimeError, KeyError, EOFError) as error:
        raise MetricUnavailable(f"{path} does not hold the weights of {name}: {error}") from error
    description = {
        "network": f"{name} (Inception 2015-12-05)",
        "feature_layers": ", ".join(layers),
        "input": "resized to 299x299, bilinear as in TensorFlow 1",
        "weights_file": path.name,
        "weights_sha256": sha256_of(path),
    }
    return Extractor(network.to(device), description)


@torch.inference_mode()
def extract(extractor: Extractor, images: ImageSet, device: torch.device | str, of: str) -> Features:
    """Features of every image of a set, in order; `of` says which set it is."""
    pooled, logits = [], []
    with Progress(f"features of {of}", len(images), "images") as progress:
        for batch in images.batches():
            batch_pooled, batch_logits = extractor.network(batch.to(device))
            pooled.append(batch_pooled.float().cpu())
            logits.append(batch_logits.float().cpu())
            progress.update(len(batch))
    return Features(of, torch.cat(pooled), torch.cat(logits))
