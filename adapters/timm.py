"""Backbones from timm, and encoders back to its own format. Needs ``star-head[timm]``."""

import contextlib
import copy
import difflib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

try:
    import timm
except ImportError as error:
    raise ImportError(
        'star_head.adapters.timm needs timm: pip install "star-head[timm]"'
    ) from error

import safetensors.torch
from timm.models import save_for_hf
from timm.models.resnet import ResNet
from timm.utils.model import unwrap_model

from star_head._checks import check_count

from ._checks import check_normalize

_CONFIG, _WEIGHTS = "config.json", "model.safetensors"
# Those of timm's methods that build a head on num_features.
_HEAD_METHODS = ("reset_classifier", "prune_intermediate_layers")
# What timm recommends for testing was found with other weights, at another size.
_NO_OTHER_SIZES = {"test_input_size": None, "test_pool_size": None, "pool_size": None}
# What timm and PyTorch raise where a model can't be built for a size, or take images of it.
_UNFIT = (AssertionError, RuntimeError, ZeroDivisionError)


def create_backbone(
    name: str,
    pretrained: bool = False,
    small_images: bool = False,
    init: Literal["timm", "paper"] = "timm",
    input_size: int | None = None,
    **kwargs: Any,
) -> nn.Module:
    """Build any timm model as a backbone: images (B, C, H, W) in, pooled features (B, D) out.

    ``num_features`` of the result is the D that its forward pass gives. Some architectures
    (MobileNetV3, HGNet, MambaOut, ...) have layers after the pooling, and timm notes the width
    before these; it is timm's again while there is a head that ``reset_classifier`` has built on
    it. The result is in training mode.

    Args:
        name: A name that ``timm.create_model`` takes.
        pretrained: Load timm's weights.
        small_images: Give a ResNet the stem for images of about 32 pixels: stride 1 and no
            max-pooling. A 7x7 first convolution becomes a 3x3 one, with fresh weights even if
            ``pretrained``; a deep stem of 3x3 convolutions keeps its weights.
        init: ``"timm"``: as timm starts it. ``"paper"``: as the authors start theirs: linear
            layers and convolutions as PyTorch draws them, the last norm of each residual block
            at zero where timm knows it (``zero_init_last``).
        input_size: Side of the square images in pixels. A model that is made for one size (ViT,
            Swin, MaxViT, ...) is made for this one, as by timm's ``img_size``; of any other it is
            noted for :func:`export_encoder`.
        **kwargs: For ``timm.create_model``: ``in_chans``, ``drop_path_rate``, ``embed_dim``, ...

    Raises:
        ValueError: If timm has no such model, if it gives no (B, D) features or takes no images
            of ``input_size``, if ``small_images`` is asked of a model that is no ResNet, or for
            an unknown ``init`` or one that would overwrite pretrained weights.

    Example:
        >>> backbone = create_backbone("resnet10t", small_images=True)
        >>> backbone(torch.zeros(2, 3, 32, 32)).shape, backbone.num_features
        (torch.Size([2, 512]), 512)
    """
    if init not in ("timm", "paper"):
        raise ValueError(f"init: expected 'timm' or 'paper', got {init!r}")
    if pretrained and init == "paper":
        raise ValueError("init: 'paper' would overwrite the weights that pretrained=True loads")
    if ":" not in name and not timm.is_model(name):  # "hf-hub:..." and "local-dir:..." are timm's
        closest = difflib.get_close_matches(name.partition(".")[0], timm.list_models(), n=5)
        hint = f"; closest: {', '.join(closest)}" if closest else "; see timm.list_models()"
        raise ValueError(f"name: timm {timm.__version__} has no model {name!r}{hint}")

    kwargs |= {"pretrained": pretrained, "num_classes": 0}
    backbone: Any = (
        timm.create_model(name, **kwargs)
        if input_size is None
        else _create_for_size(name, input_size, **kwargs)
    )
    if small_images:
        _use_small_stem(backbone, name)
    if init == "paper":
        _initialise_as_paper(backbone)
    _note_width(backbone)
    return backbone


