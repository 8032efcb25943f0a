"""A branch on how many values of an image are such and such is seen. PyTorch is an extra."""

import pytest

from keras_amalgam import teachers

pytestmark = pytest.mark.slow


def by_nonzero(x):
    return (x > 50).nonzero().shape[0] > 0


def by_mask(x):
    return len(x[x > 50]) > 0


def by_masked_select(x):
    return x.masked_select(x > 50).numel() > 0


def by_unique(x):
    return len(x.round().unique()) > 50


@pytest.mark.parametrize("count", [by_nonzero, by_mask, by_masked_select, by_unique])
def test_branch_on_a_count_of_values_is_refused_with_its_line(count):
    import torch

    class Deciding(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.head = torch.nn.Linear(3, 2)

        def forward(self, x):
            y = self.head(x.mean((2, 3)))
            return y * 2 if count(x) else y

    with pytest.raises(ValueError, match=r"test_torch_counts.py:\d+ .*torch.where"):
        teachers.from_torch(Deciding(), (1, 3, 8, 8))
