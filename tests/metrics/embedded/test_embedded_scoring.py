"""The embedded metrics are what their names say: closed forms and the slow way."""

import numpy as np
import pytest
import torch

from xinggan.metrics.embedded.networks import CLOTHES, load_embedded, to_network_size


def random_images(seed: int) -> torch.Tensor:
    coarse = torch.randint(0, 256, (3, 3, 16, 8), generator=torch.Generator().manual_seed(seed))
    return coarse.to(torch.uint8).repeat_interleave(8, 2).repeat_interleave(8, 3)


def test_the_inception_scores_classes_are_all_combinations_of_two_colours():
    classifier = load_embedded("attributes")
    logits = torch.randn(5, sum(classifier.attributes.values()))
    upper, lower = (classifier.by_attribute(logits)[name].softmax(1) for name in CLOTHES)
    joint = classifier.clothes_logits(logits).softmax(1)
    assert torch.allclose(joint, torch.einsum("ni,nj->nij", upper, lower).flatten(1), atol=1e-6)


def test_perceptual_distance_equals_the_sum_written_out_and_is_zero_for_equal_images():
    classifier = load_embedded("attributes")
    a, b = random_images(2), random_images(3)
    expected = []
    for image_a, image_b in zip(a, b, strict=True):
        with torch.inference_mode():
            maps = [classifier.stage_features(to_network_size(image[None])) for image in (image_a, image_b)]
        stages = []
        for x, y in zip(*maps, strict=True):
            x, y = x[0].double(), y[0].double()
            total = 0.0
            for row, column in np.ndindex(x.shape[1:]):
                u, v = x[:, row, column], y[:, row, column]
                total += float(((u / max(u.norm(), 1e-4) - v / max(v.norm(), 1e-4)) ** 2).sum())
            stages.append(total / (x.shape[1] * x.shape[2]))
        expected.append(np.mean(stages))
    found = classifier.perceptual_distance(a, b)
    assert found.tolist() == pytest.approx(expected, rel=1e-3)
    assert torch.allclose(found, classifier.perceptual_distance(b, a))
    assert torch.equal(classifier.perceptual_distance(a, a), torch.zeros(3, dtype=torch.float64))


def test_attribute_agreement_is_the_share_of_equal_answers():
    classifier = load_embedded("attributes")
    logits = torch.randn(2, sum(classifier.attributes.values()))
    changed = logits.clone()
    first = classifier.by_attribute(changed)["upper_kind"]  # a view into `changed`
    first[1] = -first[1] if first[1].argmax() != (-first[1]).argmax() else first[1].roll(1)
    share = classifier.agreement(logits, changed)
    assert share.tolist() == pytest.approx([1.0, 1 - 1 / len(classifier.attributes)])
