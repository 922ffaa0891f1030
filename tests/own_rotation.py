"""A user's own transform, which is recorded as its base is and is no class of torchvision's."""

from torchvision.transforms import v2


class OwnRotation(v2.RandomRotation):
    """Behaves as its base."""
