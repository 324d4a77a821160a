"""Time, error and memory of matching against image size: Fig. 2 of the Softmatcher paper, redone.

    python bench/matching.py                                  # all sizes and methods, one core
    python bench/matching.py --smoke                          # 224 px, a few repeats
    python bench/matching.py --cores 2 --sizes 448 --methods sinkhorn,POT
    python bench/matching.py --memory 1344,1792 --long --json runs.jsonl --plot figures
    python bench/matching.py --read runs.jsonl                # tables, bars and plots of earlier runs
    python bench/matching.py --device gpu --batches 1,16,64   # throughput of prepared references only

Features are synthetic (768 dimensions, patches of 14 px); accuracy is also taken on photographs where
they are present. Times are medians after a warm-up, compilation left out; ratios are medians over calls
in turn. This file imports no JAX: the cores are chosen first.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any

import psutil
from matching_report import BARS, Row, report

if TYPE_CHECKING:
    from matching_cases import Case
    from matching_peers import Way

SIZES = (224, 448, 672, 896, 1344, 1792)
PACKAGES = ("jax", "numpy", "scipy", "POT", "ott-jax")


class Records:
    """The measurements so far, each written as a line of JSON when it is made."""

    def __init__(self, file: Path | None, common: Row) -> None:
        self.rows, self.common = [], common
        self.file = file.open("a") if file else None

    def add(self, case: Row, method: str, **what: Any) -> None:
        """Adds a measurement of a method on a case."""
        self.rows.append(self.common | case | {"method": method} | what)
        if self.file:
            print(json.dumps(self.rows[-1]), file=self.file, flush=True)


class Run:
    """One pass over sizes and shares."""

    def __init__(self, options: argparse.Namespace) -> None:
        import matching_cases
        import matching_peers

        self.cases, self.peers, self.options = matching_cases, matching_peers, options
        self.limit = options.limit_seconds * (45 if options.long else 1)
        self.most, self.budget = (3, 0.1) if options.smoke else (15, 1.0)
        self.records = Records(options.json, machine(options))
        self.seen: dict[tuple[str, float], tuple[int, float]] = {}

    def ways(self, of: tuple[Way, ...] | None = None) -> list[Way]:
        """The methods asked for, less those of the host's when an accelerator is measured."""
        ways = of or self.peers.WAYS
        return [w for w in ways if self.wanted(w.name) and not (w.host and self.options.device == "gpu")]

    def wanted(self, name: str) -> bool:
        """Whether ``--methods`` lets a method through."""
        return self.options.methods is None or name.startswith(tuple(self.options.methods))

    def estimate(self, way: Way, size: int, share: float) -> float:
        """Seconds expected from the last size that was measured; zero when there was none."""
        patches, seconds = self.seen.get((way.name, share), (1, 0.0))
        return seconds * ((size // self.cases.PATCH) ** 2 / patches) ** way.order

    def refused(self, way: Way, size: int, share: float) -> bool:
        """Whether a method would take too long, or too much of the memory that is free."""
        held = 4 * way.held * share * (size // self.cases.PATCH) ** 4
        return self.estimate(way, size, share) > self.limit or held > psutil.virtual_memory().available / 2

    def time(self, way: Way, case: Case) -> None:
        """Time and error of one method."""
        told = describe(case) | {"kind": "time"}
        if self.refused(way, case.size, case.share):
            if seconds := self.estimate(way, case.size, case.share):
                self.records.add(told, way.name, seconds=seconds, extrapolated=True)
            return
        try:
            call = way.build(case)
            seconds, result = self.peers.clock(call)
            slow = way.host and seconds > 5  # nothing to warm up, and dear
            taken = [(seconds,)] if slow else self.peers.rounds((call,), self.budget, self.most)
            errors = case.errors(way.read(result, case) if way.read else None)
        except Exception as error:  # one method must not cost the others their run; the exit status tells
            self.failed(told, way.name, error)
            return
        seconds = median(row[0] for row in taken)
        self.seen[way.name, case.share] = (len(case.target), seconds)
        self.records.add(told, way.name, seconds=seconds, repeats=len(taken), **errors)

    def ratio(self, first: Way, second: Way, case: Case) -> None:
        """Median ratio of two methods called in turn; of their medians where a call is slow."""
        told = describe(case) | {"kind": "ratio"}
        if any(self.seen.get((way.name, case.share), (0,))[0] != len(case.target) for way in (first, second)):
            return
        alone = [self.seen[way.name, case.share][1] for way in (first, second)]
        ratios = [alone[0] / alone[1]]
        if sum(alone) < 10:
            calls = first.build(case), second.build(case)
            self.peers.rounds(calls, 0, 1)  # warm-up
            ratios = [a / b for a, b in self.peers.rounds(calls, self.budget, 7 * self.most)]
        low, _, high = quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        spread = {"lower_quartile": low, "upper_quartile": high, "repeats": len(ratios)}
        self.records.add(told, first.name, against=second.name, ratio=median(ratios), **spread)

    def accuracy(self, share: float) -> None:
        """Error of the quick enough methods on photographs, where there are any."""
        folder = self.cases.photographs()
        if folder is None:
            print("no photographs: accuracy on synthetic features only", file=sys.stderr)
            return
        barred = [bar.names[0] for bar in BARS if bar.features == "descriptor"]
        size = 448 if 448 in self.options.sizes else self.options.sizes[0]
        case = self.cases.descriptor(folder, size, share, self.options.temperature)
        for way in self.ways():
            # A name with a comma is another route to the same map; a smoke test has time for little.
            if ", " in way.name or (self.options.smoke and way.name not in barred):
                continue
            if way.read is None or (way.name, share) not in self.seen or self.refused(way, size, share):
                continue
            told = describe(case) | {"kind": "error"}
            try:
                result = self.peers.clock(way.build(case))[1]
                self.records.add(told, way.name, **case.errors(way.read(result, case)))
            except Exception as error:
                self.failed(told, way.name, error)

    def memory(self, way: Way, size: int, share: float) -> None:
        """Peak memory of one method in an interpreter of its own."""
        told = {"kind": "memory", "size": size, "share": share}
        if self.refused(way, size, share):
            return
        command = [sys.executable, __file__, "--peak", way.name, "--sizes", str(size), "--share", str(share)]
        same = ["--cores", str(self.options.cores), "--device", self.options.device]
        done = subprocess.run([*command, *same], capture_output=True, text=True)
        if done.returncode:
            self.failed(told, way.name, (done.stderr.strip().splitlines() or ["no message"])[-1])
            return
        self.records.add(told, way.name, peak_bytes=int(done.stdout.split()[-1]))

    def failed(self, told: Row, name: str, error: object) -> None:
        """Notes a method that could not be measured."""
        print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
        self.records.add(told, name, failed=str(error))

    def everything(self) -> list[Row]:
        """All that was asked for."""
        by_name = {way.name: way for way in self.ways()}
        for share in self.options.share:
            for size in self.options.sizes:
                case = self.cases.synthetic(size, share, self.options.temperature)
                for way in by_name.values():
                    self.time(way, case)
                for bar in BARS if share == 1 else ():
                    if bar.size == size and len(bar.names) == 2 and by_name.keys() >= set(bar.names):
                        self.ratio(*(by_name[name] for name in bar.names), case)
            self.accuracy(share)
        for size in self.options.memory:
            for way in (*by_name.values(), *self.ways(self.peers.MEMORY_ONLY)):
                self.memory(way, size, self.options.share[0])
        return self.records.rows

    def throughput(self) -> list[Row]:
        """Targets a second of prepared references, and the bytes they read against what a copy moves."""
        moved = self.peers.copy_bandwidth(self.budget, self.most)
        for size in self.options.sizes:
            case = self.cases.synthetic(size, self.options.share[0], self.options.temperature)
            for name in self.peers.BATCHED:
                for batch in self.options.batches if self.wanted(name) else ():
                    told = describe(case) | {"kind": "batch", "batch": batch}
                    try:
                        seconds = self.peers.batched(name, case, batch, self.budget, self.most)
                    except Exception as error:
                        self.failed(told, name, error)
                        continue
                    read = batch * case.target.nbytes / seconds
                    figures = {"targets_per_second": batch / seconds, "bytes_per_second": read}
                    self.records.add(told, name, seconds=seconds, **figures, copied_bytes_per_second=moved)
        return self.records.rows


def describe(case: Case) -> Row:
    """What a case is, for its records."""
    counts = {"references": len(case.reference), "targets": len(case.target), "dim": case.target.shape[1]}
    told = {"size": case.size, "share": case.share, "features": case.features}
    return told | counts | {"temperature": case.temperature}


def machine(options: argparse.Namespace) -> Row:
    """What every record says about where it was measured."""
    import jax

    model = platform.processor() or platform.machine()
    if (file := Path("/proc/cpuinfo")).exists():
        names = [line.partition(":")[2] for line in file.read_text().splitlines() if "model name" in line]
        model = names[0].strip() if names else model
    versions = {name: version(name) for name in PACKAGES} | {"python": platform.python_version()}
    device = {"device": options.device, "kind_of_device": jax.devices()[0].device_kind}
    return {"machine": model, "cores": options.cores, **device, "versions": versions}


def pin(options: argparse.Namespace) -> None:
    """Holds this process and its children to some cores, or to the accelerator; before JAX is imported."""
    os.environ["JAX_PLATFORMS"] = {"cpu": "cpu", "gpu": "cuda"}[options.device]
    if options.device == "gpu":
        return
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(options.cores)
    if options.cores == 1:
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )

    def several(kind: type) -> Any:
        return lambda text: [kind(part) for part in text.split(",")]

    parser.add_argument("--sizes", type=several(int), default=list(SIZES), help="image sides in px, 224,448")
    parser.add_argument("--share", type=several(float), default=[1.0, 0.25], help="of reference patches kept")
    parser.add_argument("--methods", type=several(str), help="only names that begin with one of these")
    parser.add_argument("--temperature", type=float, default=0.1)
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--batches", type=several(int), help="throughput at these numbers of targets instead")
    parser.add_argument("--memory", type=several(int), default=[], help="sizes at which to measure memory")
    parser.add_argument("--limit-seconds", type=float, default=20, help="extrapolate calls above this")
    parser.add_argument("--long", action="store_true", help="raise the limit 45-fold")
    parser.add_argument("--smoke", action="store_true", help="224 px, the last share, few repeats")
    parser.add_argument("--json", type=Path, help="append a line for every measurement to this file")
    parser.add_argument("--read", type=Path, nargs="+", help="report these files of --json, measure nothing")
    parser.add_argument("--plot", type=Path, help="folder for two figures; needs the notebooks extra")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.smoke:
        options.sizes, options.share = [224], options.share[-1:]
    return options


def peak(options: argparse.Namespace) -> None:
    """Prints the extra memory of one method, in the interpreter that was started for it."""
    import matching_cases
    import matching_peers

    way = next(w for w in (*matching_peers.WAYS, *matching_peers.MEMORY_ONLY) if w.name == options.peak)
    case = matching_cases.synthetic(options.sizes[0], options.share[0], options.temperature)
    print(matching_peers.extra_memory(way, case))


def main() -> None:
    options = parse()
    if options.read:
        rows = [json.loads(line) for file in options.read for line in file.read_text().splitlines()]
    else:
        pin(options)
        if options.peak:
            return peak(options)
        run = Run(options)
        rows = run.throughput() if options.batches else run.everything()
    report(rows, options.plot)
    if not options.read and (failed := dict.fromkeys(row["method"] for row in rows if "failed" in row)):
        raise SystemExit(f"failed, see above: {'; '.join(failed)}")


if __name__ == "__main__":
    main()
