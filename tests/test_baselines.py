"""AugSelf and E-SSL against loops in float64, and what they refuse."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from star_head import Parameter
from star_head.augmentation import STATISTICS, ParameterSpec
from star_head.baselines import ESSL, AugSelf, quarter_turns

SIDE = 96
TASKS = {"crop": 0.5, "color": 2.0, "flip": 0.3, "blur": 0.7}
# Of images of 96 pixels whose crops lie in the middle on average.
MEAN = [8.0, 8.0, 80.0, 80.0, 0.5, 1.0, 1.0, 1.0, 0.0, 0.2, 0.5]
STD = [5.0, 5.0, 10.0, 10.0, 0.5, 0.2, 0.2, 0.25, 0.05, 0.4, 0.6]


def draw(n: int) -> Tensor:
    """Records of n views, raw, float64."""
    mean, std = (torch.tensor(values, dtype=torch.float64) for values in (MEAN, STD))
    uniform = torch.rand(n, len(Parameter), dtype=torch.float64)
    params = mean + math.sqrt(12) * std * (uniform - 0.5)
    for flag in (Parameter.FLIP, Parameter.GRAYSCALE):
        params[:, flag] = uniform[:, flag].round()
    return params


def described(record: Tensor) -> dict[str, list[float]]:
    """One view's targets, written out."""
    a = {parameter.label: float(record[parameter]) for parameter in Parameter}
    std = dict(zip((p.label for p in Parameter), STD, strict=True))
    y = (a["crop top"] + a["crop height"] / 2) / SIDE
    x = (a["crop left"] + a["crop width"] / 2) / SIDE
    if a["flip"] == 1:
        x = 1 - x
    jitter = ("brightness", "contrast", "saturation", "hue")
    return {
        "crop": [y, x, a["crop height"] / SIDE, a["crop width"] / SIDE],
        "color": [a[name] / (math.sqrt(12) * std[name]) for name in jitter],
        "flip": [a["flip"]],
        "blur": [a["blur sigma"] / (math.sqrt(12) * std["blur sigma"])],
    }


def augself_by_loops(task: AugSelf, y1: Tensor, y2: Tensor, a1: Tensor, a2: Tensor) -> Tensor:
    n = len(y1)
    firsts = [*zip(y1, y2, a1, a2, strict=True), *zip(y2, y1, a2, a1, strict=True)]
    total = torch.zeros((), dtype=torch.float64)
    for name, weight in task.tasks.items():
        outputs = task.heads[name](torch.stack([torch.cat([p, q]) for p, q, _, _ in firsts]))
        loss = torch.zeros((), dtype=torch.float64)
        for output, (_, _, one, other) in zip(outputs, firsts, strict=True):
            here, there = described(one)[name], described(other)[name]
            for value, a, b in zip(output, here, there, strict=True):
                if name == "flip":
                    p = torch.sigmoid(value)
                    loss = loss - (p if a == b else 1 - p).log()
                else:
                    loss = loss + (torch.tanh(value) - (a - b)) ** 2 / len(here)
        total = total + weight * loss / (2 * n)
    return total


@pytest.mark.parametrize(("n", "width", "hidden"), [(2, 3, 4), (7, 5, 8), (16, 12, 6)])
@pytest.mark.parametrize("tasks", [TASKS, {"crop": 1.0, "color": 1.0}, {"flip": 1.0}])
def test_augself_equals_loops(n: int, width: int, hidden: int, tasks: dict) -> None:
    task = AugSelf(width, (MEAN, STD), tasks, hidden).double()
    task.scale.copy_(task.scale.float())  # rounded, as the buffer was made
    y1, y2 = (torch.randn(n, width, dtype=torch.float64, requires_grad=True) for _ in range(2))
    a1, a2 = draw(n), draw(n)
    inputs = [y1, y2, *task.parameters()]
    value, expected = task(y1, y2, a1, a2), augself_by_loops(task, y1, y2, a1, a2)
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(
        torch.autograd.grad(value, inputs),
        torch.autograd.grad(expected, inputs),
        rtol=1e-5,
        atol=1e-8,
    )


