"""AugSelf or E-SSL beside a method in place of STAR, by ``--task`` of each file beside this one."""

from collections.abc import Callable
from typing import Any, Literal

from lightning.pytorch import LightningModule
from PIL import Image
from torch import Tensor, nn

from star_head import STARViews
from star_head.adapters.torchvision import RecordedTransform
from star_head.baselines import ESSL, AugSelf, quarter_turns

Task = Literal["star", "augself", "essl"]


def beside(
    method: Callable[..., LightningModule], task: AugSelf | ESSL
) -> Callable[..., LightningModule]:
    """A method's class whose step adds a task's loss; the optimiser takes the task's weights too.

    AugSelf takes the features that the method has computed of its two views; E-SSL has the backbone
    compute those of :class:`WithSmallView`'s images, turned four ways.

    Args:
        method: A class with a ``backbone``, whose ``configure_optimizers`` takes all parameters.
        task: What is added.
    """

    class WithTask(method):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.task = task

        def training_step(self, batch: Any, batch_index: int) -> Tensor:
            if isinstance(task, ESSL):
                (views, small), *rest = batch
                loss = super().training_step((views, *rest), batch_index)
                turned, choices = quarter_turns(small)
                return loss + task(self.backbone(turned).flatten(start_dim=1), choices)
            views = batch[0]
            computed = Features(self.backbone)
            loss = super().training_step(batch, batch_index)
            features = computed.of(views.views[:2])
            return loss + task(*features, *views.params)

    WithTask.__name__ = getattr(method, "__name__", repr(method))
    return WithTask


class Features:
    """Notes what a backbone makes of each batch of images, until it is asked.

    Args:
        backbone: The method's backbone.
    """

    def __init__(self, backbone: nn.Module) -> None:
        self.computed: list[tuple[Tensor, Tensor]] = []
        self.hook = backbone.register_forward_hook(self._note)

    def _note(self, _: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.computed.append((inputs[0], output.flatten(start_dim=1)))

    def of(self, views: tuple[Tensor, ...]) -> list[Tensor]:
        """The features of each view, (n, D).

        Raises:
            ValueError: If the method has not computed those of each view by itself.
        """
        self.hook.remove()
        found = [y for view in views for x, y in self.computed if x is view]
        if len(found) != len(views):
            raise ValueError(
                f"task: AugSelf needs the online backbone's features of both views, and the method "
                f"computes those of {len(found)}; simclr, simsiam, byol and others compute both"
            )
        return found


class WithSmallView:
    """A method's views of an image and a small one beside them, for E-SSL.

    Args:
        transform: Makes the method's views.
        small: The method's transform at half the side, of which one view is made.
    """

    def __init__(
        self, transform: Callable[[Image.Image], STARViews], small: RecordedTransform
    ) -> None:
        self.transform = transform
        self.small = small

    def __call__(self, image: Image.Image) -> tuple[STARViews, Tensor]:
        image = image.convert("RGB")
        return self.transform(image), self.small.apply(image, self.small.sample(image))
