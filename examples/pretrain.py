"""Pretrain an encoder with STAR, as the paper does or otherwise: one command and a YAML file.

    python examples/pretrain.py --config examples/configs/stl10_resnet18.yaml
    python examples/pretrain.py --config ... --ckpt_path=last        # go on where it stopped
    python examples/pretrain.py --config ... --trainer.devices=4     # on four GPUs
    python examples/pretrain.py --help                               # every setting

Writes to --trainer.default_root_dir: checkpoints/last.ckpt after every epoch, and others to keep;
config.yaml, the resolved settings; TensorBoard and CSV logs; and encoder/, in timm's format, when
it is done. docs/pretraining.md has the commands for many machines.
"""

import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any, Literal

from checkpoints import SafeCheckpointIO
from data_module import ImageDataModule
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.plugins.io import CheckpointIO
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import SIGTERMException
from processes import leave_group
from whole_files import replacing

from star_head import STAR, STARLoss, STARProjectionHead
from star_head.adapters.lightly import STARTransform
from star_head.adapters.lightning import STARModule
from star_head.adapters.timm import create_backbone, describe_backbone, export_encoder
from star_head.equivariance import StatisticsLike
from star_head.head import Routing

_ROOT = "runs/pretrain"


def create_module(
    statistics: StatisticsLike,
    batch_size: int,
    backbone: str = "resnet18",
    small_images: bool = False,
    input_size: int | None = None,
    backbone_args: dict[str, Any] | None = None,
    init: Literal["timm", "paper"] = "paper",
    routing: Routing = "mmoe",
    num_experts: int | None = None,
    hidden_dim: int | None = None,
    output_dim: int = 128,
    temperature: float = 0.2,
    equivariant_weight: float = 1.0,
    **training: Any,
) -> STARModule:
    """Build encoder, head and loss, and how they are trained.

    Args:
        statistics: Of the augmentation parameters; the data module's.
        batch_size: Images in a batch over all processes; the data module's.
        backbone: Any timm model.
        small_images: Give a ResNet the stem for images of about 32 pixels.
        input_size: Side of the views in pixels; the data module's. A model that is made for one
            size, as a ViT is, is made for this one.
        backbone_args: Further arguments of timm's model, such as drop_path_rate.
        init: Initial weights as the authors draw them or as timm does.
        routing: "mmoe", "shared" (STAR-SS), "separate" or "invariant" (SimCLR).
        num_experts: With "mmoe"; 16 unless given.
        hidden_dim: Of the experts; the backbone's width unless given.
        output_dim: Of the embeddings.
        temperature: Of both NT-Xent losses.
        equivariant_weight: lambda.
        **training: Further arguments of STARModule, which are flags too.
    """
    encoder = create_backbone(
        backbone,
        small_images=small_images,
        init=init,
        input_size=input_size,
        **backbone_args or {},
    )
    width = encoder.num_features
    head = STARProjectionHead(
        width,
        hidden_dim or width,
        output_dim,
        num_experts,
        routing=routing,
        statistics=statistics,
    )
    loss = STARLoss(temperature, equivariant_weight, gather_distributed=True)
    return STARModule(STAR(encoder, head, loss), batch_size=batch_size, **training)


class SaveConfig(SaveConfigCallback):
    """Saves the resolved settings beside the checkpoints, once no checkpoint was refused."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Nothing yet: the checkpoint to go on from is read after this."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write config.yaml, which ``--config`` takes again."""
        if not trainer.is_global_zero:
            return
        with replacing(Path(trainer.default_root_dir, "config.yaml")) as scratch:
            scratch.write_text(self.parser.dump(self.config, skip_none=False))


class LastCheckpoint(ModelCheckpoint):
    """Under a name of its own, by which Lightning tells its state from the other's."""


class StopOnSigterm(Callback):
    """Ends a run of several processes in order when a cluster signals any of them.

    Lightning's own handler tells the others by a collective operation from within the handler,
    which waits forever where a process is in the midst of another.
    """

    def __init__(self) -> None:
        self._signalled = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the handler's place, which the trainer has installed by now."""
        if trainer.world_size > 1:
            signal.signal(signal.SIGTERM, self._note)

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """As early: that check may be a long one."""
        self.on_train_start(trainer, pl_module)

    def _note(self, *_: Any) -> None:
        self._signalled = True

    def _stop_together(self, trainer: Trainer) -> None:
        if trainer.world_size > 1 and trainer.strategy.reduce_boolean_decision(
            self._signalled, all=False
        ):
            raise SIGTERMException

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        """Stop before a batch that others would be waited for in."""
        self._stop_together(trainer)

    def on_validation_batch_start(self, trainer: Trainer, *_: Any) -> None:
        """Likewise while the monitor is at work."""
        self._stop_together(trainer)


