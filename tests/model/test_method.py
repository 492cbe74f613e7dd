"""What every method has from its base class: an update down a loss, its gradient shortened where a limit is set."""

import pytest
import torch
from torch import Tensor, nn

from xinggan.model.method import Method


class Slope(Method):
    """Its loss has the gradient (3, 4) everywhere."""

    def __init__(self):
        super().__init__()
        self.place = nn.Parameter(torch.zeros(2))
        self.optimisers["place"] = torch.optim.SGD([self.place], lr=1.0)

    def loss(self) -> Tensor:
        return (self.place * torch.tensor([3.0, 4.0])).sum()


@pytest.mark.parametrize(("limit", "step"), [(None, [-3, -4]), (10, [-3, -4]), (1, [-0.6, -0.8])])
def test_a_gradient_over_the_limit_is_shortened_to_it_and_its_norm_reported_as_it_was(limit, step):
    method = Slope()
    norm = method.update("place", method.loss(), limit)
    assert norm.item() == pytest.approx(5)
    torch.testing.assert_close(method.place.detach(), torch.tensor(step).float(), atol=1e-5, rtol=1e-5)


def test_a_gradient_that_is_not_finite_is_reported_with_or_without_a_limit():
    for limit in (None, 1.0):
        method = Slope()
        assert not method.update("place", method.loss() * float("inf"), limit).isfinite()