def describe_backbone(backbone: nn.Module) -> dict[str, Any]:
    """The arguments, plain values, with which :func:`create_backbone` builds the same model.

    ``input_size`` is among them where it was given.

    Example:
        >>> describe_backbone(create_backbone("resnet10t", small_images=True))
        {'name': 'resnet10t', 'small_images': True}
    """
    encoder: Any = unwrap_model(backbone)
    source = encoder.pretrained_cfg
    description: dict[str, Any] = {
        "name": source["architecture"],
        "small_images": _has_small_stem(encoder),
        **{key: value for key, value in encoder._model_args.items() if key != "num_classes"},
    }
    own = timm.get_pretrained_cfg(source["architecture"])
    _, height, width = _image_shape(encoder)
    if own is not None and _sizes(source) != _sizes(own.to_dict()) and height == width:
        description["input_size"] = width
    return description


def export_encoder(
    backbone: nn.Module,
    folder: str | os.PathLike[str],
    *,
    input_size: int | None = None,
    normalize: Mapping[str, Sequence[float]] | None = None,
    keep_classifier: bool = False,
) -> Path:
    """Write an encoder in timm's own format, which opens without star_head.

    ``timm.create_model("local-dir:FOLDER", pretrained=True)`` rebuilds it, except with the stem
    of ``small_images=True``: only :func:`load_encoder` knows that one, and timm alone would fail
    or, for a deep stem, compute other features. Each file is replaced whole or not at all.

    Args:
        backbone: A timm model, also wrapped by DDP or ``torch.compile``, on any device.
        folder: Where ``config.json`` and ``model.safetensors`` go; made if missing.
        input_size: Side of the square images in pixels; the model's own unless given.
        normalize: ``{"mean": [...], "std": [...]}``, a number for each channel, of images in
            [0, 1]; the model's own unless given.
        keep_classifier: Write the classifier that the model has too, which is left out else.

    Raises:
        TypeError: If timm did not make the backbone.
        ValueError: If the backbone gives no (B, D) features, cannot take images of
            ``input_size``, or ``normalize`` does not fit its channels.
        OSError: If it cannot be written, on a full disk say.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = export_encoder(create_backbone("resnet10t"), folder, input_size=96)
        ...     sorted(file.name for file in path.iterdir())
        ['config.json', 'model.safetensors']
    """
    encoder: Any = unwrap_model(backbone)
    if not hasattr(encoder, "pretrained_cfg"):
        raise TypeError(
            "backbone: expected a timm model, such as create_backbone gives, got "
            f"{type(encoder).__name__}; save the state_dict of other modules with torch.save"
        )
    encoder = copy.deepcopy(encoder)
    encoder.register_state_dict_post_hook(_clone_tensors)
    if not keep_classifier:
        _drop_classifier(encoder)

    source, name = encoder.pretrained_cfg, encoder.pretrained_cfg["architecture"]
    image_shape = _image_shape(encoder)
    if input_size is not None:
        check_count("input_size", input_size)
        image_shape = (image_shape[0], input_size, input_size)
    width = _measure_width(encoder, image_shape)

    if encoder.num_classes == 0:
        encoder.num_features = width
    config: dict[str, Any] = {"input_size": image_shape, "num_classes": encoder.num_classes}
    if input_size is not None or image_shape != tuple(source["input_size"]):
        config |= _NO_OTHER_SIZES
    if normalize is not None:
        config |= check_normalize(normalize, image_shape[0])
    model_config = {"pretrained_cfg": config}
    if _has_small_stem(encoder):
        model_config["star_head"] = {"small_images": True}

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        try:
            save_for_hf(encoder, scratch, model_config=model_config, safe_serialization=True)
        except (OSError, safetensors.SafetensorError) as error:  # a full disk, say
            raise OSError(f"{folder / _WEIGHTS} could not be written: {error}") from error
        # Some models run at any size, and yet timm holds them to the one they were built for.
        written = json.loads(Path(scratch, _CONFIG).read_text())["pretrained_cfg"]["input_size"]
        if tuple(written) != image_shape:
            raise ValueError(
                f"input_size: this {name} was built for {written[1:]}, got {input_size}; "
                f"build it with img_size={input_size}"
            )
        # safetensors keeps its file from everybody else, whatever the umask.
        shutil.copymode(Path(scratch, _CONFIG), Path(scratch, _WEIGHTS))
        for file in (_WEIGHTS, _CONFIG):
            os.replace(Path(scratch, file), folder / file)
    return folder