class PretrainCLI(LightningCLI):
    """The command line: trainer, model and data, and what this script adds to them."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add resuming and checkpoints to keep; take from the data what the model must know."""
        parser.add_argument(
            "--ckpt_path",
            type=str | None,
            default=None,
            help="Go on from this checkpoint; 'last': from checkpoints/last.ckpt, if it is there.",
        )
        parser.add_argument(
            "--keep_every_n_epochs",
            type=int,
            default=50,
            help="How often to keep a checkpoint beside the last one.",
        )
        parser.link_arguments("data.batch_size", "model.batch_size")
        parser.link_arguments("data.input_size", "model.input_size", apply_on="instantiate")
        parser.link_arguments("data.statistics", "model.statistics", apply_on="instantiate")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Add checkpoints and logs."""
        config = self.config_init["trainer"]
        root = Path(config["default_root_dir"] or _ROOT)
        kwargs["default_root_dir"] = root
        keep_every = self.config_init["keep_every_n_epochs"]
        folder = root / "checkpoints"
        callbacks: list[Any] = [
            LastCheckpoint(
                folder, filename="last", enable_version_counter=False, save_on_train_epoch_end=True
            ),
            ModelCheckpoint(
                folder,
                filename="{epoch}",
                save_top_k=-1,
                every_n_epochs=keep_every,
                save_on_train_epoch_end=True,
            ),
            StopOnSigterm(),
        ]
        if config["logger"] is None:
            kwargs["logger"] = [TensorBoardLogger(root, "tensorboard"), CSVLogger(root, "csv")]
        plugins = _as_list(config["plugins"])
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            plugins.append(SafeCheckpointIO())
        callbacks = _as_list(config["callbacks"]) + callbacks
        return super().instantiate_trainer(callbacks=callbacks, plugins=plugins, **kwargs)


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [] if value is None else [value]


def check_folder(
    folder: Path,
    module: LightningModule,
    ckpt_path: str | None,
    name: str = "trainer.default_root_dir",
) -> None:
    """Raise before training where its results could not be written or would replace others'.

    Args:
        folder: Where they go.
        module: What is trained.
        ckpt_path: What it goes on from.
        name: Of the argument that gave the folder.

    Raises:
        FileExistsError: If the folder holds a run and ``ckpt_path`` is not of that run.
        OSError: If the folder is not writable, or its disk too full for two checkpoints.
    """
    last = folder / "checkpoints" / "last.ckpt"
    own = ckpt_path == "last" or (
        ckpt_path is not None and Path(ckpt_path).resolve().parent == last.parent.resolve()
    )
    if last.exists() and not own:
        raise FileExistsError(
            f"{name}: {folder} holds a run; go on with it by --ckpt_path=last, "
            f"or name another folder"
        )
    try:
        last.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=last.parent) as file:
            file.write(b"0")
    except OSError as error:
        raise OSError(f"{name}: {folder} is not writable: {error}") from error
    # Weights and momentum; a checkpoint is written beside the one that it replaces.
    size = 2 * sum(t.nbytes for t in module.state_dict().values())
    free = shutil.disk_usage(folder).free
    if free < 2 * size:
        raise OSError(
            f"{name}: two checkpoints need {2 * size / 1e6:.0f} MB, "
            f"and {folder} has {free / 1e6:.0f} MB free"
        )


def export(module: STARModule, transform: STARTransform, folder: Path) -> None:
    """Write the encoder in timm's format and say how to open it."""
    backbone = module.star.backbone
    export_encoder(backbone, folder, input_size=transform.input_size, normalize=transform.normalize)
    opening = f"timm.create_model('local-dir:{folder}', pretrained=True)"
    if describe_backbone(backbone)["small_images"]:
        opening = f"star_head.adapters.timm.load_encoder('{folder}')"
    rank_zero_info(f"The encoder is in {folder}: {opening}")


def main() -> None:
    """Train as the command line says."""
    cli = PretrainCLI(
        create_module,
        ImageDataModule,
        save_config_callback=SaveConfig,
        seed_everything_default=0,
        trainer_defaults={
            "default_root_dir": _ROOT,
            "max_epochs": 200,
            "num_sanity_val_steps": -1,  # the monitor's value before training
        },
        run=False,
    )
    trainer, ckpt_path = cli.trainer, cli.config["ckpt_path"]
    if trainer.is_global_zero:
        check_folder(Path(trainer.default_root_dir), cli.model, ckpt_path)
    try:
        trainer.fit(cli.model, cli.datamodule, ckpt_path=ckpt_path, weights_only=True)
    except SIGTERMException:
        rank_zero_info("Stopped by SIGTERM; --ckpt_path=last goes on from the last epoch's end.")
        leave_group()
        sys.exit(128 + signal.SIGTERM)
    if trainer.is_global_zero and not cli.config["trainer"]["fast_dev_run"]:
        export(cli.model, cli.datamodule.transform, Path(trainer.default_root_dir, "encoder"))
    leave_group()


if __name__ == "__main__":
    main()
