"""Views of two sizes, for methods that compare small crops with large ones."""

from lightly.transforms.dino_transform import DINOViewTransform

from star_head.adapters.lightly import STARMultiViewTransform, STARTransform


def multi_crop(
    size: int, normalize: dict[str, list[float]], min_scale: float = 0.4
) -> STARMultiViewTransform:
    """Two large views, recorded, and four small ones as lightly makes them for DINO.

    Args:
        size: Side of the large views in pixels.
        normalize: Mean and standard deviation of the pixels in [0, 1].
        min_scale: Smallest area of a large crop relative to the image's, and largest of a small.
    """
    large = STARTransform(size, min_scale=min_scale, normalize=normalize)
    # Three quarters, for a half would leave too little of small images.
    small = DINOViewTransform(
        crop_size=3 * size // 4,
        crop_scale=(0.05, min_scale),
        gaussian_blur=0.5,
        solarization_prob=0,
        normalize=normalize,
    )
    return STARMultiViewTransform([large, large], [small] * 4)
