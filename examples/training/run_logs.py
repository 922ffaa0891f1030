"""What a run logged, read from its CSV files, and as a table."""

import csv
from collections.abc import Mapping
from pathlib import Path

# By the names that they are logged by, in the order of the table.
_LABELS = {
    "train_loss_invariant": "loss, invariant part",
    "train_loss_equivariant": "loss, equivariant part",
    "knn_accuracy": "1-NN accuracy",
    "weighted_knn_accuracy": "weighted k-NN accuracy",
    "probe_accuracy": "linear probe, top-1",
    "probe_top5_accuracy": "linear probe, top-5",
    "effective_rank": "effective rank of the features",
    "embedding_spread": "spread of the features",
    "mean_canonical_correlation": "mean canonical correlation",
    "routing_divergence": "divergence of the routings",
    "mean_reciprocal_rank": "mean reciprocal rank",
    "mean_r2": "mean R² of parameters",
}


def read_logs(folder: Path) -> dict[str, dict[int, float]]:
    """Each logged quantity's values by step; of a step that was repeated, the last.

    Raises:
        FileNotFoundError: If the folder holds no logs.
    """
    folder = folder.expanduser()
    paths = list(folder.glob("csv/version_*/metrics.csv"))
    if not paths:
        raise FileNotFoundError(f"folder: expected logs of examples/pretrain.py in {folder}/csv")
    logs: dict[str, dict[int, float]] = {}
    for path in sorted(paths, key=lambda path: int(path.parent.name.removeprefix("version_"))):
        with open(path, newline="") as file:
            for row in csv.DictReader(file):
                _add(logs, int(row.pop("step")), row)
    return logs


def _add(logs: dict[str, dict[int, float]], step: int, row: Mapping[str, str]) -> None:
    for name, value in row.items():
        if value:
            logs.setdefault(name, {})[step] = float(value)


def table_of(logs: Mapping[str, Mapping[int, float]], title: str = "") -> str:
    """First and last value of each loss, monitor and probe, and chance where that is logged.

    Args:
        logs: Values by step, by the names that ``STARModule`` and the callbacks of
            ``star_head.adapters.callbacks`` log them by; of others there is no row.
        title: Stands above the rows' names.
    """
    lines = [f"{title:32} {'first':>9} {'last':>9} {'chance':>9}"]
    for name, label in _LABELS.items():
        values = logs.get(name)
        if values:
            chance = logs.get(f"{name}_chance")
            ends = [values[min(values)], values[max(values)]]
            ends += [chance[max(chance)]] if chance else []
            lines.append(f"{label:32} {' '.join(f'{value:9.4g}' for value in ends)}")
    return "\n".join(lines)
