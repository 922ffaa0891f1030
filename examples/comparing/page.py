"""The page on compared methods, and its table as Markdown and as text."""

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from star_head.evaluation.comparison import PairedDifference
from star_head.evaluation.report.html import escape, figure, note, number, page, paragraph, table
from star_head.examples.comparing.methods import title_of
from star_head.examples.comparing.plots import Column, draw_against, draw_differences
from star_head.examples.comparing.results import (
    COSTS,
    KEPT,
    LINEAR,
    R2_COLOUR,
    R2_GEOMETRY,
    Comparison,
    Measure,
    accuracies,
    spread,
)

_COLUMNS = {
    "1-NN, linear": "accuracy on held-out images of frozen features: the nearest training image, "
    "and logistic regression by the paper&rsquo;s protocol, its penalty chosen by validation",
    "linear on ...": "the same, fitted and measured on another data set",
    "5-way 5-shot": "mean accuracy over 2,000 draws of five classes, five images of each to learn "
    "from and 16 to classify, from held-out images",
    "canonical correlation": "mean between the invariant and the equivariant embedding of at "
    "most 10,000 images trained on and as many held out; lower is less "
    "redundant. Methods with one embedding have none",
    "MRR": "mean reciprocal rank of a view among 20 of its image, by the embedding predicted for "
    "it; methods without a predictor have none",
    "R²": "how well the parameters of a view can be read off the features of view and original, "
    "by ridge regression, mean over a group; 1 is exactly, 0 no better than by their mean",
    "step": "median of forward and backward pass and update: time of all the process&rsquo;s "
    "threads, and elapsed time",
    "memory": "the most that the training process took (on a GPU: that its tensors took)",
}


def render(comparison: Comparison, settings: Mapping[str, Any]) -> str:
    """The page as HTML, with all pictures in it.

    Args:
        comparison: The runs.
        settings: What they have in common, for the reader.
    """
    reference = escape(title_of(comparison.methods[0]))
    count = len(comparison.seeds)
    introduction = paragraph(
        f"{len(comparison.methods)} methods trained on {escape(comparison.title)}, "
        f"{count} seed{'s' * (count != 1)} each: the same backbone, budget, views and measures.",
        "lead",
    )
    introduction += paragraph(
        f"Mean &plusmn; standard deviation over seeds. Below it: the mean difference from "
        f"{reference}, seed by seed, with the 95% interval of Student&rsquo;s <i>t</i>; bold where "
        f"it leaves out zero. Each interval holds for one comparison: of twenty, one is expected "
        f"to leave out zero by chance."
        if count > 1
        else f"Below each number: the difference from {reference}. Of one seed no interval can be "
        f"given."
    )
    accuracy = "".join(_table(comparison, group) for group in accuracies(comparison.transfer))
    if (columns := _differences(comparison)) and len(comparison.methods) > 1:
        accuracy += figure(
            draw_differences(columns, title_of(comparison.methods[0])),
            f"Differences in accuracy from {reference}, in percentage points. Small: seeds. "
            f"Large: their mean, with its 95% interval.",
            "Differences of each method's accuracies from the first's",
        )
    kept = _table(comparison, KEPT)
    if (pair := _trade_off(comparison)) is not None:
        kept += figure(
            draw_against(*pair),
            "What features keep of augmentations, mean <i>R</i>&sup2; over geometry and colour, "
            "against linear accuracy. Small: seeds. Large: their mean.",
            "R squared of augmentation parameters against linear accuracy, for each method",
        )
    sections = [
        ("Accuracy", accuracy or note("The images have no classes to measure it by.")),
        ("What is kept of augmentations", kept),
        ("Cost", _table(comparison, COSTS)),
        ("Columns", _columns()),
        ("Settings", _settings(settings)),
    ]
    footer = "Made by star-head. All numbers are in compare.json, those of each run in results/."
    return page("Methods compared", introduction, sections, footer)


