"""Pictures of the runs' numbers."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

from benchmarks.claims import ELSEWHERE
from benchmarks.evidence.budgets import EXPERTS, METHODS
from star_head.examples.comparing.methods import title_of
from star_head.examples.comparing.results import CORRELATION, LINEAR, Comparison, Measure

_COLORS = dict(
    zip(METHODS, plt.get_cmap("viridis_r")(np.linspace(0, 1, len(METHODS))), strict=True)
)
_WITHOUT_EXPERTS = {"simclr": ":", "equimod": "--", "star-ss": "-."}


def draw_redundancy(budgets: Sequence[Comparison], path: Path) -> None:
    """Draw linear accuracy on the other data set against redundancy: each seed small, means large.

    Args:
        budgets: A panel each.
        path: Path of the PNG file.
    """
    figure, axes = plt.subplots(
        1, len(budgets), figsize=(5.2 * len(budgets), 4.2), squeeze=False, layout="constrained"
    )
    for axis, budget in zip(axes[0], budgets, strict=True):
        for name, color in _COLORS.items():
            if name not in budget.runs:
                continue
            x = budget.values(name, CORRELATION)
            if not x:  # SimCLR has one embedding, and so no redundancy
                level = mean(budget.values(name, ELSEWHERE))
                axis.axhline(level, color="#888888", linestyle=":", label=title_of(name))
                continue
            y = budget.values(name, ELSEWHERE)
            axis.plot(x, y, "o", color=color, markersize=3.5, alpha=0.7)
            axis.plot(mean(x), mean(y), "o", color=color, markersize=9, label=title_of(name))
        axis.set_xlabel("mean canonical correlation of the two embeddings")
        axis.set_ylabel("linear accuracy on the other data set, %")
        axis.xaxis.set_major_locator(MaxNLocator(6))
        axis.set_title(f"trained on {budget.title}", fontsize=10)
        axis.grid(alpha=0.25)
    axes[0, -1].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_experts(budgets: Sequence[Comparison], path: Path) -> None:
    """Draw redundancy and accuracies against the number of experts, beside the fixed routings.

    Args:
        budgets: A row each.
        path: Path of the PNG file.
    """
    measures: tuple[Measure, ...] = (CORRELATION, LINEAR, ELSEWHERE)
    figure, axes = plt.subplots(
        len(budgets), 3, figsize=(11, 3.1 * len(budgets)), squeeze=False, layout="constrained"
    )
    for row, budget in zip(axes, budgets, strict=True):
        names = [name for name in budget.runs if name in EXPERTS]
        counts = [EXPERTS[name] for name in names]
        for axis, measure in zip(row, measures, strict=True):
            values = [budget.values(name, measure) for name in names]
            spreads = [stdev(of_name) if len(of_name) > 1 else 0.0 for of_name in values]
            axis.errorbar(
                counts,
                [mean(of_name) for of_name in values],
                yerr=spreads,
                marker="o",
                color="#7b4ea3",
                capsize=3,
                label="STAR-MMoE",
            )
            for name, style in _WITHOUT_EXPERTS.items():
                if name in budget.runs and (found := budget.values(name, measure)):
                    axis.axhline(
                        mean(found), color="#555555", linestyle=style, label=title_of(name)
                    )
            axis.set_xscale("log", base=2)
            axis.set_xticks(counts, [str(count) for count in counts])
            axis.set_xlabel("experts")
            axis.set_title(measure.title, fontsize=10)
            axis.grid(alpha=0.25)
        row[0].set_ylabel(f"trained on\n{budget.title}")
    figure.legend(*axes[0, 1].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.savefig(path, dpi=110)
    plt.close(figure)
