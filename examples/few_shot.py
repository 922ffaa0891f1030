"""Few-shot classification on frozen features: 5-way, 1-shot and 5-shot, 2,000 episodes each.

    star-head few-shot runs/stl10_resnet18/encoder data --dataset cub200
    star-head few-shot runs/stl10_resnet18/encoder photos

Each image is encoded once. An episode draws five classes, the shots of each and 16 queries of each,
and fits one-against-rest logistic regressions, as the paper's protocol does (arXiv 2510.27222, with
scikit-learn's liblinear), by star_head.evaluation.few_shot. What it prints for
FC100, CUB200 and Plant Disease is comparable to the figures in the paper's few-shot table.
"""

from pathlib import Path

import torch

from star_head._whole_files import write_json
from star_head.adapters._images import Color
from star_head.adapters._pixel_range import PixelRange
from star_head.evaluation import extract_features, few_shot, open_encoder
from star_head.examples.command_line import print_next, run
from star_head.examples.data.few_shot_data import FewShotName, load_few_shot
from star_head.examples.data.splits import Folders


def main(
    encoder: str,
    data_dir: Path,
    dataset: FewShotName = "folder",
    episodes: int = 2000,
    seed: int = 0,
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
    cache: Path = Path("runs/features"),
    output: Path = Path("runs/few_shot.json"),
    pixel_range: PixelRange | None = None,
    background: Color | None = None,
    folders: Folders | None = None,
) -> None:
    """Print mean accuracy over episodes and its 95% interval.

    Args:
        encoder: An exported folder, a checkpoint or a timm name.
        data_dir: A folder of class folders, or where another data set has its folder.
        dataset: What to classify.
        episodes: Number of episodes for each number of shots.
        seed: Seed of the draws.
        device: Where images are encoded.
        cache: Folder for the features.
        output: JSON file for the results.
        pixel_range: For ``folder``, the pixel values (low, high) that become black and white in
            images of more than 8 bits.
        background: For ``folder``, the colour (red, green, blue) under transparent pixels.
        folders: For ``folder``, what the folders at its top are, where their names do not say.
    """
    images = load_few_shot(
        dataset, data_dir, pixel_range=pixel_range, background=background, folders=folders
    )
    opened = open_encoder(encoder)
    opened.backbone.to(device)
    features = extract_features(opened, images, cache=cache)
    results: dict[str, object] = {
        "encoder": encoder,
        "dataset": dataset,
        "data_dir": str(data_dir),
        "images": len(images),
        "episodes": episodes,
        "seed": seed,
    }
    print(f"{len(images)} images, {episodes} episodes of 5 classes, 16 queries of each")
    for shots in (1, 5):
        accuracy, interval = few_shot(features, shots, episodes, seed=seed)
        results[f"{shots}-shot"] = {"accuracy": accuracy, "95% interval": interval}
        print(f"{shots}-shot: {100 * accuracy:.2f} +- {100 * interval:.2f}")
    write_json(output, results)
    print_next(with_all_labels=f"star-head linear-eval {encoder} --data_dir DATA")


if __name__ == "__main__":
    run(main)
