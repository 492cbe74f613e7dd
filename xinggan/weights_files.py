"""Files of the published weights of frozen networks: they lie in the usual download folder of torch's hub.

Scoring takes what is there and never downloads, so that a run gives the same metrics whether or not its machine reaches
a network; a missing file makes a metric unavailable, and the reason says what to put where. To download explicitly,
once: `python -m xinggan.weights_files alex inception`.
"""

from pathlib import Path

from xinggan.command import Failed, exit_status, parser_of, run_command
from xinggan.files import atomic_path, sha256_of, without_places

NETWORKS = {
    "alex": "AlexNet, the backbone of LPIPS (default)",
    "vgg": "VGG16, the backbone of LPIPS (vgg)",
    "squeeze": "SqueezeNet 1.1, the backbone of LPIPS (squeeze)",
    "inception": "Inception 2015-12-05, the network of FID, IS, KID, precision and recall",
    "inception-imagenet": "torchvision's Inception-v3, the network of fid_imagenet (tables of GFLA, PIDM and CFLD)",
}


class MetricUnavailable(RuntimeError):
    """A metric cannot be computed here; the message is the reason that goes into the run record."""


def find_weights(network: str) -> Path:
    """The weights file of one of NETWORKS. Raises MetricUnavailable, saying what to put where, if it is not there."""
    url = source_of(network)
    path = place_of(url)
    if not path.is_file():
        folder = without_places(str(path.parent))
        raise MetricUnavailable(
            f"weights of {NETWORKS[network]} are missing: put {path.name} (from {url}) into {folder}, "
            f"or run `python -m xinggan.weights_files {network}` where there is a network"
        )
    return path


def source_of(network: str) -> str:
    """The address that the network's own library downloads from. Raises ValueError for a name not in NETWORKS."""
    from xinggan.torchvision_operators import import_torchvision

    models = import_torchvision().models
    if network == "inception":
        from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

        return URL_INCEPTION_V3
    enums = {
        "alex": models.AlexNet_Weights,
        "vgg": models.VGG16_Weights,
        "squeeze": models.SqueezeNet1_1_Weights,
        "inception-imagenet": models.Inception_V3_Weights,
    }
    if network not in enums:
        raise ValueError(f"unknown feature network {network!r}; known are {', '.join(NETWORKS)}")
    return enums[network].IMAGENET1K_V1.url


def place_of(url: str) -> Path:
    """The path at which torch's hub keeps the file of an address: $TORCH_HOME/hub/checkpoints/<name>."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]


def download(url: str) -> Path:
    """The file of an address in its place, downloaded whole and checked unless it is there. Raises OSError without a
    network and RuntimeError for a file whose hash is not the one in its name."""
    import torch

    path = place_of(url)
    if not path.is_file():
        hash_prefix = path.stem.rsplit("-", 1)[-1]  # torch's convention: the name ends in the hash's first digits
        with atomic_path(path) as temporary:
            torch.hub.download_url_to_file(url, str(temporary), hash_prefix=hash_prefix)
    return path


def main(arguments: list[str] | None = None) -> int:
    """Download the named networks' weights to where `find_weights` looks."""
    parser = parser_of("xinggan.weights_files", main.__doc__)
    parser.add_argument("networks", nargs="+", choices=NETWORKS, metavar="NETWORK", help=", ".join(NETWORKS))
    networks = parser.parse_args(arguments).networks

    def fetch() -> None:
        for network in networks:
            url = source_of(network)
            try:
                path = download(url)
            except (OSError, RuntimeError) as error:
                raise Failed(f"{network}: {url} could not be downloaded to {place_of(url)}: {error}") from error
            print(f"{network}: {path} (SHA-256 {sha256_of(path)})")

    return exit_status("xinggan.weights_files", fetch)


if __name__ == "__main__":
    run_command(main)