def load_encoder(folder: str | os.PathLike[str], *, keep_classifier: bool = False) -> nn.Module:
    """Rebuild what :func:`export_encoder` wrote, small-image stems too. No code in it is run.

    Like :func:`create_backbone` it gives a module in training mode, on the CPU.

    Args:
        folder: The folder that was written.
        keep_classifier: Keep the classifier that the model was written with, which is dropped
            else.

    Raises:
        FileNotFoundError: If the folder or one of its two files is missing.
        ValueError: If timm cannot build the model described, or the weights are not its own.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = export_encoder(create_backbone("resnet10t", small_images=True), folder)
        ...     encoder = load_encoder(folder).eval()
        >>> encoder(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 512])
    """
    folder = Path(folder)
    missing = [name for name in (_CONFIG, _WEIGHTS) if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"folder: expected {_CONFIG} and {_WEIGHTS}, as export_encoder writes them, in "
            f"{folder}, which lacks {' and '.join(missing)}"
        )
    try:
        config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
        backbone: Any = timm.create_model(f"local-dir:{folder}")
        if config.get("star_head", {}).get("small_images", False):
            _use_small_stem(backbone, config["architecture"])
        backbone.load_state_dict(safetensors.torch.load_file(folder / _WEIGHTS))
    except Exception as error:  # whatever timm makes of a config that it cannot use
        raise ValueError(
            f"folder: expected {folder} to hold a model that timm {timm.__version__} can build "
            f"from {_CONFIG}, and its weights in {_WEIGHTS}: {error}"
        ) from error
    if not keep_classifier:
        _drop_classifier(backbone)
    if backbone.num_classes == 0:
        _note_width(backbone)
    return backbone


def _sizes(config: Mapping[str, Any]) -> list[tuple[int, ...]]:
    """The sizes of images for training and testing that a configuration notes."""
    return [tuple(config.get(key) or ()) for key in ("input_size", "test_input_size")]


def _create_for_size(name: str, input_size: int, pretrained: bool, **kwargs: Any) -> nn.Module:
    check_count("input_size", input_size)
    img_size = kwargs.get("img_size", input_size)
    sides = {img_size} if isinstance(img_size, int) else set(img_size)
    if sides != {input_size}:
        raise ValueError(f"input_size: expected one size, got {input_size} and {img_size=}")
    image_shape = (kwargs.get("in_chans", 3), input_size, input_size)
    noted = None if ":" in name else timm.get_pretrained_cfg(name)
    if noted is not None and noted.fixed_input_size:
        kwargs["img_size"] = input_size
    overlay = kwargs.pop("pretrained_cfg_overlay", {}) | {"input_size": image_shape}
    build = partial(
        timm.create_model, name, pretrained_cfg_overlay=overlay | _NO_OTHER_SIZES, **kwargs
    )
    try:
        backbone: Any = build(pretrained=pretrained)
    except _UNFIT as error:
        try:
            build(pretrained=False)
        except _UNFIT:
            raise _refused(name, image_shape, error) from error
        raise  # the weights are to blame, not the size
    if _image_shape(backbone)[1:] != image_shape[1:]:
        raise ValueError(f"input_size: {name} was made for its own size; give img_size instead")
    return backbone


def _refused(name: str, image_shape: tuple[int, int, int], error: Exception) -> ValueError:
    return ValueError(f"input_size: {name} takes no images of shape {image_shape}: {error}")


def _drop_classifier(encoder: Any) -> None:
    if encoder.num_classes != 0:
        encoder.reset_classifier(0)


