"""Pretrain an encoder with STAR, as the paper does or otherwise: one command and a YAML file.

    star-head pretrain --config stl10_resnet18
    star-head pretrain --config ... --ckpt_path=last        # go on where it stopped
    star-head pretrain --config ... --trainer.devices=4     # on four GPUs
    star-head pretrain --help                               # every setting

Writes to --trainer.default_root_dir: checkpoints/last.ckpt after every epoch, and others to keep;
config.yaml, the resolved settings; TensorBoard and CSV logs; and encoder/, in timm's format, when
it is done. docs/pretraining.md has the commands for many machines.
"""

import json
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.callbacks import ProgressBar as LightningProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.plugins.io import CheckpointIO

from star_head import STAR, STARLoss, STARProjectionHead
from star_head._whole_files import replacing
from star_head.adapters._settings import check_same_settings
from star_head.adapters.lightning import STARModule
from star_head.adapters.timm import create_backbone, describe_backbone, export_encoder
from star_head.adapters.torchvision import RecordedTransform
from star_head.augmentation import Parameter, ParameterSpec
from star_head.baseline_models import BaselineTask, STARBaseline
from star_head.baselines import ESSL, AugSelf
from star_head.equivariance import StatisticsLike
from star_head.evaluation.known_transforms import why_not_rebuilt
from star_head.examples.command_line import parser_help, print_next, with_home, with_underscores
from star_head.examples.configs import find_config
from star_head.examples.data.data_module import ImageDataModule
from star_head.examples.data.recorded_views import register_types
from star_head.examples.training.checkpoints import SafeCheckpointIO
from star_head.examples.training.lightning_messages import leave_out_needless_messages
from star_head.examples.training.monitors import Monitors
from star_head.examples.training.processes import leave_group
from star_head.examples.training.progress import ProgressBar
from star_head.examples.training.resumable import LastCheckpoint, StopOnSigterm, fit
from star_head.examples.training.run_logs import read_logs, table_of
from star_head.head import Routing

_ROOT = "runs/pretrain"


def create_module(
    statistics: StatisticsLike,
    batch_size: int,
    backbone: str = "resnet18",
    small_images: bool = False,
    input_size: int | None = None,
    in_chans: int = 3,
    backbone_args: dict[str, Any] | None = None,
    init: Literal["timm", "paper"] = "paper",
    routing: Routing = "mmoe",
    task: BaselineTask | None = None,
    parameters: Sequence[Parameter | ParameterSpec] = tuple(Parameter),
    num_experts: int | None = None,
    hidden_dim: int | None = None,
    output_dim: int = 128,
    temperature: float = 0.2,
    equivariant_weight: float = 1.0,
    **training: Any,
) -> STARModule:
    """Build encoder, head and loss, and how they are trained.

    Args:
        statistics: Statistics of the augmentation parameters; the data module's.
        batch_size: Images in a batch over all processes; the data module's.
        backbone: Any timm model.
        small_images: Give a ResNet the stem for images of about 32 pixels.
        input_size: Side of the views in pixels; the data module's. A model that is made for one
            size, as a ViT is, is made for this one.
        in_chans: Channels of the views; the data module's.
        backbone_args: Further arguments of timm's model, such as drop_path_rate.
        init: Initial weights as the authors draw them or as timm does.
        routing: "mmoe", "shared" (STAR-SS), "separate" (EquiMod) or "invariant" (SimCLR).
        task: "augself" or "essl" beside SimCLR, with routing "invariant", in place of STAR; a task
            is as wide as its paper has it beside 512 features, and narrower with narrower experts.
        parameters: Names of the augmentation parameters; the data module's.
        num_experts: Number of experts; default 16 for "mmoe".
        hidden_dim: Hidden width of the experts; default: the backbone's width.
        output_dim: Width of the embeddings.
        temperature: Temperature of both NT-Xent losses.
        equivariant_weight: lambda; the weights of "augself" and "essl" are their papers'.
        **training: Further arguments of STARModule, which are flags too.
    """
    built = dict(backbone_args or {})
    if in_chans != 3:
        built.setdefault("in_chans", in_chans)
    encoder = create_backbone(
        backbone,
        small_images=small_images,
        init=init,
        input_size=input_size,
        **built,
    )
    width: Any = encoder.num_features
    head = STARProjectionHead(
        width,
        hidden_dim or width,
        output_dim,
        num_experts=num_experts,
        routing=routing,
        statistics=statistics,
    )
    loss = STARLoss(temperature, equivariant_weight, gather_distributed=True)
    hidden_dim = hidden_dim or width
    if task is None:
        star = STAR(encoder, head, loss)
    elif task == "augself":
        predicted = AugSelf(width, statistics, None, min(512, hidden_dim), parameters)
        star = STARBaseline(encoder, head, predicted, loss)
    else:
        # A model that is made for one size takes no other.
        made: Any = encoder.pretrained_cfg
        fixed = made.get("fixed_input_size", False)
        turned = ESSL(width, hidden_dim=min(2048, 4 * hidden_dim))
        star = STARBaseline(encoder, head, turned, loss, turned_size=input_size if fixed else None)
    return STARModule(star, batch_size=batch_size, **training)


