"""Turn a training checkpoint, or one that STAR's authors released, into an encoder for timm.

    star-head export-encoder runs/stl10_resnet18/checkpoints/last.ckpt encoder
    star-head export-encoder authors.pth encoder

``timm.create_model("local-dir:encoder", pretrained=True)`` opens it. A ResNet's model.safetensors
also loads into torchvision's model whose ``fc`` is an identity.
"""

from pathlib import Path

from star_head.adapters.lightly import STARTransform
from star_head.adapters.timm import export_encoder
from star_head.evaluation.networks import open_encoder
from star_head.examples.command_line import print_next, run


def main(checkpoint: str, folder: Path) -> None:
    """Export the encoder that a checkpoint holds; nothing in the file is run.

    Args:
        checkpoint: Checkpoint of examples/pretrain.py, or of the authors.
        folder: Where config.json and model.safetensors go.
    """
    encoder = open_encoder(checkpoint)
    transform = STARTransform(encoder.input_size, normalize=encoder.normalize)
    training = {"method": "STAR", "checkpoint": Path(checkpoint).name}
    export_encoder(encoder.backbone, folder, transform=transform, training=training)
    print(f"The encoder of {checkpoint} is in {folder}")
    print_next(accuracies_on_labelled_images=f"star-head linear-eval {folder} --data_dir data")


if __name__ == "__main__":
    run(main)
