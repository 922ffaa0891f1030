"""The authors' checkpoint layout, written here part by part with plain modules."""

import os
from pathlib import Path

import pytest
import reference
import timm
import torch
from torch import Tensor, nn

from star_head.augmentation import STATISTICS
from star_head.checkpoint import load_official_checkpoint

D, H, EMBEDDING, EXPERTS = 512, 12, 6, 5


def mlp(d_in: int, hidden: int, d_out: int) -> nn.Sequential:
    layers = nn.Sequential(
        nn.Linear(d_in, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
        nn.Linear(hidden, d_out),
    )
    for norm in (layers[1], layers[4]):
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.normal_(norm.running_mean)
        norm.num_batches_tracked += 7
    return layers.double()


class Authors:
    """The authors' modules, and the file that their program would save of them."""

    def __init__(self, arch: str = "resnet18") -> None:
        self.backbone = timm.create_model(arch, num_classes=0)
        width = self.backbone.num_features
        self.projectors = nn.ModuleList(mlp(width, H, EMBEDDING) for _ in range(EXPERTS))
        self.psi = nn.Sequential(nn.Linear(11, EMBEDDING)).double()
        self.phi = mlp(2 * EMBEDDING, 4 * EMBEDDING, EMBEDDING)
        self.routers = nn.ModuleList(nn.Linear(width, EXPERTS) for _ in range(2)).double()

    def save(self, path: Path, gpus: int = 1, **changes: object) -> Path:
        wrap = "module." if gpus > 1 else ""
        saved = {
            "backbone": {wrap + n: t for n, t in self.backbone.state_dict().items()},
            "projectors": {
                f"{k}.{wrap}{n}": t
                for k, projector in enumerate(self.projectors)
                for n, t in projector.state_dict().items()
            },
            "p_projector": {wrap + n: t for n, t in self.psi.state_dict().items()},
            "eq_predictor": {wrap + n: t for n, t in self.phi.state_dict().items()},
            "gatingnetwork": {
                f"{wrap}gating_fc.{n}": t for n, t in self.routers.state_dict().items()
            },
            "optimizers": [{"state": {}}],
            "schedulers": [],
            "trainer": {"epoch": 199},
        }
        torch.save(saved | changes, path)
        return path


@pytest.mark.parametrize("gpus", [1, 4])
@pytest.mark.parametrize("training", [True, False])
def test_values_and_gradients_equal_the_authors_modules(
    tmp_path: Path, gpus: int, training: bool
) -> None:
    authors = Authors()
    backbone, head = load_official_checkpoint(authors.save(tmp_path / "star.pth", gpus))
    timm.create_model("resnet18", num_classes=0).load_state_dict(backbone)
    for module in (head, authors.projectors, authors.phi):
        module.train(training)
    y, y0 = torch.randn(2, 8, D, dtype=torch.float64)
    params = 50 * torch.rand(8, 11, dtype=torch.float64)

    def embed(features: Tensor) -> Tensor:
        weights = torch.stack([r(features).softmax(1) for r in authors.routers], dim=1)
        return reference.mix(list(authors.projectors), weights, features)

    z = embed(y)
    torch.testing.assert_close(tuple(head(y)), (z[:, 0], z[:, 1]))
    e0 = embed(y0)[:, 1]
    mean, std = (torch.tensor(s).double() for s in STATISTICS["stl10"])
    expected = e0 + authors.phi(torch.cat([e0, authors.psi((params - mean) / std)], dim=1))
    predicted = head.predict(head(y0).equivariant, params)
    torch.testing.assert_close(predicted, expected)

    grad = torch.randn_like(expected)
    expected.backward(grad)
    predicted.backward(grad)
    for name, layer in (("0.weight", 0), ("3.weight", 3), ("6.bias", 6)):
        kind = name.partition(".")[2]
        stacked = torch.stack([getattr(p[layer], kind).grad for p in authors.projectors])
        torch.testing.assert_close(head.experts.layers.get_parameter(name).grad, stacked)
    torch.testing.assert_close(
        head.experts.router.weight.grad[EXPERTS:], authors.routers[1].weight.grad
    )
    torch.testing.assert_close(head.predictor.psi.weight.grad, authors.psi[0].weight.grad)


def test_statistics_follow_from_the_backbone_unless_named(tmp_path: Path) -> None:
    path = Authors("resnet50").save(tmp_path / "star.pth")
    mean = load_official_checkpoint(path).head.predictor.mean
    assert mean[0].item() == pytest.approx(STATISTICS["imagenet100"].mean[0])
    mean = load_official_checkpoint(path, statistics="stl10").head.predictor.mean
    assert mean[0].item() == pytest.approx(STATISTICS["stl10"].mean[0])


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch hostile_was_here",)


def test_a_hostile_pickle_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Authors().save(tmp_path / "star.pth", trainer=Hostile())
    with pytest.raises(ValueError, match="path: .*star.pth is no readable checkpoint"):
        load_official_checkpoint(path)
    assert not (tmp_path / "hostile_was_here").exists()


def test_bad_files(tmp_path: Path) -> None:
    authors, path = Authors(), tmp_path / "star.pth"
    with pytest.raises(FileNotFoundError):
        load_official_checkpoint(tmp_path / "missing.pth")
    whole = authors.save(path).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"path: .*star.pth is no readable checkpoint"):
        load_official_checkpoint(path)
    path.write_bytes(b"no checkpoint")
    with pytest.raises(ValueError, match=r"path: .*star.pth is no readable checkpoint"):
        load_official_checkpoint(path)
    torch.save([1, 2], path)
    with pytest.raises(ValueError, match="star.pth lacks backbone, projectors, p_projector"):
        load_official_checkpoint(path)
    with pytest.raises(ValueError, match="star.pth lacks gatingnetwork"):
        load_official_checkpoint(authors.save(path, gatingnetwork=None))
    for odd in ({"1.weight": "no tensor"}, {1: torch.zeros(2)}):
        with pytest.raises(ValueError, match="star.pth does not hold a whole routed head"):
            load_official_checkpoint(authors.save(path, projectors=odd))
    with pytest.raises(ValueError, match="^statistics: unknown name 'cifar'"):
        load_official_checkpoint(authors.save(path), statistics="cifar")
    authors.routers = nn.ModuleList(nn.Linear(D, 3) for _ in range(2)).double()
    with pytest.raises(ValueError, match=r"(?s)does not hold a whole .*router.weight"):
        load_official_checkpoint(authors.save(path))
