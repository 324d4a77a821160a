"""Reports what ``bench/matching.py`` measured: tables, the figures to reach, and plots."""

from __future__ import annotations

from math import log
from pathlib import Path
from statistics import linear_regression
from typing import Any, NamedTuple

ERRORS = ("variation_arithmetic", "variation_geometric", "overlap_arithmetic", "overlap_geometric")
UNIT_NORM, CACHED = "geometric, prepared, unit norm", "random features, prepared"
Row = dict[str, Any]


class Bar(NamedTuple):
    """A figure to reach: of one name its memory in MB or its error, of two the ratio of their times."""

    names: tuple[str, ...]
    size: int | None
    sense: str
    bound: float
    cores: int = 1
    features: str = "synthetic"
    aim: bool = False

    @property
    def label(self) -> str:
        """What is compared, in words."""
        if len(self.names) == 2:
            return f"time of {self.names[0]} / {self.names[1]}, {self.size} px, {self.cores} core(s)"
        if self.size:
            return f"extra memory of {self.names[0]}, {self.size} px, MB"
        return f"total variation of {self.names[0]} to exact arithmetic, one object, {self.features}"


BARS = (
    Bar(("SciPy assignment", "geometric"), 448, ">=", 200),
    Bar(("SciPy assignment", "geometric"), 896, ">=", 1000),
    *(Bar((UNIT_NORM, "bare target @ vector"), size, "<=", 1.3) for size in (896, 1344, 1792)),
    *(Bar(("arithmetic", "bare reference @ target.T"), size, "<=", 1.15) for size in (448, 896)),
    Bar(("arithmetic",), 1792, "<=", 150),
    Bar(("sinkhorn", "ott-jax sinkhorn"), 448, "<=", 1, cores=2),
    Bar(("sinkhorn", "POT sinkhorn_log"), 448, "<=", 1, cores=2),
    Bar(("sinkhorn", "POT sinkhorn"), 448, "<=", 1, cores=2, aim=True),
    # One array of references x targets in float32; a tiled run has to stay well below.
    Bar(("sinkhorn, tiled, 3 iterations",), 1344, "<=", 340),
    Bar(("SciPy assignment", CACHED), 448, ">=", 20),
    *(Bar(("cumulant",), None, "<=", 0.02, features=kind) for kind in ("synthetic", "descriptor")),
)


def report(rows: list[Row], folder: Path | None = None) -> None:
    """Prints everything there is, and draws it into a folder."""
    if any(row["kind"] != "batch" for row in rows):
        tables(rows)
        bars(rows)
    batches(rows)
    if folder:
        plots(rows, folder)


def milliseconds(row: Row | None) -> str:
    """A time for the table: three digits, ``~`` where it is extrapolated."""
    if row is None or "failed" in row:
        return "failed" if row else ""
    taken = 1e3 * row["seconds"]
    return "~" * ("extrapolated" in row) + (f"{taken:.0f}" if taken >= 100 else f"{taken:.3g}")


def slope(rows: dict[int, Row]) -> str:
    """Least-squares exponent of time against patches, over what was measured."""
    points = [
        (r["targets"], r["seconds"]) for r in rows.values() if not {"failed", "extrapolated"} & r.keys()
    ]
    if len(points) < 3:
        return ""
    return f"{linear_regression(*zip(*((log(n), log(s)) for n, s in points), strict=True)).slope:.2f}"


def worst(rows: list[Row]) -> list[str]:
    """The four errors, each at the size where it is worst."""
    cells = []
    for name in ERRORS:
        values = [row[name] for row in rows if name in row]
        value = (max if name.startswith("variation") else min)(values, default=None)
        cells.append(
            "" if value is None else f"{value:.3f}" if value >= 5e-4 or not value else f"{value:.0e}"
        )
    return cells


def tables(rows: list[Row]) -> None:
    """Times, errors and memory: a table for every number of cores and share of the reference."""
    for cores, share in dict.fromkeys((row["cores"], row["share"]) for row in rows if "share" in row):
        chosen = [row for row in rows if (row["cores"], row.get("share")) == (cores, share)]
        kinds = {kind: [row for row in chosen if row["kind"] == kind] for kind in ("time", "memory", "error")}
        sizes, held = (sorted({row["size"] for row in kinds[kind]}) for kind in ("time", "memory"))
        heads = [f"{size} px" for size in sizes] + ["slope", "TV arith.", "TV geom."]
        heads += ["best 40 arith.", "best 40 geom."] + [f"extra MB, {size} px" for size in held]
        print(f"\n### {cores} core(s), {share:.0%} of the reference patches\n")
        print("| ms | " + " | ".join(heads) + " |\n" + "|---" * (len(heads) + 1) + "|")
        for name in dict.fromkeys(row["method"] for kind in ("time", "memory") for row in kinds[kind]):
            timed = {row["size"]: row for row in kinds["time"] if row["method"] == name}
            peaks = {row["size"]: row.get("peak_bytes") for row in kinds["memory"] if row["method"] == name}
            cells = [milliseconds(timed.get(size)) for size in sizes]
            cells += [slope(timed), *worst(list(timed.values()))]
            cells += ["" if (peak := peaks.get(size)) is None else f"{peak / 1e6:.1f}" for size in held]
            print("| " + " | ".join([name, *cells]) + " |")
        if kinds["error"]:
            size, dim = kinds["error"][0]["size"], kinds["error"][0]["dim"]
            print(f"\nOn photographs, d = {dim}, {size} px:\n")
            print("| | TV arith. | TV geom. | best 40 arith. | best 40 geom. |\n|---|---|---|---|---|")
            for row in kinds["error"]:
                print("| " + " | ".join([row["method"], *worst([row])]) + " |")
    print(
        "\nTV is total variation, best 40 the share of the 40 best patches in common, both against the"
        "\nexact maps in float64; each at the size where it is worst. ~ is extrapolated from the size before."
    )


