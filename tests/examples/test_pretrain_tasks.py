"""AugSelf and E-SSL by `star-head pretrain --model.task`: trained, resumed, exported, opened."""

from pathlib import Path

import pytest
import torch
from byol_views import BYOL
from running import Done, output_of, run_here

from star_head import STARViews
from star_head.baseline_models import STARBaseline
from star_head.baselines import ESSL, AugSelf
from star_head.evaluation import open_encoder, open_trained
from star_head.examples.pretrain import create_module, main

SMALL = (
    "--trainer.accelerator=cpu",
    "--trainer.limit_train_batches=3",
    "--trainer.limit_val_batches=0",
    "--trainer.num_sanity_val_steps=0",
    "--trainer.log_every_n_steps=1",
    "--model.backbone=test_resnet",
    "--model.hidden_dim=16",
    "--model.output_dim=8",
    "--model.routing=invariant",
    "--data.batch_size=16",
    "--data.num_workers=0",
)


def pretrain(folder: Path, task: str, epochs: int, *arguments: str) -> Done:
    config = folder.parent / "views.yaml"
    config.write_text(BYOL)
    own = [f"--trainer.default_root_dir={folder}", f"--trainer.max_epochs={epochs}"]
    flags = [f"--config={config}", *SMALL, *own, f"--model.task={task}", *arguments]
    return run_here(main, *flags, cwd=folder.parent)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]


@pytest.mark.slow
@pytest.mark.parametrize(("task", "title"), [("augself", "AugSelf"), ("essl", "E-SSL")])
def test_a_run_is_gone_on_with_exported_and_opened(task: str, title: str, tmp_path: Path) -> None:
    """On views whose numbers are not the paper's 11; against a run that nothing broke off."""
    folder, whole = tmp_path / "run", tmp_path / "whole"
    output_of(pretrain(folder, task, 2, "--trainer.max_steps=3"))
    begun = weights(folder)
    output_of(pretrain(folder, task, 2, "--ckpt_path=last"))
    output_of(pretrain(whole, task, 2))
    done = weights(folder)
    assert {name.split(".")[1] for name in done} == {"backbone", "head", "task"}
    of_task = [name for name in done if name.startswith("star.task.") and name.endswith("weight")]
    assert all(not torch.equal(done[name], begun[name]) for name in of_task)
    assert all(torch.equal(done[name], other) for name, other in weights(whole).items())

    trained = open_trained(folder / "checkpoints/last.ckpt")
    assert trained.settings["head"] == f"SimCLR, 1 expert, with {title}"
    assert trained.transform.parameters[-1].label != "blur sigma"
    images = torch.rand(2, 3, 16, 16)
    exported = open_encoder(folder / "encoder").backbone.eval()
    torch.testing.assert_close(exported(images), trained.backbone(images))
    assert f"SimCLR with {title}" in (folder / "encoder/README.md").read_text()

    other = {"augself": "essl", "essl": "augself"}[task]
    refused = pretrain(folder, other, 2, "--ckpt_path=last")
    assert refused.returncode
    assert "its run had" in refused.stderr or "its model is not this one" in refused.stderr


def test_a_task_is_as_wide_as_its_experts_at_most_as_its_paper_has_it() -> None:
    settings = {"statistics": "stl10", "batch_size": 8, "routing": "invariant"}
    settings["output_dim"] = 4
    for task, kind, widths in (("augself", AugSelf, (24, 512)), ("essl", ESSL, (96, 2048))):
        for hidden_dim, width in zip((24, 600), widths, strict=True):
            star = create_module(
                backbone="test_resnet", task=task, hidden_dim=hidden_dim, **settings
            ).star
            assert isinstance(star, STARBaseline)
            assert isinstance(star.task, kind)
            head = star.task.heads["crop"] if task == "augself" else star.task.head
            assert head[0].out_features == width


def test_a_model_of_one_size_turns_images_of_that_size() -> None:
    settings = {"statistics": "stl10", "batch_size": 8, "routing": "invariant", "task": "essl"}
    for name, size, expected in (("test_vit", 32, 32), ("test_resnet", 32, None)):
        star = create_module(backbone=name, input_size=size, **settings).star
        assert star.turned_size == expected
        views = torch.rand(3, 2, 3, size, size)
        params = (torch.rand(2, 11),) * 2
        assert star(STARViews(views[0], (views[1], views[2]), params)).total.isfinite()


def test_of_one_seed_all_methods_begin_with_the_same_backbone() -> None:
    weights = []
    for settings in ({"task": "augself"}, {"task": "essl"}, {}, {"routing": "mmoe"}):
        torch.manual_seed(4)
        given = {"backbone": "test_resnet", "output_dim": 4, "routing": "invariant", **settings}
        weights.append(create_module("stl10", 8, **given).star.backbone.state_dict())
    for other in weights[1:]:
        assert all(torch.equal(other[name], tensor) for name, tensor in weights[0].items())


def test_a_task_stands_in_place_of_star() -> None:
    with pytest.raises(ValueError, match=r"^head: expected routing='invariant' beside another"):
        create_module("stl10", 8, backbone="test_resnet", task="essl")
