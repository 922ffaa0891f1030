"""SimCLR with AugSelf or E-SSL trained by STARModule, against the step of examples/lightly."""

import copy
import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Trainer
from torch import nn
from torch.utils.data import DataLoader

from star_head import STARLoss, STARViews
from star_head.adapters.lightning import STARModule
from star_head.baseline_models import STARBaseline
from star_head.baselines import ESSL, AugSelf
from star_head.examples.lightly.other_tasks import beside
from star_head.examples.lightly.simclr import SimCLR

WIDTH, BATCH, STEPS = 8, 6, 4


def backbone() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, WIDTH, 3, 2), nn.BatchNorm2d(WIDTH), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
    )


def batches() -> list[STARViews]:
    generator = torch.Generator().manual_seed(5)
    return [
        STARViews(
            torch.rand(BATCH, 3, 16, 16, generator=generator),
            (*torch.rand(2, BATCH, 3, 16, 16, generator=generator),),
            (*torch.rand(2, BATCH, 11, generator=generator),),
        )
        for _ in range(STEPS)
    ]


def task_of(name: str) -> AugSelf | ESSL:
    return AugSelf(WIDTH, "stl10", hidden_dim=12) if name == "augself" else ESSL(WIDTH, 4, 0.4, 12)


@pytest.mark.parametrize("name", ["augself", "essl"])
def test_training_is_that_of_the_lightly_example(name: str) -> None:
    """From the same weights, on the same views, with the same optimiser: the same weights."""
    torch.manual_seed(0)
    task, network = task_of(name), backbone()
    theirs = beside(SimCLR, copy.deepcopy(task))(
        copy.deepcopy(network), WIDTH, hidden_dim=16, statistics="stl10", routing="invariant"
    )
    head = copy.deepcopy(theirs.projection_head)
    model = STARBaseline(network, head, task, STARLoss(0.2))
    module = STARModule(model, batch_size=256, learning_rate=0.1)
    trainer = Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the batch's size, which scales the rate
        trainer.fit(module, DataLoader(batches(), batch_size=None))

    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    theirs.train()
    for step, views in enumerate(batches()):
        batch: Any = (views, None)
        if name == "essl":
            small = F.interpolate(views.views[0], (8, 8), mode="bilinear", antialias=True)
            batch = ((views, small), None)
        loss = theirs.training_step(batch, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    found, expected = model.state_dict(), theirs.state_dict()
    names = {k: k.replace("projection_head.", "head.") for k in expected}
    assert set(names.values()) == set(found)
    for key, ours in names.items():
        torch.testing.assert_close(found[ours], expected[key], atol=2e-5, rtol=2e-4)
