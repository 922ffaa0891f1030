"""Building backbones from timm, by arguments or by what a file says of one."""

import difflib
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import timm
from timm.models._input import get_model_args
from timm.utils.model import unwrap_model
from torch import nn

from star_head._checks import check_count, describe

from ._timm_arguments import check_described, plain_arguments
from ._timm_stem import has_small_stem, initialise_as_paper, use_small_stem
from ._timm_width import UNFIT, image_shape, note_width, refused

# What timm recommends for testing was found with other weights, at another size.
NO_OTHER_SIZES = {"test_input_size": None, "test_pool_size": None, "pool_size": None}


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
            Plain values, and layers that timm knows by name (``act_layer="silu"`` or
            ``nn.SiLU``), so that checkpoints and exports can say how the model is built.

    Raises:
        ValueError: If timm has no such model, if it gives no (B, D) features or takes no images
            of ``input_size``, if ``small_images`` is asked of a model that is no ResNet, for
            an unknown ``init`` or one that would overwrite pretrained weights, or for a
            classifier.
        TypeError: If ``name`` is no string, or an argument is neither plain nor a layer that timm
            knows by name.

    Example:
        >>> import torch
        >>> backbone = create_backbone("resnet10t", small_images=True)
        >>> backbone(torch.zeros(2, 3, 32, 32)).shape, backbone.num_features
        (torch.Size([2, 512]), 512)
    """
    if init not in ("timm", "paper"):
        raise ValueError(f"init: expected 'timm' or 'paper', got {init!r}")
    if pretrained and init == "paper":
        raise ValueError("init: 'paper' would overwrite the weights that pretrained=True loads")
    if kwargs.get("num_classes"):
        raise ValueError(
            f"num_classes: a backbone has no classifier, got {kwargs['num_classes']}; call "
            f"reset_classifier({kwargs['num_classes']}) on it, or timm.create_model"
        )
    if not isinstance(name, str):
        raise TypeError(
            f"name: expected a name of timm's, such as 'resnet18', got {describe(name)}; a module "
            f"is a backbone as it is, where it gives (B, D) features"
        )
    if ":" not in name and not timm.is_model(name):  # "hf-hub:..." and "local-dir:..." are timm's
        closest = difflib.get_close_matches(name.partition(".")[0], timm.list_models(), n=5)
        hint = f"; closest: {', '.join(closest)}" if closest else "; see timm.list_models()"
        raise ValueError(f"name: timm {timm.__version__} has no model {name!r}{hint}")

    kwargs = plain_arguments(kwargs) | {"pretrained": pretrained, "num_classes": 0}
    backbone: Any = (
        timm.create_model(name, **kwargs)
        if input_size is None
        else _create_for_size(name, input_size, **kwargs)
    )
    if small_images:
        use_small_stem(backbone, name)
    if init == "paper":
        initialise_as_paper(backbone)
    note_width(backbone)
    return backbone


def describe_backbone(backbone: nn.Module) -> dict[str, Any]:
    """The arguments, plain values, with which :func:`create_backbone` builds the same model.

    They follow what timm's own calls change (``reset_classifier(0, global_pool="avg")``,
    ``set_input_size``). ``input_size`` is among them where it was given.

    Raises:
        TypeError: If the model was built with a layer that timm does not know by name.

    Example:
        >>> describe_backbone(create_backbone("resnet10t", small_images=True))
        {'name': 'resnet10t', 'small_images': True, 'in_chans': 3, 'global_pool': 'avg'}
    """
    encoder: Any = unwrap_model(backbone)
    source = encoder.pretrained_cfg
    given = getattr(encoder, "_model_args", {})
    # get_model_args gives what holds now, but leaves out the drop rates, which training needs.
    args = plain_arguments({**given, **get_model_args(encoder)})
    args.pop("num_classes", None)
    _, height, width = image_shape(encoder)
    if args.get("img_size") == (height, width) and height == width:
        args["img_size"] = width
    description = {
        "name": source["architecture"],
        "small_images": has_small_stem(encoder),
        **args,
    }
    own = timm.get_pretrained_cfg(source["architecture"])
    if own is not None and _sizes(source) != _sizes(own.to_dict()) and height == width:
        description["input_size"] = width
    return description


def rebuild_backbone(description: Mapping[str, Any]) -> nn.Module:
    """Build the backbone that :func:`describe_backbone` described, from a file say.

    What a file says is data: only what describes a model is taken, of plain types. No weights are
    loaded, nothing is fetched, and no code in a file is run.

    Raises:
        ValueError: If there is more in it, or timm cannot build the model.

    Example:
        >>> rebuild_backbone({"name": "resnet10t", "small_images": True}).num_features
        512
        >>> rebuild_backbone({"name": "resnet10t", "pretrained": True})
        Traceback (most recent call last):
        ...
        ValueError: description: 'pretrained' is no argument that describes a model
    """
    try:
        if not isinstance(description, Mapping):
            raise ValueError(f"expected a mapping, got {type(description).__name__}")
        arguments = dict(description)
        name = check_name(arguments.pop("name", None))
        if "num_classes" in arguments:
            raise ValueError("'num_classes' is no argument that describes a backbone")
        return create_backbone(name, **check_described(arguments))
    except Exception as error:  # whatever timm makes of arguments that it cannot use
        raise ValueError(f"description: {error}") from error


def check_name(name: Any) -> str:
    """A model's name, if it is one of timm's and names no place."""
    if not isinstance(name, str) or ":" in name or not timm.is_model(name):
        raise ValueError(f"timm {timm.__version__} has no model {name!r}")
    return name


def _sizes(config: Mapping[str, Any]) -> list[tuple[int, ...]]:
    """The sizes of images for training and testing that a configuration notes."""
    return [tuple(config.get(key) or ()) for key in ("input_size", "test_input_size")]


def _create_for_size(name: str, input_size: int, pretrained: bool, **kwargs: Any) -> nn.Module:
    check_count("input_size", input_size)
    img_size = kwargs.get("img_size", input_size)
    sides = {img_size} if isinstance(img_size, int) else set(img_size)
    if sides != {input_size}:
        raise ValueError(f"input_size: expected one size, got {input_size} and {img_size=}")
    shape = (kwargs.get("in_chans", 3), input_size, input_size)
    noted = None if ":" in name else timm.get_pretrained_cfg(name)
    if noted is not None and noted.fixed_input_size:
        kwargs["img_size"] = input_size
    overlay = kwargs.pop("pretrained_cfg_overlay", {}) | {"input_size": shape}
    build = partial(
        timm.create_model, name, pretrained_cfg_overlay=overlay | NO_OTHER_SIZES, **kwargs
    )
    try:
        backbone: Any = build(pretrained=pretrained)
    except UNFIT as error:
        try:
            build(pretrained=False)
        except UNFIT:
            raise refused(name, shape, error) from error
        raise  # the weights are to blame, not the size
    if image_shape(backbone)[1:] != shape[1:]:
        raise ValueError(f"input_size: {name} was made for its own size; give img_size instead")
    return backbone