# What may change when a run is resumed: where, how fast and how long it trains, and what is
# looked at meanwhile. The data module compares the data.
_FREE = {
    "model": {"compile", "channels_last"},
    "data": {"data_dir", "num_workers", "cache", "skip_unreadable", "monitor_images"},
}
# Of the trainer, what does not.
_TRAINED = (
    *("precision", "accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm"),
    *("limit_train_batches", "overfit_batches"),
)


class SaveConfig(SaveConfigCallback):
    """Saves the resolved settings beside the checkpoints, once no checkpoint was refused.

    A checkpoint holds those that decide what is trained, and is resumed with the same ones only.
    """

    def state_dict(self) -> dict[str, Any]:
        """The settings that decide what is trained, by the names of their flags."""
        settings = json.loads(self.parser.dump(self.config, skip_none=False, format="json"))
        found = {f"trainer.{name}": settings["trainer"][name] for name in _TRAINED}
        found |= {name: settings.get(name) for name in ("optimizer", "lr_scheduler")}
        for part, free in _FREE.items():
            found |= _flat(part, {n: v for n, v in settings[part].items() if n not in free})
        return found

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Refuse by name what would make another run of it."""
        own = self.state_dict()
        # A setting that was made in one of the two only, as a transform of another class has.
        absent = dict.fromkeys(own.keys() | state_dict.keys())
        check_same_settings(absent | state_dict, absent | own)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Nothing yet: the checkpoint to go on from is read after this."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write config.yaml, which ``--config`` takes again."""
        if not trainer.is_global_zero:
            return
        # A run that is resumed keeps its seed.
        config = self.config.clone()
        config["seed_everything"] = trainer.datamodule.seed  # type: ignore[attr-defined]
        with replacing(Path(trainer.default_root_dir, "config.yaml")) as scratch:
            scratch.write_text(self.parser.dump(config, skip_none=False))


def _flat(name: str, value: Any) -> dict[str, Any]:
    """Settings within settings by one name each."""
    if not isinstance(value, Mapping) or not value:
        return {name: value}
    parts = (_flat(f"{name}.{key}", part) for key, part in value.items())
    return {key: part for found in parts for key, part in found.items()}


class PretrainCLI(LightningCLI):
    """The command line: trainer, model and data, and what this script adds to them."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add checkpoints and monitors; take from the data what the model must know."""
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
        parser.add_lightning_class_args(Monitors, "monitors")
        parser.link_arguments("data.batch_size", "model.batch_size")
        parser.link_arguments("data.input_size", "model.input_size", apply_on="instantiate")
        parser.link_arguments("data.in_chans", "model.in_chans", apply_on="instantiate")
        parser.link_arguments("data.statistics", "model.statistics", apply_on="instantiate")
        parser.link_arguments("data.parameters", "model.parameters", apply_on="instantiate")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Add checkpoints and logs."""
        config = self.config_init["trainer"]
        root = Path(config["default_root_dir"] or _ROOT).expanduser()
        kwargs["default_root_dir"] = root
        keep_every = self.config_init["keep_every_n_epochs"]
        folder = root / "checkpoints"
        callbacks: list[Any] = [
            LastCheckpoint(folder),
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
        own = _as_list(config["callbacks"])
        if config["enable_progress_bar"] is not False and not any(
            isinstance(callback, LightningProgressBar) for callback in own
        ):
            callbacks.append(ProgressBar())
        callbacks = own + callbacks
        return super().instantiate_trainer(callbacks=callbacks, plugins=plugins, **kwargs)


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [] if value is None else [value]


def export(module: STARModule, data: ImageDataModule, epochs: int, folder: Path) -> None:
    """Write the encoder in timm's format and say how to open it."""
    backbone = module.star.backbone
    trained_on = data.state_dict()
    views = data.transform
    training = {
        "method": _method(module.star),
        "views": type(getattr(views, "transform", views)).__name__,
        "data set": f"{trained_on['images']:,} images of {trained_on['dataset']}, no labels",
        "epochs": epochs,
        "batch size": module.batch_size,
        "learning rate": f"{module.learning_rate} x batch / 256",
        "weight decay": module.weight_decay,
        "seed": trained_on["seed"],
        "settings": "config.yaml beside this folder",
    }
    export_encoder(backbone, folder, transform=data.transform, training=training)
    opening = f"timm.create_model('local-dir:{folder}', pretrained=True)"
    if describe_backbone(backbone)["small_images"]:
        opening = f"star_head.adapters.timm.load_encoder('{folder}')"
    print(f"The encoder is in {folder}: {opening}")


