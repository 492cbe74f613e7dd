"""LPIPS (Zhang et al., CVPR 2018), version 0.1 of its authors' package, for whole batches.

The package brings the learned weights of the distance; the backbone's weights come from `weights_files`. They are read
here rather than through the package, so that nothing is ever downloaded while scoring and the file's hash is known.
"""

import pickle
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from xinggan.files import sha256_of
from xinggan.metrics.protocol import LPIPS_NETWORKS
from xinggan.torchvision_operators import import_torchvision
from xinggan.weights_files import MetricUnavailable, find_weights

LPIPS_VERSION = "0.1"


@dataclass(frozen=True)
class Lpips:
    """The distance with its network: call it with two batches of images."""

    network: nn.Module
    name: str  # alex, vgg or squeeze
    weights: dict[str, str]  # SHA-256 of the files of the backbone's and the distance's own weights

    @torch.inference_mode()
    def __call__(self, generated: Tensor, target: Tensor) -> Tensor:
        """Distance of each pair. uint8 [B, 3, H, W] twice, on the network's device -> float64 [B]."""
        a, b = (images.float().div(127.5).sub(1) for images in (generated, target))  # [-1, 1]
        return self.network(a, b).flatten().double()


def open_lpips(name: str = "alex", device: torch.device | str = "cpu") -> Lpips:
    """Load LPIPS with one of LPIPS_NETWORKS. Raises MetricUnavailable when the backbone's weights are not at hand."""
    if name not in LPIPS_NETWORKS:
        raise ValueError(f"LPIPS has no network {name!r}; accepted are {', '.join(LPIPS_NETWORKS)}")
    path = find_weights(name)
    import_torchvision()
    import lpips

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package asks torchvision for its models by arguments of old
        network = lpips.LPIPS(net=name, version=LPIPS_VERSION, pnet_rand=True, verbose=False)
    try:
        _load_backbone(network.net, torch.load(path, map_location="cpu", weights_only=True))
    except (RuntimeError, KeyError, EOFError, pickle.UnpicklingError) as error:
        raise MetricUnavailable(f"{path} does not hold the weights of LPIPS's network {name!r}: {error}") from error
    own = Path(lpips.__file__).parent / "weights" / f"v{LPIPS_VERSION}" / f"{name}.pth"
    weights = {"weights_file": path.name, "weights_sha256": sha256_of(path), "distance_sha256": sha256_of(own)}
    return Lpips(network.to(device).eval().requires_grad_(False), name, weights)


def _load_backbone(backbone: nn.Module, published: dict[str, Tensor]) -> None:
    """Copy torchvision's `features.<layer>.*` into the package's slices, which keep the layers' numbers."""
    names = {name: "features." + name.split(".", 1)[1] for name in backbone.state_dict()}
    backbone.load_state_dict({name: published[source] for name, source in names.items()})
