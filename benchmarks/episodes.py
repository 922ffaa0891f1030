"""Solving few-shot episodes in batches against scikit-learn, episode by episode, on real features.

    python benchmarks/episodes.py

Features are an untrained ResNet-10's of scikit-learn's digits, which need no download. Both solve
the same episodes, taking turns of fifty; encoding, which both would do once, is left out.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from encoder import Encoder
from features import EvaluationTransform
from few_shot import QUERIES, WAYS, Episodes, confidence_interval, draw_episodes, solve
from image_data import load_images

from star_head.adapters.lightly import STL10_NORMALIZE
from star_head.adapters.timm import create_backbone

EPISODES, TURN = 400, 50


@torch.no_grad()
def main() -> None:
    """Print time and accuracy of both, and their ratio."""
    torch.manual_seed(0)
    encoder = Encoder(create_backbone("resnet10t").eval(), 32, STL10_NORMALIZE)
    images = load_images("digits").pretrain.with_transform(
        EvaluationTransform(encoder.input_size, encoder.normalize)
    )
    features = encoder.backbone(torch.stack([images[i][0] for i in range(len(images))]))
    print(f"{EPISODES} episodes, {features.shape[1]} features  scikit-learn   ours   ratio")
    for shots in (1, 5):
        episodes = draw_episodes(images.labels, shots, EPISODES, seed=0)
        seconds = [0.0, 0.0]
        accuracies: list[list[torch.Tensor]] = [[], []]
        solve(features, Episodes(episodes.support[:TURN], episodes.queries[:TURN]))  # warm up
        for start in range(0, EPISODES, TURN):
            part = Episodes(*(indices[start : start + TURN] for indices in episodes))
            for i, solver in enumerate((solve_one_by_one, solve)):
                begun = time.perf_counter()
                accuracies[i].append(solver(features, part))
                seconds[i] += time.perf_counter() - begun
        reference, ours = (torch.cat(parts) for parts in accuracies)
        ratio = seconds[0] / seconds[1]
        print(f"{shots}-shot, seconds {seconds[0]:26.2f} {seconds[1]:6.2f} {ratio:7.1f}")
        print(f"{shots}-shot, accuracy {reference.mean():25.4f} {ours.mean():6.4f}", end="")
        print(f"  (95% interval of the former +- {confidence_interval(reference):.4f})")


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
