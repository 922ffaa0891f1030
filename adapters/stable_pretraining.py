"""STAR as a method of stable-pretraining. Needs ``star-head[stable-pretraining]``.

Source: STAR (arXiv 2510.27222).
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from star_head._checks import describe
from star_head.augmentation import STARViews, check_views
from star_head.model import STAR

try:
    import stable_pretraining  # noqa: F401
except ImportError as error:
    raise ImportError(
        "star_head.adapters.stable_pretraining needs stable-pretraining: "
        'pip install "star-head[stable-pretraining]"'
    ) from error

__all__ = ["RecordedMultiViewTransform", "star"]


def star(self: Any, batch: dict[str, Any], stage: str) -> dict[str, Tensor]:
    """Forward function of STAR for ``stable_pretraining.Module``.

    Logs ``fit/loss`` and its two parts, ``fit/loss_invariant`` and ``fit/loss_equivariant``.

    Args:
        self: The module, with these keyword arguments:

            - ``backbone``: from images (B, 3, S, S) to pooled features (B, D);
            - ``projector``: a :class:`star_head.STARProjectionHead`;
            - ``star_loss``: a :class:`star_head.STARLoss`; default: STAR's, which gathers from all
              processes.
        batch: As :class:`RecordedMultiViewTransform` and a loader make it; or one image each,
            ``{"image": (B, 3, S, S), "label": (B,)}``, outside of training.
        stage: ``"fit"``, ``"validate"``, ``"test"`` or ``"predict"``.

    Returns:
        ``"embedding"``: the backbone's features, of all views one after another; ``"label"`` of
        each, where there are labels; and ``"loss"`` while training.

    Raises:
        TypeError: If the projector is another head, or the loss takes two tensors only.
        ValueError: If the batch's views were not recorded, or are not two.
    """
    # Of the module's own parts, which it has as keyword arguments; no copy is made.
    model = STAR(self.backbone, self.projector, getattr(self, "star_loss", None))
    samples = batch.get("views", [batch])
    out: dict[str, Tensor] = {}
    if "label" in samples[0]:
        out["label"] = torch.cat([sample["label"] for sample in samples])
    if not self.training:
        out["embedding"] = torch.cat([model.features(sample["image"]) for sample in samples])
        return out
    output = model.embed(_views_in(batch))
    terms = model.loss(*output.embeddings, *output.predicted)
    out["embedding"] = torch.cat(output.features)
    out["loss"] = terms.total
    logged = {"loss": terms.total, "loss_invariant": terms.invariant}
    if terms.equivariant is not None:
        logged["loss_equivariant"] = terms.equivariant
    named = {f"{stage}/{name}": value for name, value in logged.items()}
    size = len(samples[0]["image"])
    self.log_dict(named, on_step=True, on_epoch=True, sync_dist=True, batch_size=size)
    return out


def _views_in(batch: Mapping[str, Any]) -> STARViews:
    samples = batch.get("views")
    if not isinstance(samples, list | tuple) or "original" not in batch:
        raise ValueError(
            f"batch: expected the keys 'views' and 'original', as RecordedMultiViewTransform makes "
            f"them, got {sorted(batch)}"
        )
    return STARViews(
        batch["original"]["image"],
        [sample["image"] for sample in samples],
        [sample["params"] for sample in samples if "params" in sample],
    )


class RecordedMultiViewTransform:
    """Makes a sample's views by a transform that records them, as ``MultiViewTransform`` does.

    From ``{"image": ..., "label": ...}`` to ``{"views": [view, view], "original": ...}``, each of
    them the whole sample with another ``"image"``; a view has its ``"params"`` too. Forward
    functions that take the views of ``MultiViewTransform`` take these: ``simclr`` and the like.

    As the ``transform`` of one of stable-pretraining's data sets it is given an image; as its
    ``gpu_transform``, around ``star_head.adapters.kornia.RecordedTransform``, a batch of them.

    Args:
        transform: From an image, or a batch of them, to :class:`star_head.STARViews`:
            ``star_head.adapters.lightly.STARTransform``, or a ``RecordedTransform`` of
            ``star_head.adapters.torchvision`` or ``star_head.adapters.kornia``.

    Raises:
        TypeError: If ``transform`` cannot be called.

    Example:
        >>> from star_head.adapters.lightly import STARTransform
        >>> transform = RecordedMultiViewTransform(STARTransform(input_size=32))
        >>> image = torch.randint(256, (3, 48, 64), dtype=torch.uint8)
        >>> sample = transform({"image": image, "label": 7})
        >>> sorted(sample), sorted(sample["views"][0])
        (['original', 'views'], ['image', 'label', 'params'])
    """

    def __init__(self, transform: Callable[[Any], STARViews]) -> None:
        if isinstance(transform, type) or not callable(transform):
            raise TypeError(
                f"transform: expected one that records its views, such as STARTransform, got "
                f"{describe(transform)}"
            )
        self.transform = transform

    def __call__(self, sample: dict[str, Any]) -> dict[str, Any]:
        """Make the views of a sample.

        Raises:
            TypeError: If the transform gives anything but STARViews.
            ValueError: If the sample has no image.
        """
        if "image" not in sample:
            raise ValueError(f"sample: expected the key 'image', got {sorted(sample)}")
        made = self.transform(sample["image"])
        check_views("transform", made)
        views = [{**sample, "image": view} for view in made.views]
        # The first ones are recorded.
        for view, params in zip(views, made.params, strict=False):
            view["params"] = params
        return {"views": views, "original": {**sample, "image": made.original}}