def value_of(bar: Bar, rows: list[Row]) -> float | None:
    """The measured figure, the latest where there are several."""

    def values() -> list[float]:
        if len(bar.names) == 2:
            key, wanted = "ratio", {"kind": "ratio", "against": bar.names[1], "size": bar.size, "share": 1.0}
            wanted |= {"cores": bar.cores}
        elif bar.size:
            key, wanted = "peak_bytes", {"kind": "memory", "size": bar.size, "share": 1.0}
        else:
            key, wanted = "variation_arithmetic", {"features": bar.features, "temperature": 0.1}
        wanted |= {"method": bar.names[0]}
        return [
            r[key] for r in rows if key in r and wanted.items() <= r.items() and (bar.size or r["share"] < 1)
        ]

    found = values()
    if not found:
        return None
    return found[-1] / (1e6 if len(bar.names) == 1 and bar.size else 1) if bar.size else max(found)


def bars(rows: list[Row]) -> None:
    """The figures to reach, and whether they are."""
    print("\n### Bars\n\n| figure | value | bar | met |\n|---|---|---|---|")
    for bar in BARS:
        value = value_of(bar, rows)
        met = value is not None and (value >= bar.bound if bar.sense == ">=" else value <= bar.bound)
        answer = "not measured" if value is None else "yes" if met else "no"
        shown = "" if value is None else f"{value:.0f}" if value >= 100 else f"{value:.3g}"
        print(f"| {bar.label} | {shown} | {bar.sense} {bar.bound:g}{' (aim)' * bar.aim} | {answer} |")


def batches(rows: list[Row]) -> None:
    """Throughput against batch size."""
    rows = [row for row in rows if row["kind"] == "batch" and "failed" not in row]
    if rows:
        print(
            "\n### Batches of targets, prepared reference\n"
            "\n| method | px | batch | targets/s | GB/s | of a copy |\n|---|---|---|---|---|---|"
        )
    for row in rows:
        read, copied = row["bytes_per_second"], row["copied_bytes_per_second"]
        cells = (
            row["method"],
            row["size"],
            row["batch"],
            f"{row['targets_per_second']:.1f}",
            f"{read / 1e9:.2f}",
        )
        print("| " + " | ".join(map(str, cells)) + f" | {read / copied:.0%} |")


def plots(rows: list[Row], folder: Path) -> None:
    """Time against image size, and error against time, as ``.png`` files."""
    try:
        from matplotlib import colormaps
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SystemExit("--plot needs matplotlib: pip install 'softmatch-jax[notebooks]'") from error
    folder.mkdir(parents=True, exist_ok=True)
    timed = [row for row in rows if row["kind"] == "time" and "failed" not in row]
    timed = [row for row in timed if row["cores"] == timed[0]["cores"]]
    sizes = sorted({row["size"] for row in timed})
    # The largest size at which all were measured.
    lost = {row["size"] for row in timed if "extrapolated" in row}
    size = max((size for size in sizes if size not in lost), default=sizes[0])
    shares, names = (list(dict.fromkeys(row[key] for row in timed)) for key in ("share", "method"))
    for file in ("time", "error"):
        figure = Figure(figsize=(6.5 * len(shares), 6), layout="constrained")
        for axes, share in zip(figure.subplots(1, len(shares), squeeze=False)[0], shares, strict=True):
            for number, name in enumerate(names):
                mine = [r for r in timed if (r["share"], r["method"]) == (share, name)]
                look = {
                    "color": colormaps["tab20"](number % 20),
                    "marker": "os^Dv"[(number + number // 20) % 5],
                }
                curve(axes, mine, size if file == "error" else None, look | {"label": name})
            axes.set(xscale="log", title=f"{share:.0%} of the reference patches")
            if file == "time":
                axes.set(yscale="log", xlabel="image side, px", ylabel="time, s (dotted: extrapolated)")
                axes.set_xticks(sizes, map(str, sizes), minor=False)
                axes.minorticks_off()
            else:
                axes.set(
                    yscale="log", xlabel=f"time at {size} px, s", ylabel="total variation to exact arithmetic"
                )
            axes.grid(alpha=0.3, which="both")
        legend = figure.axes[0].get_legend_handles_labels()
        figure.legend(*legend, loc="outside right upper", fontsize="small")
        figure.savefig(folder / f"matching_{file}.png", dpi=150)


def curve(axes: Any, rows: list[Row], size: int | None, style: Row) -> None:
    """One method in one plot: its times, or with a size its error there."""
    rows = sorted(rows, key=lambda row: row["size"])
    solid = [row for row in rows if "extrapolated" not in row]
    if size:
        solid = [row for row in solid if row["size"] == size and ERRORS[0] in row]
        if solid:
            axes.plot([r["seconds"] for r in solid], [r[ERRORS[0]] for r in solid], linestyle="", **style)
        return
    axes.plot([r["size"] for r in solid], [r["seconds"] for r in solid], **style)
    rest = [*solid[-1:], *(row for row in rows if "extrapolated" in row)]
    axes.plot([r["size"] for r in rest], [r["seconds"] for r in rest], ":", color=style["color"])
