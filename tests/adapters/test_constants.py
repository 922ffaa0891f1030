"""The adapters' modules are whole after load_state_dict or reset_parameters, whatever lay there."""

import pytest
import torch
from torch import nn

from star_head.adapters._blur import GaussianBlur
from star_head.adapters.device import BatchTransform, RecordingTransform, collate
from star_head.adapters.lightly import STARTransform


def emptied(module: nn.Module) -> nn.Module:
    module.to("meta").to_empty(device="cpu")
    for buffer in module.buffers():
        buffer.fill_(1)
    return module


def make() -> BatchTransform:
    transform = STARTransform(
        input_size=24, gaussian_blur=1.0, normalize={"mean": [0.4] * 3, "std": [0.2] * 3}
    )
    return BatchTransform(transform)


@pytest.mark.parametrize("back", ["load_state_dict", "reset_parameters"])
@pytest.mark.parametrize("context", ["cpu", "meta"])
def test_batch_transform(back: str, context: str) -> None:
    with torch.device(context):
        module = make()
    expected = make()
    recording = RecordingTransform(STARTransform(input_size=24, gaussian_blur=1.0))
    images = torch.randint(256, (3, 3, 30, 40), dtype=torch.uint8)
    recorded, _ = collate([(recording(image), 0) for image in images])
    assert not module.state_dict()
    # Alone, and as a part of what is loaded or reset.
    whole = nn.Sequential(emptied(module))
    if back == "reset_parameters":
        module.reset_parameters()
    else:
        whole.load_state_dict({})
    found, wanted = module(recorded), expected(recorded)
    torch.testing.assert_close(found.views, wanted.views, rtol=0, atol=0)
    torch.testing.assert_close(found.original, wanted.original, rtol=0, atol=0)


def test_blur() -> None:
    with torch.device("meta"):
        blur = GaussianBlur(9, 3)
    images, sigma = torch.rand(2, 3, 9, 9), torch.tensor([0.5, 2.0])
    expected = GaussianBlur(9, 3)(images, sigma)
    torch.testing.assert_close(blur(images, sigma), expected, rtol=0, atol=0)
    emptied(blur).reset_parameters()
    torch.testing.assert_close(blur(images, sigma), expected, rtol=0, atol=0)
