"""Draws the curves of what was measured and writes the tables of docs/cost.md and docs/gpu.md.

    python -m benchmarks.cost_report

Reads what cost_head.py and cost_evaluation.py wrote.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cost_backbone import count_backbone
from benchmarks.cost_counts import (
    FLOAT_BYTES,
    Sizes,
    head_activations,
    head_step,
    head_weights,
)
from benchmarks.cost_fit import (
    Point,
    PowerFit,
    Share,
    describe_errors,
    fit_head,
    fit_line,
    fit_sizes,
    head_shares,
    head_sizes,
    least_seconds,
    of_part,
)
from benchmarks.cost_plots import (
    MIB,
    SHARES,
    along,
    draw_evaluation,
    draw_head,
    draw_shares,
    middle,
)
from benchmarks.cost_points import read_points
from benchmarks.cost_predict import FAST, GPUS, SLOW, backbone_step, seconds
from benchmarks.cost_predict import head_step as count_head
from benchmarks.page_blocks import fill_page, table
from star_head.examples.command_line import run

# A step of STAR runs the backbone on the original and on two views, SimCLR's on the two views.
PASSES, SIMCLR_PASSES = 3, 2
PAPERS_EXPERTS = 16

# Backbone, side, experts and batch on each GPU, numbers of GPUs.
PREDICTED = (
    ("resnet18", 96, 16, 256, (1, 8)),
    ("resnet50", 224, 8, 64, (1, 4)),
    ("resnet50", 224, 8, 256, (1, 8)),
    ("vit_tiny_patch16_224", 96, 16, 256, (1, 8)),
)


def main(
    folder: Path = Path("runs/cost"),
    page: Path = Path("docs/cost.md"),
    gpu_page: Path = Path("docs/gpu.md"),
) -> None:
    """Draw pictures beside the page, fill in its tables and print them.

    Args:
        folder: Folder of head.json and evaluation.json.
        page: The Markdown file.
        gpu_page: That of the prediction, which needs nothing measured.
    """
    head, evaluation = (read_points(folder / f"{name}.json") for name in ("head", "evaluation"))
    blocks = {
        "cost: machine": describe(head["machine"]),
        "cost: head": head_tables(head["points"]),
        "cost: parameters": parameter_table(head["points"]),
        "cost: backbones": backbone_tables(head["points"]),
        "cost: evaluation": evaluation_tables(evaluation["points"]),
    }
    draw_head(head["points"], page.with_name("cost_head.png"))
    draw_shares(head_shares(head["points"]), page.with_name("cost_backbones.png"))
    draw_evaluation(evaluation["points"], page.with_name("cost_evaluation.png"))
    fill_page(page, blocks)
    fill_page(gpu_page, {"gpu: prediction": prediction_table()})


def describe(machine: Mapping[str, Any]) -> list[str]:
    """What was measured on."""
    pages = "with" if machine["huge pages"] else "without"
    versions = ", ".join(f"{name} {machine[name]}" for name in ("torch", "timm", "star-head"))
    return [
        f"{machine['device']}, {machine['threads']} threads, {machine['precision']}, {pages} huge "
        f"pages, Python {machine['python']}, {versions}.",
        "",
    ]


def head_tables(points: Sequence[Point]) -> list[str]:
    """Time and memory of the head, and the fitted model."""
    heads = of_part(points, "head")
    width, batch = middle(heads, "width", "batch"), middle(heads, "batch", "width")
    fit = fit_head(points)
    kept = []
    for point in heads:
        sizes = head_sizes(point["settings"])
        counted = FLOAT_BYTES * (head_weights(sizes) + head_activations(sizes))
        kept.append(point["peak_bytes"] / counted)
    powers = fit_sizes(heads, [least_seconds(point) for point in heads])
    largest = [p for p in heads if head_step(head_sizes(p["settings"])).operations > 1e9]
    lines = ["![Time and memory of the head](cost_head.png)", ""]
    lines += [f"Milliseconds per step (peak MiB), width {width}:", ""]
    lines += cross(heads, "experts", "batch", {"width": width})
    lines += [f"The same at batch {batch}:", ""]
    lines += cross(heads, "experts", "width", {"batch": batch})
    lines += [
        f"The fitted model: {1e3 * fit.overhead:.2f} ms + operations / {fit.rate / 1e9:.0f} x 10^9 "
        f"a second + bytes / {fit.bandwidth / 1e9:.1f} GB a second. Its errors: "
        f"{describe_errors(fit.errors)}, over {len(heads)} points.",
        "",
    ]
    lines += [power_line("All points", powers)]
    if len(largest) > 3:
        values = [least_seconds(point) for point in largest]
        more = fit_sizes(largest, values)
        lines += [power_line("Points of more than 10^9 operations", more)]
    lines += [
        "",
        f"The peak was {min(kept):.2f} to {max(kept):.2f} times the counted bytes of gradients "
        f"and of what is kept for the backward pass.",
        "",
    ]
    return lines


def parameter_table(points: Sequence[Point]) -> list[str]:
    """Millions of parameters of a head with experts and predictor, by experts and width."""
    sizes = [head_sizes(point["settings"]) for point in of_part(points, "head")]
    widths = sorted({size.width for size in sizes})
    rows = [
        [count, *(f"{head_weights(Sizes(1, width, count)) / 1e6:.2f}" for width in widths)]
        for count in sorted({size.experts for size in sizes if size.experts > 1})
    ]
    return table(["experts", *(f"width {width}" for width in widths)], rows)


def power_line(name: str, fit: PowerFit) -> str:
    """Exponents as read."""
    powers = ", ".join(f"{size} {exponent:.2f}" for size, exponent in fit.exponents.items())
    return f"- {name}: exponents of {powers}; errors {describe_errors(fit.errors)}."


def cross(points: Sequence[Point], rows: str, columns: str, fixed: dict[str, Any]) -> list[str]:
    """Milliseconds and MiB by two sizes."""
    chosen = {
        (p["settings"][rows], p["settings"][columns]): p
        for p in points
        if fixed.items() <= p["settings"].items()
    }
    across = sorted({column for _, column in chosen})
    body = []
    for row in sorted({row for row, _ in chosen}):
        found = [chosen.get((row, column)) for column in across]
        body.append([row, *("" if p is None else cell(p) for p in found)])
    return table([rows, *(f"{columns} {value}" for value in across)], body)


def cell(point: Point) -> str:
    """Milliseconds and MiB."""
    return f"{digits(1e3 * least_seconds(point))} ({digits(point['peak_bytes'] / MIB)})"


def digits(value: float) -> str:
    """Two digits or more, without a fraction from 10 on."""
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def backbone_tables(points: Sequence[Point]) -> list[str]:
    """Steps beside their backbones, and where the head begins to matter."""
    shares = head_shares(points)
    fit = fit_head(points)
    experts = shares[0].experts
    most = max(experts)
    rows, errors = [], []
    for share in shares:
        name, size, batch = (share.settings[key] for key in ("backbone", "size", "batch"))
        width = count_backbone(name, size).width
        thresholds = [share.experts_at(level) for level in SHARES]
        rows.append(
            [
                f"`{name}`",
                size,
                batch,
                digits(1e3 * share.alone),
                *(f"{100 * found:.0f}%" for found in share.shares),
                *(within(threshold, most) for threshold in thresholds),
                against_simclr(share),
            ]
        )
        for e, found in zip(share.experts, share.shares, strict=True):
            sizes = head_sizes({"batch": batch, "width": width, "experts": e})
            whole = share.alone / (1 - found)
            errors.append((share.alone + fit.seconds(head_step(sizes))) / whole - 1)
    header = ["backbone", "pixels", "batch", "alone, ms"]
    header += [f"experts: {e}" for e in experts] + [f"{100 * level:.0f}% at" for level in SHARES]
    header += [f"{PAPERS_EXPERTS} experts / SimCLR"]
    return [
        "![The head's share of a step](cost_backbones.png)",
        "",
        *table(header, rows),
        f"The backbone's time plus the head's by the fitted model predict the step's with errors "
        f"of {describe_errors(errors)}, over {len(errors)} steps.",
        "",
    ]


def against_simclr(share: Share) -> str:
    """A step with the paper's experts over two passes of the backbone, which SimCLR's step has."""
    if PAPERS_EXPERTS not in share.experts:
        return "-"
    of_head = share.shares[share.experts.index(PAPERS_EXPERTS)]
    return f"{PASSES / SIMCLR_PASSES / (1 - of_head):.2f}"


def within(experts: float, most: int) -> str:
    """A number of experts, marked where it is beyond what was measured."""
    if experts <= 1:
        return "1 or fewer"
    return f"{experts:.0f}" if experts <= most else f"{experts:.0f}*" if experts < 1e4 else "none"


def evaluation_tables(points: Sequence[Point]) -> list[str]:
    """Time and memory of the path and of the correlations, and their exponents."""
    lines = ["![Time and memory of the evaluations](cost_evaluation.png)", ""]
    for part in ("path", "correlations"):
        chosen = of_part(points, part)
        names = [name for name in chosen[0]["settings"] if name != "part"]
        seconds = [least_seconds(point) for point in chosen]
        rows = {
            tuple(p["settings"].values()): [
                *(p["settings"][name] for name in names),
                digits(1e3 * least_seconds(p)),
                digits(p["peak_bytes"] / MIB),
                *([p["iterations"], digits(p["operations"] / 1e9)] if part == "path" else []),
            ]
            for name in names
            for p in along(chosen, name)
        }
        header = [*names, "ms", "MiB at the peak"]
        header += ["iterations", "10^9 operations"] if part == "path" else []
        lines += [f"The {part}:", "", *table(header, rows.values())]
        lines += [power_line("Time", fit_sizes(chosen, seconds))]
        if part == "path":
            operations = [point["operations"] for point in chosen]
            columns = np.array([[1.0, count] for count in operations])
            fixed, each = fit_line(columns, seconds).tolist()
            errors = (columns @ [fixed, each] / np.array(seconds) - 1).tolist()
            lines += [
                power_line("Operations", fit_sizes(chosen, operations)),
                f"- Time by operations: {1e3 * fixed:.0f} ms + {1e9 * each:.4f} s for each 10^9; "
                f"errors {describe_errors(errors)}.",
            ]
        memory = [point["peak_bytes"] for point in chosen]
        lines += [power_line("Memory", fit_sizes(chosen, memory)), ""]
    return lines


def prediction_table() -> list[str]:
    """What is predicted for GPUs, by both sets of assumptions."""
    rows = []
    for name, size, experts, batch, counts in PREDICTED:
        backbone = count_backbone(name, size)
        for processes in counts:
            alone = backbone_step(backbone, batch)
            step = alone.plus(count_head(batch, backbone.width, experts, processes))
            ranges = [
                [1e3 * seconds(step, processes, gpu, "bf16", assumed) for assumed in (FAST, SLOW)]
                for gpu in GPUS.values()
            ]
            share = 1 - alone.operations / step.operations
            times = (f"{digits(fast)} to {digits(slow)}" for fast, slow in ranges)
            rows.append(
                [f"`{name}`", size, experts, batch, processes, f"{100 * share:.0f}%", *times]
            )
    header = ["backbone", "pixels", "experts", "batch on each", "GPUs", "head's operations"]
    return table([*header, *(f"{gpu.upper()}, ms" for gpu in GPUS)], rows)


if __name__ == "__main__":
    run(main)
