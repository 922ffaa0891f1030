"""The few-shot script."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from running import output_of, run_here

from star_head.adapters.timm import create_backbone, export_encoder


def test_from_the_command_line(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for c in range(6):
        for i in range(8):
            path = tmp_path / f"images/class{c}/{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = 40 * c + generator.integers(30, size=(32, 32, 3))  # brightness tells them
            Image.fromarray(pixels.astype(np.uint8)).save(path)
    torch.manual_seed(0)
    export_encoder(create_backbone("resnet10t"), tmp_path / "encoder", input_size=32)
    arguments = ["encoder", "images", "--episodes=60"]
    printed = output_of(run_here("examples/few_shot.py", *arguments, cwd=tmp_path))
    results = json.loads((tmp_path / "runs/few_shot.json").read_text())
    assert results["images"] == 48
    for shots in ("1-shot", "5-shot"):
        assert 0.3 < results[shots]["accuracy"] <= 1  # chance is 0.2
        assert results[shots]["95% interval"] < 0.1
        assert shots in printed
