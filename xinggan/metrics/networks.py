"""The frozen networks that metrics look at images with: LPIPS, two Inceptions and the embedded attribute classifier.

Published weights are read from the files of `xinggan.weights_files`, never downloaded while scoring, and a value's
protocol carries their hashes. A file that is missing or holds other weights makes its metrics unavailable.
"""

import pickle
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xinggan.files import sha256_of
from xinggan.metrics.embedded.networks import CLOTHES, load_embedded, network_description, to_network_size
from xinggan.metrics.protocol import LPIPS_NETWORKS
from xinggan.torchvision_operators import import_torchvision
from xinggan.weights_files import MetricUnavailable, find_weights

LPIPS_VERSION = "0.1"


@dataclass(frozen=True)
class Lpips:
    """LPIPS (Zhang et al., CVPR 2018), version 0.1 of its authors' package, as a function of two batches of images."""

    name: str  # one of LPIPS_NETWORKS
    network: nn.Module
    weights: dict[str, str]  # names and SHA-256 of the files of the backbone's and the distance's own weights

    @torch.inference_mode()
    def __call__(self, generated: Tensor, target: Tensor) -> Tensor:
        """Distance of each pair. uint8 [B, 3, H, W] twice, on the network's device -> float64 [B]."""
        a, b = (images.float().div(127.5).sub(1) for images in (generated, target))  # [-1, 1]
        return self.network(a, b).flatten().double()

    def check_size(self, height: int, width: int, device: torch.device | str) -> None:
        """Raise MetricUnavailable for images so small that nothing is left of them after the network's poolings."""
        image = torch.zeros(1, 3, height, width, dtype=torch.uint8, device=device)
        try:
            self(image, image)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            what = f"the images ({height}x{width}) are too small for LPIPS's network {self.name}"
            raise MetricUnavailable(what) from error


def open_lpips(name: str = "alex", device: torch.device | str = "cpu") -> Lpips:
    """Load LPIPS with one of LPIPS_NETWORKS. Raises MetricUnavailable when the backbone's weights are not at hand, and
    ValueError for another name."""
    if name not in LPIPS_NETWORKS:
        raise ValueError(f"LPIPS has no network {name!r}; accepted are {', '.join(LPIPS_NETWORKS)}")
    path = find_weights(name)
    import_torchvision()
    import lpips

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package asks torchvision for its models by arguments of old
        network = lpips.LPIPS(net=name, version=LPIPS_VERSION, pnet_rand=True, verbose=False)
    with _weights_of(path, f"LPIPS's network {name!r}"):
        published = torch.load(path, map_location="cpu", weights_only=True)
        # torchvision's `features.<layer>.*` go into the package's slices, which keep the layers' numbers
        names = {key: "features." + key.split(".", 1)[1] for key in network.net.state_dict()}
        network.net.load_state_dict({key: published[source] for key, source in names.items()})
    own = Path(lpips.__file__).parent / "weights" / f"v{LPIPS_VERSION}" / f"{name}.pth"
    weights = {**_identity_of(path), "distance_sha256": sha256_of(own)}
    return Lpips(name, network.to(device).eval().requires_grad_(False), weights)


@dataclass(frozen=True)
class FeatureNetwork:
    """A network whose features sets of images are compared by, and what a value's protocol says of it."""

    extract: Callable[[Tensor], tuple[Tensor, Tensor]]  # uint8 [B, 3, H, W] -> pooled features [B, d], logits [B, k]
    description: dict[str, str]
    class_logits: Callable[[Tensor], Tensor] = lambda logits: logits  # from [n, k] those of one choice of classes


def open_inception(device: torch.device | str = "cpu") -> FeatureNetwork:
    """torch-fidelity's Inception of 2015-12-05, for IS, FID, KID, precision and recall. Raises MetricUnavailable when
    its weights are not at hand."""
    path = find_weights("inception")
    import_torchvision()
    from torch_fidelity.utils import create_feature_extractor

    name, layers = "inception-v3-compat", ["2048", "logits_unbiased"]
    with _weights_of(path, name):
        network = create_feature_extractor(
            name, layers, cuda=False, verbose=False, feature_extractor_weights_path=str(path)
        )
    description = {
        "network": f"{name} (Inception 2015-12-05)",
        "feature_layers": ", ".join(layers),
        "input": "resized to 299x299, bilinear as in TensorFlow 1",
    }
    return FeatureNetwork(network.to(device), description | _identity_of(path))


def open_imagenet_inception(device: torch.device | str = "cpu") -> FeatureNetwork:
    """torchvision's Inception-v3 with ImageNet weights up to the average pool, as the programs of GFLA, PIDM and CFLD
    call it. Raises MetricUnavailable when its weights are not at hand."""
    path = find_weights("inception-imagenet")
    # transform_input: channel c becomes c std / 0.5 + (mean - 0.5) / 0.5 with ImageNet's mean and std
    network = import_torchvision().models.inception_v3(weights=None, init_weights=False, transform_input=True)
    with _weights_of(path, "torchvision's inception_v3"):
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    network.fc = nn.Identity()
    network = network.eval().requires_grad_(False).to(device)

    def extract(images: Tensor) -> tuple[Tensor, Tensor]:
        resized = F.interpolate(images.float() / 255, (299, 299), mode="bilinear", align_corners=False)
        pooled = network(resized)  # [B, 2048]
        return pooled, pooled[:, :0]  # no classes: there is no Inception score of this network

    description = {
        "network": "torchvision inception_v3 (ImageNet)",
        "feature_layers": "average pool, 2048",
        "input": "[0, 1] resized to 299x299, bilinear without antialiasing; c std / 0.5 + (mean - 0.5) / 0.5",
    }
    return FeatureNetwork(extract, description | _identity_of(path))


def open_embedded(device: torch.device | str = "cpu") -> FeatureNetwork:
    """The embedded attribute classifier, whose Inception score is over combinations of two colours of clothes."""
    classifier = load_embedded("attributes").to(device)
    description = {**network_description("attributes"), "feature_layers": f"pooled; {' x '.join(CLOTHES)}"}
    return FeatureNetwork(lambda images: classifier(to_network_size(images)), description, classifier.clothes_logits)


@contextmanager
def _weights_of(path: Path, network: str) -> Iterator[None]:
    """Context in which an error from a file with other or no weights becomes MetricUnavailable."""
    try:
        yield
    except (RuntimeError, KeyError, EOFError, pickle.UnpicklingError) as error:
        raise MetricUnavailable(f"{path} does not hold the weights of {network}: {error}") from error


def _identity_of(path: Path) -> dict[str, str]:
    return {"weights_file": path.name, "weights_sha256": sha256_of(path)}