def test_augself_of_stl10_measures_crops_in_images() -> None:
    """The authors' statistics are of images of 96 pixels."""
    scale = AugSelf(4, "stl10").scale
    assert scale[:4].tolist() == pytest.approx([96] * 4, rel=2e-3)
    std = torch.tensor(STATISTICS["stl10"].std)
    torch.testing.assert_close(scale[4:], math.sqrt(12) * std[4:])


def test_augself_follows_the_names_of_parameters() -> None:
    names = ["vertical flip", "hue", "saturation", "contrast", "brightness", "crop width"]
    names += ["crop left", "crop height", "crop top", "rotation"]
    specs = [ParameterSpec(name, "any", 0.0) for name in names]
    mean, std = [0.5, 0, 1, 1, 1, 40, 20, 60, 10, 0], [1.0] * 10
    task = AugSelf(4, (mean, std), hidden_dim=8, parameters=specs)
    assert task.scale.tolist()[5:9] == pytest.approx([80, 80, 80, 80])
    a = torch.zeros(1, 10)
    b = torch.tensor([[1, 0.2, 1.5, 1.0, 1.0, 40, 20, 60, 0, 90.0]])
    found = task.differences(b, a)
    assert found["crop"][0].tolist() == pytest.approx([1 - 30 / 80, 0.5, 60 / 80, 40 / 80])
    span = math.sqrt(12)
    assert found["color"][0].tolist() == pytest.approx([1 / span, 1 / span, 1.5 / span, 0.2 / span])
    torch.testing.assert_close(found["crop"][1], -found["crop"][0])


def test_augself_learns_how_views_differ() -> None:
    """Features that hold the parameters themselves bring the loss down."""
    task = AugSelf(11, (MEAN, STD), TASKS, 64)
    a1, a2 = draw(256).float(), draw(256).float()
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    y1, y2 = (a1 - mean) / std, (a2 - mean) / std
    optimizer = torch.optim.Adam(task.parameters(), 1e-2)
    losses = []
    for _ in range(100):
        loss = task(y1, y2, a1, a2)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.25 * losses[0]


@pytest.mark.parametrize(("n", "choices"), [(2, 2), (9, 4), (5, 7)])
def test_essl_equals_a_loop(n: int, choices: int) -> None:
    task = ESSL(6, choices, weight=0.3, hidden_dim=10).double()
    features = torch.randn(n, 6, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(choices, (n,))
    expected = torch.zeros((), dtype=torch.float64)
    for row, label in zip(features, labels, strict=True):
        scores = task.head(row[None])[0].exp()
        expected = expected - (scores[label] / scores.sum()).log()
    expected = 0.3 * expected / n
    value = task(features, labels)
    torch.testing.assert_close(value, expected)
    inputs = [features, *task.parameters()]
    torch.testing.assert_close(
        torch.autograd.grad(value, inputs), torch.autograd.grad(expected, inputs)
    )


def test_quarter_turns_pixel_by_pixel() -> None:
    images = torch.rand(3, 2, 5, 5)
    turned, choices = quarter_turns(images)
    for image, turns in zip(range(12), choices.tolist(), strict=True):
        for row in range(5):
            for column in range(5):
                y, x = row, column
                for _ in range(turns):  # counter-clockwise: (row, column) came from here
                    y, x = x, 4 - y
                expected = images[image % 3, :, y, x]
                assert torch.equal(turned[image, :, row, column], expected)
    assert choices.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3


def modules() -> list[tuple[nn.Module, tuple[Tensor, ...]]]:
    y1, y2 = torch.randn(8, 6), torch.randn(8, 6)
    return [
        (AugSelf(6, (MEAN, STD), TASKS, 16), (y1, y2, draw(8).float(), draw(8).float())),
        (ESSL(6, hidden_dim=16), (y1, torch.randint(4, (8,)))),
    ]


def test_state_dicts_come_back_and_copies_agree() -> None:
    for module, inputs in modules():
        other = copy.deepcopy(module)
        other.reset_parameters()
        module.eval(), other.eval()
        assert not torch.equal(module(*inputs), other(*inputs))
        other.load_state_dict(module.state_dict())
        assert torch.equal(module(*inputs), other(*inputs))


def test_memory_made_anew_is_filled() -> None:
    for module, _ in modules():
        scale = getattr(module, "scale", torch.ones(1)).clone()
        empty = copy.deepcopy(module).to("meta").to_empty(device="cpu")
        empty.reset_parameters()
        assert torch.equal(getattr(empty, "scale", torch.ones(1)), scale)
        assert all(parameter.isfinite().all() for parameter in empty.parameters())


def test_under_autocast_losses_are_float32_and_near() -> None:
    for module, inputs in modules():
        with torch.autocast("cpu", torch.bfloat16):
            value = module(*inputs)
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, module(*inputs), rtol=0.05, atol=0.05)