def _method(star: STAR) -> str:
    if isinstance(star, STARBaseline):
        return f"SimCLR with {'AugSelf' if isinstance(star.task, AugSelf) else 'E-SSL'}"
    return f"STAR, routing {star.head.routing}"


def warn_unless_rebuilt(cli: LightningCLI) -> None:
    """Say at the start of a run if its transform could not be made again from config.yaml."""
    transform = cli.datamodule.transform
    if not isinstance(transform, RecordedTransform):
        return
    settings = json.loads(cli.parser.dump(cli.config, skip_none=False, format="json"))
    reason = why_not_rebuilt(transform, settings["data"]["transform"])
    if reason is not None:
        warnings.warn(
            f"star-head analyze will not open this run's checkpoints, since its transform cannot "
            f"be made again from its settings: {reason}. Training goes on; from Python, "
            f"star_head.evaluation.open_trained(checkpoint, transform=...) opens them",
            stacklevel=2,
        )


def named_configs(arguments: Sequence[str]) -> list[str]:
    """Arguments with the path of a shipped configuration in place of its name.

    Raises:
        FileNotFoundError: If a configuration is neither a file nor shipped.
    """
    found = list(arguments)
    for i, argument in enumerate(found):
        if argument in ("-c", "--config") and i + 1 < len(found):
            found[i + 1] = find_config(found[i + 1])
        elif argument.startswith("--config="):
            found[i] = f"--config={find_config(argument.removeprefix('--config='))}"
    return found


def create_cli() -> PretrainCLI:
    """Trainer, model and data as the command line says."""
    leave_out_needless_messages()
    register_types()
    # Replaced in place: the processes that Lightning starts for further GPUs are given these.
    sys.argv[1:] = named_configs(with_home(with_underscores(sys.argv[1:])))
    return PretrainCLI(
        create_module,
        ImageDataModule,
        parser_kwargs=parser_help(__doc__),
        save_config_callback=SaveConfig,
        seed_everything_default=0,
        trainer_defaults={
            "default_root_dir": _ROOT,
            "max_epochs": 200,
            "num_sanity_val_steps": -1,  # what monitors measure before training
        },
        run=False,
    )


def train(cli: PretrainCLI) -> None:
    """Train, and export the encoder."""
    trainer = cli.trainer
    if trainer.is_global_zero:
        warn_unless_rebuilt(cli)
    name = "trainer.default_root_dir"
    fit(trainer, cli.model, cli.datamodule, cli.config["ckpt_path"], name)
    if trainer.is_global_zero and not cli.config["trainer"]["fast_dev_run"]:
        root = Path(trainer.default_root_dir)
        curves = tell_logs(root)
        export(cli.model, cli.datamodule, trainer.current_epoch, root / "encoder")
        print_next(
            accuracies_on_labelled_images=f"star-head linear-eval {root}/encoder --data_dir data",
            what_the_head_learned=f"star-head analyze {root}/checkpoints/last.ckpt",
            **curves,
        )
    leave_group()


def tell_logs(root: Path) -> dict[str, str]:
    """Print what a run's CSV files tell; how to draw them, if the loggers wrote any."""
    if not any(root.glob("csv/version_*/metrics.csv")):
        return {}
    print(table_of(read_logs(root)))
    board = root / "tensorboard"
    print(f"The curves are in {root}/csv{f' and for TensorBoard in {board}' * board.is_dir()}")
    return {"curves": f"star-head plot-run {root} curves.png"}


def main() -> None:
    """Train as the command line says."""
    train(create_cli())


if __name__ == "__main__":
    main()
