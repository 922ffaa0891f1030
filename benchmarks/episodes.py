"""Few-shot episodes in batches on features encoded once, against the protocol as it is written.

    python -m benchmarks.episodes

The images are scikit-learn's digits, which need no download, and the encoder is a ResNet-10 of
which only the norms' statistics have seen them. The protocol encodes the images of an episode and
solves it by scikit-learn, one episode after another. Both solve the same episodes, taking turns of
fifty. "solving" is without encoding; "whole" is with it: ours encodes all images once.
"""

import time

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from star_head.adapters.lightly import STL10_NORMALIZE
from star_head.adapters.timm import create_backbone
from star_head.evaluation.few_shot import Episodes, confidence_interval, draw_episodes, solve
from star_head.evaluation.preparation import Encoder, EvaluationTransform
from star_head.examples.data.image_data import load_images

WAYS, QUERIES = 5, 16
EPISODES, TURN = 400, 50


@torch.inference_mode()
def main() -> None:
    """Print time and accuracy of both, and their ratio."""
    torch.manual_seed(0)
    encoder = Encoder(create_backbone("resnet10t").eval(), 32, STL10_NORMALIZE)
    images = load_images("digits").pretrain.with_transform(
        EvaluationTransform(encoder.input_size, encoder.normalize)
    )
    pixels = torch.stack([images[i][0] for i in range(len(images))])
    encoder.backbone.train()
    for batch in torch.split(pixels, 256):  # fills the norms' statistics, and warms up
        encoder.backbone(batch)
    encoder.backbone.eval()
    begun = time.perf_counter()
    features = torch.cat([encoder.backbone(part) for part in torch.split(pixels, 256)])
    encoding = time.perf_counter() - begun
    print(f"{EPISODES} episodes, {len(pixels)} images, {features.shape[1]} features")
    print(f"{'':20}{'scikit-learn':>14}{'ours':>8}{'ratio':>8}")
    for shots in (1, 5):
        episodes = draw_episodes(images.labels, shots, EPISODES, seed=0)
        seconds = [0.0, 0.0]
        one_by_one = 0.0
        accuracies: list[list[torch.Tensor]] = [[], []]
        solve(features, Episodes(episodes.support[:TURN], episodes.queries[:TURN]))  # warm up
        for start in range(0, EPISODES, TURN):
            part = Episodes(*(indices[start : start + TURN] for indices in episodes))
            for i, solver in enumerate((solve_one_by_one, solve)):
                begun = time.perf_counter()
                accuracies[i].append(solver(features, part))
                seconds[i] += time.perf_counter() - begun
            begun = time.perf_counter()
            encode_one_by_one(encoder, pixels, part)
            one_by_one += time.perf_counter() - begun
        reference, ours = (torch.cat(parts) for parts in accuracies)
        theirs, mine = seconds
        print_row(f"{shots}-shot, solving, s", theirs, mine)
        print_row(f"{shots}-shot, whole, s", theirs + one_by_one, mine + encoding)
        print(f"{f'{shots}-shot, accuracy':20}{reference.mean():14.4f}{ours.mean():8.4f}", end="")
        print(f"  (95% interval of the former +- {confidence_interval(reference):.4f})")


def print_row(name: str, theirs: float, ours: float) -> None:
    """Seconds of both and their ratio."""
    print(f"{name:20}{theirs:14.2f}{ours:8.2f}{theirs / ours:8.1f}")


def encode_one_by_one(encoder: Encoder, pixels: torch.Tensor, episodes: Episodes) -> None:
    """Encode the images of each episode."""
    for support, queries in zip(*episodes, strict=True):
        encoder.backbone(pixels[np.concatenate([support.ravel(), queries.ravel()])])


def solve_one_by_one(features: torch.Tensor, episodes: Episodes) -> torch.Tensor:
    """The protocol as it is written."""
    shots = episodes.support.shape[2]
    labels, truth = np.repeat(np.arange(WAYS), shots), np.repeat(np.arange(WAYS), QUERIES)
    accuracies = []
    for support, queries in zip(*episodes, strict=True):
        model = OneVsRestClassifier(LogisticRegression(solver="liblinear"))
        model.fit(features[support.ravel()].numpy(), labels)
        predicted = model.predict(features[queries.ravel()].numpy())
        accuracies.append(float((predicted == truth).mean()))
    return torch.tensor(accuracies, dtype=torch.float64)


if __name__ == "__main__":
    main()
