"""Published checkpoints as methods: the file's generator, the pose maps it was trained with, no other file."""

import hashlib

import pytest
import torch

from xinggan.data.batch import images_to_float
from xinggan.data.poses import heatmaps
from xinggan.data.settings import PoseMap
from xinggan.model.generator import XingGenerator, initialise_generator, xinggan
from xinggan.model.published_method import PublishedGenerator
from xinggan.model.switches import Norm


def small_generator(norm: Norm) -> XingGenerator:
    generator = XingGenerator(xinggan(width=4, blocks=2, norm=norm))
    initialise_generator(generator, 0)
    return generator.eval()


class SmallBatchNorm(PublishedGenerator):
    read = staticmethod(lambda _: small_generator(Norm.batch))


class SmallInstanceNorm(PublishedGenerator):
    read = staticmethod(lambda _: small_generator(Norm.instance))


@pytest.mark.parametrize(
    ("kind", "norm", "maps", "size"),
    [
        (SmallBatchNorm, Norm.batch, PoseMap.gaussian, (128, 64)),
        (SmallInstanceNorm, Norm.instance, PoseMap.onehot, (256, 176)),
    ],
)
def test_the_method_is_the_files_generator_on_the_pose_maps_it_was_trained_with(kind, norm, maps, size, people):
    method = kind("file", pose_sigma=3.0)
    assert (method.size, method.pose_map) == (size, maps)
    batch = people.test.batch([0, 1, 2])
    seeds = torch.zeros(3, dtype=torch.int64)
    image = images_to_float(batch.source_image)
    source, target = (heatmaps(poses, 32, 16, 3.0, maps.value) for poses in (batch.source_pose, batch.target_pose))
    with torch.no_grad():
        expected = small_generator(norm)(image, source, target)
    torch.testing.assert_close(method.generate_pairs(batch, seeds), expected, rtol=0, atol=1e-5)


def test_another_file_than_the_recorded_one_is_refused(tmp_path):
    file = tmp_path / "generator.pth"
    file.write_bytes(b"what it was")
    recorded = hashlib.sha256(b"what it was").hexdigest()
    SmallBatchNorm(str(file), recorded)
    file.write_bytes(b"what it has become")
    with pytest.raises(ValueError, match=rf"the file has changed.*{recorded}"):
        SmallBatchNorm(str(file), recorded)
