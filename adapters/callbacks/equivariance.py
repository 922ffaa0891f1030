"""How far features follow what is done to an image, while they are trained."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from star_head import Parameter
from star_head._checks import check_count, check_pooled, describe
from star_head._gather import rank, world_size
from star_head._seeds import all_seeded, mix_seeds
from star_head._view_parameters import (
    images_held_out,
    view_parameter_r2,
    view_parameter_r2_by_chance,
)
from star_head.adapters._samples import DataSet, check_data_set, split_sample
from star_head.metrics import retrieval, retrieval_chance

from ._monitor import LeftOut, Monitor, as_float, looking_at
from ._reading import Reading, check_reading, check_there, read

# A fifth of the images is held out from reading parameters off.
LEAST_IMAGES = 5
# Images at a time, each with its views.
_BATCH = 16


class EquivarianceMonitor(Monitor):
    """Measures on recorded views of a fixed sample of held-out images, with chance beside each.

    From the features alone, for any method: R^2 of each augmentation parameter, read off the
    features of original and view by ridge regression, as ``r2/crop_top`` and so on, ``mean_r2``,
    and the same with ``_chance``, where views come with each other's parameters. For a method that
    predicts the embeddings of views also ``mean_reciprocal_rank``, ``hit_at_1``, ``hit_at_5`` and
    ``prediction_retrieval_error`` (:func:`star_head.metrics.retrieval`), each with ``_chance``.
    The views are drawn once, from a seed, and held in memory: 127 MB by the defaults at 96 pixels,
    694 MB at 224, over all processes.

    Args:
        features: Name of the module's part that makes features (B, D) of images, such as
            ``"backbone"``, or a function of the module and images.
        data_set: Data set of images that is not trained on, with labels or without: PIL images or
            uint8 tensors, as the transform takes them.
        transform: The one that is trained with, or another: ``STARTransform``, any transform of
            lightly or torchvision, or a ``RecordedTransform``.
        embeddings: Name of the part that makes equivariant embeddings (B, d) of images, or pairs
            whose second is one, as STAREmbeddings are; or a function of the module and images.
        predict: Name of what predicts views' embeddings from those of the originals and the
            parameters, such as ``"projection_head.predict"``; or a function of the module, the
            embeddings and the parameters.
        images: How many images, always the same.
        views: Views of each.
        every_n_epochs: How often it is measured.

    Raises:
        TypeError: If an argument is of another kind, or the transform cannot be recorded.
        ValueError: If a number is out of range, the data set is empty, or ``embeddings`` comes
            without ``predict`` or the other way round.

    Example:
        >>> from star_head.adapters.lightly import STARTransform
        >>> held_out = [torch.randint(256, (3, 40, 40), dtype=torch.uint8) for _ in range(20)]
        >>> callbacks = [EquivarianceMonitor("backbone", held_out, STARTransform(32))]
    """

    def __init__(
        self,
        features: Reading,
        data_set: DataSet,
        transform: Any,
        *,
        embeddings: Reading | None = None,
        predict: Reading | None = None,
        images: int = 128,
        views: int = 8,
        every_n_epochs: int = 1,
    ) -> None:
        super().__init__()
        check_reading("features", features)
        if (embeddings is None) != (predict is None):
            raise ValueError(
                f"embeddings, predict: expected both, or neither to measure features alone, got "
                f"{describe(embeddings)} and {describe(predict)}"
            )
        for name, given in (("embeddings", embeddings), ("predict", predict)):
            if given is not None:
                check_reading(name, given)
        check_count("images", images, LEAST_IMAGES)
        check_count("views", views, 2)
        check_count("every_n_epochs", every_n_epochs)
        self._features = features
        self._data_set = check_data_set(data_set)
        self._transform = recorded(transform)
        self._embeddings = embeddings
        self._predict = predict
        self._images = images
        self._views = views
        self._every_n_epochs = every_n_epochs
        specs: Any = getattr(self._transform, "parameters", Parameter)
        self._names = [spec.label.replace(" ", "_") for spec in specs]
        self._sample: tuple[Tensor, Tensor, Tensor] | None = None
        if len(data_set) < LEAST_IMAGES:
            raise ValueError(
                f"data_set: expected at least {LEAST_IMAGES} images, got {len(data_set)}"
            )
        self._view(0)  # says what is wrong with images before anything is trained

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """See that the module has what is named."""
        check_there("features", self._features, pl_module)
        check_there("embeddings", self._embeddings, pl_module)
        check_there("predict", self._predict, pl_module)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Measure the network before training, at step 0."""
        if trainer.global_step == 0:
            self.log_now(trainer, self._measure(trainer, pl_module))

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Measure."""
        if (trainer.current_epoch + 1) % self._every_n_epochs == 0:
            pl_module.log_dict(self._measure(trainer, pl_module), sync_dist=True)

    def _view(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """The original, its views (K, C, S, S) and their parameters (K, P)."""
        image = split_sample(self._data_set[index], index)[0]
        with all_seeded(mix_seeds(0, index) >> 1):
            records = [self._transform.sample(image) for _ in range(self._views)]
            views = torch.stack([self._transform.apply(image, record) for record in records])
            params = torch.stack([record.vector() for record in records])
            return self._transform.original(image), views, params

    def _own_sample(self) -> tuple[Tensor, Tensor, Tensor]:
        """This process's share of the images, drawn the first time."""
        if self._sample is None:
            order = torch.randperm(len(self._data_set), generator=torch.Generator().manual_seed(0))
            mine = order[: self._images][rank() :: world_size()].tolist()
            originals, views, params = zip(*map(self._view, mine), strict=True)
            self._sample = torch.stack(originals), torch.stack(views), torch.stack(params)
        return self._sample

    def _measure(self, trainer: Any, module: Any) -> dict[str, float]:
        parts = None
        with self.left_out("reading"):
            read_off = [
                self._read(trainer, module, *(t[start : start + _BATCH] for t in sample))
                for sample in [self._own_sample()]
                for start in range(0, len(sample[0]), _BATCH)
            ]
            parts = [torch.cat(tensors) for tensors in zip(*read_off, strict=True)]
        joined = self.join(parts, module.device)
        if joined is None:
            return {}
        rows = [tensor.cpu() for tensor in joined]
        found: dict[str, float] = {}
        with self.left_out("r2"):
            found |= self._parameters(*rows[:3])
        if len(rows) > 3:
            with self.left_out("retrieval"):
                found |= _retrieval(*rows[2:])
        return found

    def _read(
        self, trainer: Any, module: Any, originals: Tensor, views: Tensor, params: Tensor
    ) -> list[Tensor]:
        """Of m images: features, those of K views, parameters, embeddings and predictions."""
        m, k = views.shape[:2]
        with looking_at(trainer, module, torch.cat([originals, views.flatten(0, 1)])) as images:
            features = self._pooled(module, images)
            read_off = [features[:m], features[m:].view(m, k, -1), params.to(features)]
            if self._embeddings is None or self._predict is None:
                return read_off
            z = read("embeddings", self._embeddings, module, images)
            if isinstance(z, tuple | list):
                z = z[1]
            of_views = as_float(z, "embeddings")[m:]
            predicted = read(
                "predict",
                self._predict,
                module,
                z[:m].repeat_interleave(k, dim=0),
                params.flatten(0, 1).to(z),
            )
            predicted = as_float(predicted, "predict")
        return [*read_off, of_views.view(m, k, -1), predicted.view(m, k, -1)]

    def _pooled(self, module: Any, images: Tensor) -> Tensor:
        found = check_pooled("features", read("features", self._features, module, images))
        return as_float(found, "features")

    def _parameters(self, original: Tensor, views: Tensor, params: Tensor) -> dict[str, float]:
        held_out = images_held_out(len(original), seed=0)
        values = view_parameter_r2(original, views, params, held_out)
        chance = view_parameter_r2_by_chance(original, views, params, held_out, seed=0)
        found: dict[str, float] = {}
        for suffix, r2 in (("", values), ("_chance", chance)):
            named = dict(zip(self._names, r2.tolist(), strict=True))
            defined = {name: value for name, value in named.items() if math.isfinite(value)}
            if not defined:
                raise LeftOut("R^2: no parameter varies over the sample")
            found |= {f"r2{suffix}/{name}": value for name, value in defined.items()}
            found[f"mean_r2{suffix}"] = sum(defined.values()) / len(defined)
        return found


def _retrieval(params: Tensor, embeddings: Tensor, predicted: Tensor) -> dict[str, float]:
    std = params.flatten(0, 1).std(dim=0)
    std[std == 0] = 1  # what does not vary is no distance
    found = retrieval(predicted, embeddings, params, std)._asdict()
    chance = retrieval_chance(params, std)._asdict()
    return found | {f"{name}_chance": value for name, value in chance.items()}


def recorded(transform: Any) -> Any:
    """A transform that says what it did; any other than such a one is made to."""
    if hasattr(transform, "sample") and hasattr(transform, "apply"):
        return transform
    if not isinstance(transform, Callable):  # type: ignore[arg-type]
        raise TypeError(
            f"transform: expected STARTransform, or a transform of lightly or torchvision, got "
            f"{describe(transform)}"
        )
    from star_head.adapters.torchvision import RecordedTransform

    return RecordedTransform(transform)
