"""What every method promises, whatever it is made of, as functions for the tests of a method.

`tests/baselines/test_method_promises.py` calls them for every method of the suite.
"""

from contextlib import contextmanager

import numpy as np
import pytest
import torch

from xinggan.training.generation import image_seeds
from xinggan.training.loop import train
from xinggan.training.settings import TrainingSettings


def steps_of(method, people, steps, rows=4):
    """The losses of so many steps of training on the same pairs, as the trainer calls them."""
    torch.manual_seed(0)
    method.planned_steps = steps
    method.train().begin(people.train)
    batch = people.train.batch(range(rows))
    return [method.training_step(batch, step) for step in range(steps)]


@contextmanager
def calls_of(module):
    """Within it, the list grows by the batch size of each call of `module`."""
    sizes = []
    hook = module.register_forward_hook(lambda module, inputs, output: sizes.append(len(inputs[0])))
    yield sizes
    hook.remove()


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
    assert_same(undisturbed.state_dict(), resumed.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(average, result.average.state(), strict=True))


def assert_same(expected, found):
    """Both state dicts have the same tensors, bit by bit."""
    assert expected.keys() == found.keys()
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []


def assert_images_do_not_depend_on_their_batch(method, people):
    """`generate` gives a test pair's image alone as among others in another order, to the rounding of float32."""
    method.eval()

    def images(rows):
        return method.generate_pairs(people.test.batch(rows), torch.from_numpy(image_seeds(0, np.array(rows))))

    together = images([3, 0, 2])
    for place, row in enumerate([3, 0, 2]):
        torch.testing.assert_close(together[place], images([row])[0], atol=1e-5, rtol=0)
    assert (together[0] - together[1]).abs().max() > 1e-4  # else every method would pass that gives one image


def assert_weights_depend_on_the_seed_alone(make):
    """Other random numbers drawn before change nothing; another seed does."""
    states = []
    for disturbance, seed in ((1, 0), (2, 0), (3, 7)):
        torch.manual_seed(disturbance)
        states.append(make(seed=seed).state_dict())
    assert_same(states[0], states[1])
    assert any(not torch.equal(states[0][name], states[2][name]) for name in states[0])


def assert_checkpointing_changes_no_number(make, people):
    """Activations that are computed again give the same losses and weights, bit by bit."""
    kept, again = make(seed=0), make(seed=0)
    again.checkpoint_activations()
    for expected, found in zip(steps_of(kept, people, 4), steps_of(again, people, 4), strict=True):
        assert_same(expected, found)
    assert_same(kept.state_dict(), again.state_dict())
