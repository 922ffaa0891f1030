"""The same share of every class's labels, whoever is measured."""

import numpy as np
import pytest
import torch

from star_head.evaluation import label_part


@pytest.mark.parametrize("share", [0.01, 0.1, 0.37, 1.0])
@pytest.mark.parametrize("sizes", [[100], [50, 400, 73], [1000, 51, 99, 60]])
def test_each_class_has_its_share(share: float, sizes: list[int]) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    part = label_part(labels, share)
    assert (np.diff(part) > 0).all()
    for c, size in enumerate(sizes):
        assert abs((labels[part] == c).sum() - share * size) <= 0.5
    if share == 1:
        assert len(part) == len(labels)


def test_depends_on_labels_and_seed_alone_and_lies_in_larger_parts() -> None:
    labels = torch.arange(7).repeat(100)
    torch.manual_seed(1)
    part = label_part(labels, 0.1)
    torch.manual_seed(2)
    assert np.array_equal(part, label_part(labels.numpy(), 0.1))
    assert not np.array_equal(part, label_part(labels, 0.1, seed=1))
    assert set(label_part(labels, 0.02)) < set(part) < set(label_part(labels, 0.5))


@pytest.mark.parametrize(
    ("labels", "share", "error", "message"),
    [
        (
            [0, 0, 0, 1],
            0.2,
            ValueError,
            "share: 0.2 of the 1 images of class 1 leaves none; take 0.5",
        ),
        ([0, 1], 0.0, ValueError, "share: expected above 0 and at most 1, got 0.0"),
        ([0, 1], 1.5, ValueError, "share: expected above 0 and at most 1, got 1.5"),
        ([0, 1], "0.1", TypeError, "share: expected a number"),
        ([0.0, 1.0], 0.5, TypeError, r"labels: expected integers \(n,\)"),
        ([-1, 0], 1.0, ValueError, "labels: expected classes from 0, got -1"),
    ],
)
def test_bad_input(labels: list, share: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        label_part(np.array(labels), share)
