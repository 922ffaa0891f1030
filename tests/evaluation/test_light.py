"""What classifies features needs torch and NumPy, and nothing else."""

import subprocess
import sys

SCRIPT = """
import sys
for name in ("tqdm", "PIL", "sklearn", "scipy", "timm", "lightly", "torchvision", "lightning",
             "matplotlib", "yaml"):
    sys.modules[name] = None  # importing it is an error
import torch
from star_head.evaluation import few_shot, linear_probe, nearest_neighbours
x, y = torch.randn(90, 5), torch.arange(90) % 6
linear_probe((x[:40], y[:40]), (x[40:60], y[40:60]), (x[60:], y[60:]))
nearest_neighbours((x, y), (x, y))
few_shot((x, y), episodes=3)
try:
    from star_head.evaluation import extract_features
except ImportError as error:
    assert 'pip install "star-head[evaluation]"' in str(error), error
else:
    raise AssertionError
"""


def test_solvers_need_torch_and_numpy_alone() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
