"""Queries and the images nearest to them, as one figure of the report."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from star_head.evaluation.report.plots import STYLE, WIDTH, as_uri


def draw_neighbours(
    pictures: Mapping[int, np.ndarray],
    found: Mapping[str, Any],
    labels: Sequence[str] | None,
    rows: Mapping[str, str],
) -> str:
    """Draw each query and under it, a row for each space, the images nearest to it.

    Args:
        pictures: Those of the images to show, (48, 48, 3), by index.
        found: Result of ``measures.neighbours``.
        labels: Each image's class; one of another class than the query's is framed.
        rows: Names of spaces, and how to write them.
    """
    gap = 7
    side = len(pictures[found["queries"][0]])
    queries, count = found["queries"], len(next(iter(found["nearest"].values()))[0])
    block = count * (side + gap) + 3 * gap
    tops = [gap + r * (side + gap) + 2 * gap * (r > 0) for r in range(1 + len(rows))]
    canvas = np.full((tops[-1] + side + gap, len(queries) * block, 3), 255, np.uint8)

    def put(row: int, query: int, column: int, index: int) -> None:
        y, x = tops[row], query * block + column * (side + gap) + gap
        if labels is not None and labels[index] != labels[queries[query]]:
            canvas[y - 3 : y + side + 3, x - 3 : x + side + 3] = (0xD9, 0x82, 0x2B)
        canvas[y : y + side, x : x + side] = pictures[index]

    for q, query in enumerate(queries):
        put(0, q, 0, query)
        for r, name in enumerate(rows):
            for c, index in enumerate(found["nearest"][name][q]):
                put(1 + r, q, c, index)
    with matplotlib.rc_context(STYLE):
        left, right = 1.45, 0.75  # inches, for what is written beside
        height = (WIDTH - left - right) * canvas.shape[0] / canvas.shape[1]
        figure = Figure(figsize=(WIDTH, height))
        axis = figure.add_axes((left / WIDTH, 0, 1 - (left + right) / WIDTH, 1))
        axis.imshow(canvas, interpolation="none")
        axis.spines[:].set_visible(False)
        axis.tick_params(length=0)
        axis.set_xticks([])
        middles = [top + side / 2 for top in tops]
        axis.set_yticks(middles, ["query", *rows.values()], fontsize=8)
        for q, query in enumerate(queries):
            if labels is not None:
                x = q * block + side + 3 * gap
                axis.text(x, middles[0], labels[query], va="center", fontsize=8, color="#374151")
        if shares := found["share of the same class"]:
            beside = axis.secondary_yaxis("right")
            numbers = [f"{shares[name]:.3f}" for name in rows]
            beside.set_yticks(middles, ["same class", *numbers], fontsize=8)
            beside.spines[:].set_visible(False)
            beside.tick_params(length=0)
        return as_uri(figure)
