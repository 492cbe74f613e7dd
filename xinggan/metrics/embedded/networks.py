"""The embedded networks: a pose estimator and an attribute classifier for synthetic people.

Both are plain stacks of 3x3 convolutions that look at 128x64 pixels, whatever the resolution of the images. Batch
normalisation exists in training only; `folded` puts it into the convolutions before a network is stored.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HEIGHT, WIDTH = 128, 64  # pixels the networks look at
JOINTS = 18
CELL = 4  # pixels a cell of the pose estimator's maps


class Convolution(nn.Sequential):
    """3x3 convolution, batch normalisation while training, ReLU."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1, training_form: bool = False):
        convolution = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=not training_form)
        norm = [nn.BatchNorm2d(channels_out)] if training_form else []
        super().__init__(convolution, *norm, nn.ReLU())


class PoseEstimator(nn.Module):
    """Finds the 18 joints of the one person in an image: a map of places and a presence for each joint."""

    def __init__(self, training_form: bool = False):
        super().__init__()
        self.stem = self._stack(training_form, (3, 16, 2), (16, 48, 2), (48, 48, 1))
        self.down1 = self._stack(training_form, (48, 96, 2), (96, 96, 1))
        self.down2 = self._stack(training_form, (96, 96, 2), (96, 96, 1))
        self.up1 = self._stack(training_form, (96, 96, 1), (96, 48, 1))
        self.up2 = self._stack(training_form, (48, 48, 1), (48, 48, 1))
        self.maps = nn.Conv2d(48, JOINTS, 1)
        self.presence = nn.Linear(96, JOINTS)

    @staticmethod
    def _stack(training_form: bool, *shapes: tuple[int, int, int]) -> nn.Sequential:
        return nn.Sequential(*(Convolution(*shape, training_form=training_form) for shape in shapes))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """images: [B, 3, 128, 64] in [-1, 1]. Returns logits of places [B, 18, 32, 16] and of presence [B, 18]."""
        quarter = self.stem(images)  # (B, 48, 32, 16)
        eighth = self.down1(quarter)  # (B, 96, 16, 8)
        deep = self.down2(eighth)  # (B, 96, 8, 4)
        eighth = self.up1(eighth + F.interpolate(deep, scale_factor=2.0))  # (B, 48, 16, 8)
        quarter = self.up2(quarter + F.interpolate(eighth, scale_factor=2.0))  # (B, 48, 32, 16)
        return self.maps(quarter), self.presence(deep.amax((2, 3)))