def test_compiled_whole() -> None:
    for module, inputs in modules():
        module.eval()
        compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(*inputs), module(*inputs))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"tasks": {"rotation": 1.0}}, ValueError, "tasks: expected some of crop, color, flip"),
        ({"tasks": {}}, ValueError, "tasks: expected weights such as"),
        ({"tasks": ["crop"]}, ValueError, r"got \['crop'\]"),
        ({"tasks": {"crop": 0.0}}, ValueError, "positive weight, got 0; leave it out"),
        ({"tasks": {"crop": -1.0}}, ValueError, r"tasks\['crop'\]: expected a number of at least"),
        ({"tasks": {"crop": "1"}}, TypeError, r"tasks\['crop'\]: expected a number"),
        ({"statistics": (MEAN[:3], STD[:3])}, ValueError, r"expected a mean of shape \(11,\)"),
        ({"num_features": 0}, ValueError, "num_features: expected at least 1"),
        ({"hidden_dim": 2.0}, TypeError, "hidden_dim: expected an integer"),
        (
            {"parameters": [ParameterSpec("hue", "turns", 0.0)]},
            ValueError,
            "parameters: task 'crop' predicts crop top, .*, which is not among",
        ),
    ],
)
def test_augself_refuses(arguments: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        AugSelf(**({"num_features": 6, "statistics": (MEAN, STD)} | arguments))


def test_augself_refuses_what_does_not_fit() -> None:
    task = AugSelf(6, (MEAN, STD))
    y, a = torch.randn(4, 6), draw(4).float()
    for inputs, message in [
        ((y, y[:, :5], a, a), r"y2: expected shape \(B, 6\), got \(4, 5\)"),
        ((y, y, a, a[:, :10]), r"params2: expected shape \(B, 11\)"),
        ((y, y, a, a[:3]), "as many rows of y1, y2, params1 and params2, got 4, 4, 4 and 3"),
    ]:
        with pytest.raises(ValueError, match=message):
            task(*inputs)
    with pytest.raises(TypeError, match="y1: expected torch.float32, as the weights"):
        task(y.double(), y.double(), a, a)
    with pytest.raises(TypeError, match="params1: expected a tensor"):
        task(y, y, (a, a), a)


def test_essl_refuses_what_does_not_fit() -> None:
    task = ESSL(6, hidden_dim=8)
    with pytest.raises(ValueError, match="num_choices: expected at least 2, got 1"):
        ESSL(6, num_choices=1)
    with pytest.raises(ValueError, match="weight: expected a number of at least 0"):
        ESSL(6, weight=-0.4)
    with pytest.raises(TypeError, match="choices: expected a tensor of int64"):
        task(torch.randn(4, 6), torch.rand(4))
    with pytest.raises(ValueError, match=r"choices: expected shape \(4,\).* got \(3,\)"):
        task(torch.randn(4, 6), torch.zeros(3, dtype=torch.long))
    with pytest.raises(ValueError, match=r"features: expected shape \(B, 6\)"):
        task(torch.randn(4, 5), torch.zeros(4, dtype=torch.long))
    for images in (torch.rand(2, 3, 4, 5), torch.rand(3, 4, 4), [1]):
        with pytest.raises(ValueError, match="images: expected square ones"):
            quarter_turns(images)
