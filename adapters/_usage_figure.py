"""A picture of which expert serves which task. Needs Matplotlib."""

from matplotlib.figure import Figure
from torch import Tensor

INVARIANT, EQUIVARIANT = "#3b6fb6", "#d9822b"


def usage_figure(usage: Tensor, spread: Tensor, divergence: float) -> Figure:
    """Draw each expert's share in the two tasks; those of the invariant task first.

    Args:
        usage: Mean weight of each expert for each task, (2, E).
        spread: Its standard deviation over samples, (2, E).
        divergence: Divergence of the two tasks' routings.
    """
    order = (usage[1] - usage[0]).argsort()
    experts = range(len(order))
    figure = Figure(figsize=(max(5.0, 0.55 * len(order) + 2), 3.6), layout="constrained")
    axis = figure.subplots()
    for task, (name, color) in enumerate(
        (("invariant task", INVARIANT), ("equivariant task", EQUIVARIANT))
    ):
        axis.bar(
            [expert + 0.4 * task - 0.2 for expert in experts],
            usage[task, order],
            width=0.38,
            yerr=spread[task, order],
            error_kw={"elinewidth": 0.8, "ecolor": "#555555"},
            color=color,
            label=name,
        )
    even = 1 / len(order)
    axis.axhline(
        even, color="#888888", linewidth=0.8, linestyle="--", label=f"even: 1/{len(order)}"
    )
    axis.set_xticks(list(experts), [str(int(expert)) for expert in order])
    axis.set_xlabel(
        r"expert, from the invariant task's own $\rightarrow$ to the equivariant task's"
    )
    axis.set_ylabel("routing weight (mean, std over images)")
    axis.set_title(
        f"Divergence of the two tasks' routings: {divergence:.2f} (0 to 1)",
        fontsize=10,
    )
    axis.margins(y=0.25)
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False, fontsize=9, ncols=3, loc="upper center")
    return figure