def _image_shape(backbone: Any) -> tuple[int, int, int]:
    """(C, H, W) of the images that the backbone was built for."""
    channels, *size = backbone.pretrained_cfg["input_size"]
    args = backbone._model_args
    size = args.get("img_size", size)
    height, width = (size, size) if isinstance(size, int) else size
    return args.get("in_chans", channels), height, width


def _measure_width(backbone: Any, image_shape: tuple[int, int, int]) -> int:
    """Find D of the (B, D) features, on the meta device where possible."""
    weight = next(backbone.parameters())

    def probe(device: torch.device | str) -> Any:
        # In a copy, so that neither mode nor statistics of the backbone change.
        images = torch.zeros(2, *image_shape, dtype=weight.dtype, device=device)
        return copy.deepcopy(backbone).to(device).eval()(images)

    try:
        with torch.no_grad():
            try:
                features = probe("meta")
            except RuntimeError:  # an operation that needs the numbers themselves
                features = probe(weight.device)
    except _UNFIT as error:
        name = backbone.pretrained_cfg["architecture"]
        raise _refused(name, image_shape, error) from error
    got = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
    if not isinstance(got, tuple) or len(got) != 2:
        raise ValueError(
            f"backbone: expected pooled features (2, D) of 2 images, got {got}; of timm's options, "
            "global_pool='' and features_only=True give others"
        )
    return got[1]


def _note_width(backbone: Any) -> None:
    """Set ``num_features`` to the real width, except while timm needs its own."""
    width = _measure_width(backbone, _image_shape(backbone))
    own = getattr(backbone, "num_features", width)
    if own != width:
        _keep_own_width(backbone, own)
    backbone.num_features = width


def _keep_own_width(backbone: Any, own: int) -> None:
    for method in _HEAD_METHODS:
        if hasattr(backbone, method):
            # Unlike a closure, it is copied and pickled along with the backbone.
            setattr(backbone, method, partial(_with_own_width, backbone, method, own))


def _with_own_width(backbone: Any, method: str, own: int, *args: Any, **kwargs: Any) -> Any:
    for name in _HEAD_METHODS:
        vars(backbone).pop(name, None)
    backbone.num_features = own
    result = getattr(backbone, method)(*args, **kwargs)
    _keep_own_width(backbone, backbone.num_features)
    if backbone.num_classes == 0:
        with contextlib.suppress(ValueError):  # what is not pooled has no width
            backbone.num_features = _measure_width(backbone, _image_shape(backbone))
    return result


def _clone_tensors(module: nn.Module, state: dict[str, Tensor], *_: Any) -> None:
    """Make a state_dict fit for safetensors, which takes no strided or shared memory."""
    for key, tensor in state.items():
        state[key] = tensor.clone(memory_format=torch.contiguous_format)


def _use_small_stem(backbone: Any, name: str) -> None:
    if not isinstance(backbone, ResNet):
        raise ValueError(
            f"small_images: expected a model of timm.models.resnet (resnet18, seresnet50, ...), "
            f"got {name}, a {type(backbone).__name__}"
        )
    stem: Any = backbone.conv1
    conv: Any = stem[0] if isinstance(stem, nn.Sequential) else stem
    conv.stride = (1, 1)
    if conv.kernel_size != (3, 3):
        conv.kernel_size, conv.padding = (3, 3), (1, 1)
        conv.weight = nn.Parameter(conv.weight.new_empty(*conv.weight.shape[:2], 3, 3))
        # As timm draws its own.
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    backbone.register_module("maxpool", nn.Identity())


def _has_small_stem(encoder: nn.Module) -> bool:
    return isinstance(encoder, ResNet) and isinstance(encoder.maxpool, nn.Identity)


def _initialise_as_paper(backbone: Any) -> None:
    for module in backbone.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            # PyTorch draws weights and biases uniformly in +-1/sqrt(fan_in).
            module.reset_parameters()
        elif hasattr(module, "zero_init_last"):
            module.zero_init_last()
