"""The figure of the ablation: a row for each folder, a column for each kind of annotation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ablation import Cell

    from softmatch_jax.evaluation.table import EpisodeTable

# Okabe and Ito's colours, which stay apart under every common colour blindness.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9")


def draw(tables: Mapping[Cell, Mapping[str, EpisodeTable]], path: Path) -> None:
    """Draws mean IoU against temperature, a line for each method and number of shots."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    cells = list(tables)
    names = ["mean of folders", *tables[cells[0]]]
    kinds = list(dict.fromkeys(cell.kind for cell in cells))
    size = (3.1 * len(kinds) + 1.6, 2.0 * len(names) + 0.6)
    figure, axes = plt.subplots(
        len(names), len(kinds), figsize=size, sharex=True, sharey="row", squeeze=False, layout="constrained"
    )
    for row, name in enumerate(names):
        for column, kind in enumerate(kinds):
            axis = axes[row, column]
            _lines(axis, {cell: tables[cell] for cell in cells if cell.kind == kind}, name)
            axis.set_xscale("log")
            taus = sorted({cell.temperature for cell in cells})
            axis.set_xticks(taus, [f"{tau:g}" for tau in taus])
            axis.minorticks_off()
            axis.grid(alpha=0.25, linewidth=0.6)
            axis.spines[["top", "right"]].set_visible(False)
            if row == 0:
                axis.set_title(f"references: {kind}", fontsize=10)
            if row == len(names) - 1:
                axis.set_xlabel("temperature", fontsize=9)
            if column == 0:
                axis.set_ylabel(f"{name}\nmean IoU", fontsize=9)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=8, frameon=False)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _lines(axis: Any, tables: Mapping[Cell, Mapping[str, EpisodeTable]], name: str) -> None:
    methods = list(dict.fromkeys(cell.method for cell in tables))
    for method in methods:
        for shots, style in zip(
            sorted({cell.shots for cell in tables}), ("-", "--", ":", "-."), strict=False
        ):
            chosen = sorted(
                (cell for cell in tables if (cell.method, cell.shots) == (method, shots)),
                key=lambda cell: cell.temperature,
            )
            heights = [_height(tables[cell], name) for cell in chosen]
            colour = COLOURS[methods.index(method) % len(COLOURS)]
            taus = [cell.temperature for cell in chosen]
            axis.plot(
                taus, heights, style, color=colour, marker="o", markersize=3, label=f"{method}, {shots}-shot"
            )


def _height(of_sets: Mapping[str, EpisodeTable], name: str) -> float:
    if name in of_sets:
        return of_sets[name].metrics()["mean_iou"]
    return float(np.mean([table.metrics()["mean_iou"] for table in of_sets.values()]))
