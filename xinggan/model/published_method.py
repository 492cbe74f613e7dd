"""Published checkpoints as methods: evaluated, timed and asked for images like the suite's own, without training."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from xinggan.data.batch import images_to_float
from xinggan.data.poses import pose_maps
from xinggan.data.settings import PoseMap
from xinggan.files import sha256_of
from xinggan.model.method import Method
from xinggan.model.published import load_published

# Height and width of the images that the published generators were trained on, in pixels. Those of Market-1501 have
# BatchNorm, those of DeepFashion InstanceNorm, and pose maps that had become one pixel a joint.
PUBLISHED_SIZES = {"market1501": (128, 64), "deepfashion": (256, 176)}


class PublishedGenerator(Method):
    """The generator of a published checkpoint as a method that is not trained; a subclass says how to `read` a file."""

    averaged = ("generator",)
    read: Callable[[str], nn.Module]  # a static method

    def __init__(self, path: str, sha256: str | None = None, pose_map: PoseMap | None = None, pose_sigma: float = 6.0):
        """sha256: of the file, checked if given. pose_map: None for what the file was trained with.

        Raises ValueError for a file that is not the published generator or has another hash.
        """
        super().__init__()
        if sha256 is not None and (found := sha256_of(Path(path))) != sha256:
            raise ValueError(f"{path}: the file has changed, its SHA-256 is {found} and was {sha256}")
        self.generator = self.read(path)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        norms = [module for module in self.generator.modules() if isinstance(module, nn.BatchNorm2d)]
        self.data_set = "market1501" if norms else "deepfashion"
        self.pose_map = pose_map or (PoseMap.gaussian if norms else PoseMap.onehot)
        self.pose_sigma = pose_sigma

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images that it was trained on, in pixels."""
        return PUBLISHED_SIZES[self.data_set]

    @torch.no_grad()
    def generate(self, source: Tensor, source_pose: Tensor, target_pose: Tensor, seeds: Tensor) -> Tensor:
        """See `Method.generate`. The seeds change nothing."""
        image = images_to_float(source)
        maps = (pose_maps(poses, image, self.pose_map, self.pose_sigma) for poses in (source_pose, target_pose))
        with self.autocast():
            return self.generator(image, *maps).float()


class PublishedXingGAN(PublishedGenerator):
    """A published checkpoint of XingGAN (ECCV 2020)."""

    read = staticmethod(load_published)
