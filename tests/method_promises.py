"""What every method promises, whatever it is made of; the tests of each method call these."""

import numpy as np
import pytest
import torch

from xinggan.training.generation import image_seeds
from xinggan.training.loop import train
from xinggan.training.settings import TrainingSettings


def assert_resumes_exactly(make, people, folder):
    """A training that is killed between two checkpoints ends with the weights of one that was left alone."""
    settings = TrainingSettings(
        steps=6, decay_steps=3, batch=4, ema=0.9, log_every=1, sample_every=0, checkpoint_every=2
    )  # fmt: skip
    undisturbed = make(seed=0)
    average = train(undisturbed, people, settings, folder / "undisturbed").average.state()

    killed = make(seed=0)
    step_of_method = killed.training_step

    def killed_in_the_sixth(batch, step):
        if step == 5:
            raise KeyboardInterrupt
        return step_of_method(batch, step)

    killed.training_step = killed_in_the_sixth
    with pytest.raises(KeyboardInterrupt):
        train(killed, people, settings, folder / "killed")
    resumed = make(seed=99)  # whatever it starts from, the checkpoint decides
    result = train(resumed, people, settings, folder / "killed")
    assert result.finished
    expected, got = undisturbed.state_dict(), resumed.state_dict()
    assert expected.keys() == got.keys()
    assert all(torch.equal(expected[name], got[name]) for name in expected)
    assert all(torch.equal(a, b) for a, b in zip(average, result.average.state(), strict=True))


def assert_images_do_not_depend_on_their_batch(method, people):
    """`generate` gives a test pair's image alone as among others in another order, to the rounding of float32."""
    method.eval()

    def images(rows):
        batch, seeds = people.test.batch(rows), torch.from_numpy(image_seeds(0, np.array(rows)))
        return method.generate(batch.source_image, batch.source_pose, batch.target_pose, seeds)

    together = images([3, 0, 2])
    for place, row in enumerate([3, 0, 2]):
        torch.testing.assert_close(together[place], images([row])[0], atol=1e-5, rtol=0)
    assert (together[0] - together[1]).abs().max() > 1e-3  # else every method would pass that gives one image