def markdown(comparison: Comparison) -> list[str]:
    """The page's tables as lines of Markdown, a row for each method."""
    lines: list[str] = []
    for group in (*accuracies(comparison.transfer), KEPT, COSTS):
        measures = comparison.measured(group)
        if not measures:
            continue
        rows = [["", *(m.title for m in measures)], ["---"] * (len(measures) + 1)]
        for name in comparison.runs:
            cells = [_beside(comparison, name, measure) for measure in measures]
            if any(cells):
                rows.append(
                    [title_of(name).replace(" ", "\u00a0"), *(cell or "-" for cell in cells)]
                )
        lines += [*("| " + " | ".join(row) + " |" for row in rows), ""]
    if below := _chances(comparison, comparison.measured(KEPT)):
        lines += [below, ""]
    return lines


def _beside(comparison: Comparison, method: str, measure: Measure) -> str:
    """A measure of a method with the difference in parentheses; empty where it has none."""
    if not (values := comparison.values(method, measure)):
        return ""
    text = spread(values, measure.digits)
    difference = comparison.difference(method, measure)
    return text if difference is None else f"{text} ({signed(difference, measure.digits)})"


def _chances(comparison: Comparison, measures: Sequence[Measure]) -> str:
    found = (f"{m.title} {c:.3f}" for m in measures if (c := comparison.chance(m)) is not None)
    text = "; ".join(found)
    return f"Chance level: {text}." if text else ""


def signed(difference: PairedDifference, digits: int) -> str:
    """A difference and its interval: +1.2 ± 0.5."""
    shown = f"{difference.mean:+.{digits}f}"
    if difference.interval is None:
        return shown
    return f"{shown}\u00a0±\u00a0{difference.interval:.{digits}f}"


def _table(comparison: Comparison, measures: Sequence[Measure]) -> str:
    found = comparison.measured(measures)
    if not found:
        return ""
    rows = [
        [escape(title_of(name)), *(_cell(comparison, name, measure) for measure in found)]
        for name in comparison.runs
        if any(comparison.values(name, measure) for measure in found)
    ]
    caption = escape(_chances(comparison, found))
    return table(["", *(escape(m.title) for m in found)], rows, caption, kind="narrow")


def _cell(comparison: Comparison, method: str, measure: Measure) -> str:
    values = comparison.values(method, measure)
    if not values:
        return number(None)
    text = spread(values, measure.digits).replace("-", "&minus;")
    difference = comparison.difference(method, measure)
    if difference is None:
        return text
    below = signed(difference, measure.digits).replace("-", "&minus;")
    return f"{text}<small>{f'<b>{below}</b>' if difference.is_clear else below}</small>"


def _differences(comparison: Comparison) -> list[Column]:
    """Of each accuracy, what every method's runs lie above the first's."""
    first, *others = comparison.methods
    columns = []
    for measure in comparison.measured(*accuracies(comparison.transfer)):
        values = {title_of(n): comparison.differences(n, first, measure) for n in others}
        columns.append(Column(measure.title, values))
    return columns


def _trade_off(comparison: Comparison) -> tuple[Column, Column] | None:
    """What features keep, and linear accuracy, of the runs that have both."""
    r2: dict[str, list[float]] = {}
    linear: dict[str, list[float]] = {}
    for name in comparison.methods:
        for run in comparison.runs[name].values():
            kept = [v for m in (R2_GEOMETRY, R2_COLOUR) if (v := m.of(run)) is not None]
            accuracy = LINEAR.of(run)
            if kept and accuracy is not None:
                r2.setdefault(title_of(name), []).append(mean(kept))
                linear.setdefault(title_of(name), []).append(accuracy)
    if not r2:
        return None
    return Column("R², geometry and colour", r2), Column(LINEAR.title, linear)


def _columns() -> str:
    rows = (f"<dt>{escape(name)}</dt><dd>{text}</dd>" for name, text in _COLUMNS.items())
    return f"<dl>{''.join(rows)}</dl>"


def _settings(settings: Mapping[str, Any]) -> str:
    rows = [[escape(name), escape(value)] for name, value in settings.items() if value]
    return table(["", "value"], rows, kind="text")
