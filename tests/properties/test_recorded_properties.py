"""Random trees of operations, wrapped: what they draw, what they record, how they replay."""

from typing import Any

import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from lightly.transforms import GaussianBlur, RandomRotate, RandomSolarization
from lightly.transforms.rotation import RandomRotateDegrees
from same_draws import check_same, picture
from torch import nn
from torchvision import transforms as v1
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from star_head.adapters.torchvision import RecordedTransform

PROBABILITIES = st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1))
MODULES = st.sampled_from([v1, v2])


def of_both(make: Any, **arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """An operation of either generation, by drawn arguments."""
    return st.builds(lambda module, **drawn: make(module, **drawn), MODULES, **arguments)


def several(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(children, min_size=1, max_size=3)


# Whatever they come after, these can be applied: to PIL images and to uint8 tensors alike.
LEAVES = st.one_of(
    of_both(lambda m, p: m.RandomHorizontalFlip(p), p=PROBABILITIES),
    of_both(lambda m, p: m.RandomVerticalFlip(p), p=PROBABILITIES),
    of_both(lambda m, p: m.RandomInvert(p), p=PROBABILITIES),
    of_both(lambda m, p: m.RandomGrayscale(p), p=PROBABILITIES),
    of_both(lambda m, p: m.RandomPosterize(3, p), p=PROBABILITIES),
    of_both(lambda m, p: m.RandomSolarize(99, p), p=PROBABILITIES),
    of_both(lambda m, p: m.RandomAutocontrast(p), p=PROBABILITIES),
    of_both(lambda m, s: m.ColorJitter(s, s, 2 * s, s), s=st.floats(0, 0.5)),
    of_both(lambda m, size: m.RandomResizedCrop(size), size=st.integers(4, 20)),
    of_both(
        lambda m, size, padding: m.RandomCrop(size, padding, pad_if_needed=True),
        size=st.tuples(st.integers(2, 30), st.integers(2, 30)),
        padding=st.one_of(st.none(), st.integers(0, 3)),
    ),
    of_both(
        lambda m, degrees, expand: m.RandomRotation(degrees, expand=expand),
        degrees=st.floats(0, 180),
        expand=st.booleans(),
    ),
    of_both(
        lambda m, degrees: m.RandomAffine(degrees, (0.1, 0.2), (0.7, 1.4), degrees / 4),
        degrees=st.floats(0, 180),
    ),
    of_both(lambda m, scale, p: m.RandomPerspective(scale, p), scale=st.floats(0, 1),
            p=PROBABILITIES),
    of_both(lambda m, sigma: m.GaussianBlur(3, (0.2, 0.2 + sigma)), sigma=st.floats(0, 2)),
    of_both(lambda m, size: m.Resize(size), size=st.integers(3, 24)),
    of_both(lambda m, size: m.CenterCrop(size), size=st.integers(3, 24)),
    of_both(lambda m, padding: m.Pad(padding), padding=st.integers(0, 3)),
    of_both(lambda m, channels: m.Grayscale(channels), channels=st.just(3)),
    st.builds(lambda p: v2.RandomZoomOut(p=p, side_range=(1, 1.5)), PROBABILITIES),
    st.builds(lambda size: v2.RandomResize(size, size + 9), st.integers(3, 20)),
    st.builds(lambda p: RandomRotate(p, 90), PROBABILITIES),
    st.builds(RandomRotateDegrees, PROBABILITIES, st.floats(0, 180)),
)  # fmt: skip
PIL_LEAVES = st.one_of(
    st.builds(lambda p: GaussianBlur(prob=p), PROBABILITIES),
    st.builds(RandomSolarization, PROBABILITIES),
)


def trees(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    def inner(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        groups = several(children)
        modules = st.builds(
            lambda children: nn.Sequential(*children),
            several(children.filter(lambda child: isinstance(child, nn.Module))),
        )
        return st.one_of(
            of_both(lambda m, c: m.Compose(c), c=groups),
            of_both(lambda m, c, p: m.RandomApply(c, p), c=groups, p=PROBABILITIES),
            of_both(lambda m, c: m.RandomChoice(c), c=groups),
            of_both(lambda m, c: m.RandomChoice(c, [*range(1, len(c)), 0.5]), c=groups),
            of_both(lambda m, c: m.RandomOrder(c), c=groups),
            modules,
        )

    return st.recursive(leaves, inner, max_leaves=7)


def wrapped(tree: Any) -> RecordedTransform:
    """The tree, after which a number is sure to come, and a crop that shows any wrong size."""
    return RecordedTransform(v2.Compose([tree, v2.RandomCrop(2), v2.ToImage()]), 1)


@given(trees(st.one_of(LEAVES, PIL_LEAVES)), st.integers(0, 2**32 - 2))
def test_trees_on_pil_images(tree: Any, seed: int) -> None:
    check_same(wrapped(tree), picture(19, 26), seed)


@given(trees(LEAVES), st.integers(0, 2**32 - 2), st.sampled_from([3, 1]))
def test_trees_on_tensors(tree: Any, seed: int, channels: int) -> None:
    image = F.pil_to_tensor(picture(19, 26))[:channels]
    recorded = wrapped(tree)
    # Not all of them take one channel.
    assume(channels == 3 or not _needs_colour(repr(tree)))
    check_same(recorded, image, seed)


def _needs_colour(text: str) -> bool:
    return any(name in text for name in ("Grayscale", "ColorJitter"))


@given(trees(st.one_of(LEAVES, PIL_LEAVES)), st.integers(0, 2**32 - 2))
def test_names_are_unique_and_neutral_where_nothing_was_drawn(tree: Any, seed: int) -> None:
    never = v2.RandomApply([v2.RandomApply([tree], p=1.0)], p=1e-30)
    recorded = RecordedTransform(v2.Compose([never, v2.RandomHorizontalFlip(), v2.ToImage()]), 1)
    names = [p.name for p in recorded.parameters]
    assert len(set(names)) == len(names)
    torch.manual_seed(seed)
    params = recorded(picture(19, 26)).params[0]
    sides = {"image height": 19, "image width": 26}
    neutral = [sides.get(p.neutral, p.neutral) for p in recorded.parameters]
    assert params[:-1].tolist() == neutral[:-1]


@given(trees(st.one_of(LEAVES, PIL_LEAVES)), st.integers(0, 2**32 - 2))
def test_what_differs_between_views_is_in_the_numbers(tree: Any, seed: int) -> None:
    """Views with the same numbers are the same view, unless an order was drawn."""
    assume("RandomOrder" not in repr(tree))
    assume("ColorJitter" not in repr(tree))  # draws an order too
    recorded = RecordedTransform(v2.Compose([tree, v2.RandomInvert(), v2.ToImage()]), 6)
    torch.manual_seed(seed)
    views = recorded(picture(19, 26))
    for i, params in enumerate(views.params):
        for j in range(i):
            if torch.equal(params, views.params[j]):
                assert torch.equal(views.views[i], views.views[j])
