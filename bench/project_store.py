"""What a project keeps when its process is killed, and what a command costs.

    python bench/project_store.py            # 50 kills, a few minutes
    python bench/project_store.py --smoke    # 3 kills

A second process opens the project and does commands, one after the other, and prints the id of each when the
call has returned. It is killed (SIGKILL) at a random moment, and what it printed is compared with the log.
"""

from __future__ import annotations

import argparse
import itertools
import random
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

from softmatch_jax.imaging import write_image
from softmatch_jax.serve.project.commands import AddClass, AddPrompt, ClearLayer, Paint
from softmatch_jax.serve.project.documents import BrushStroke, FoundClass, FoundDocument, Scribble
from softmatch_jax.serve.project.pictures import Pictures
from softmatch_jax.serve.project.showing import shown
from softmatch_jax.serve.project.store import Store

SIZE = (853, 1280)


def make_project(folder: Path) -> None:
    """A project with a picture and a class."""
    store = Store.open(folder)
    pixels = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), np.uint8)
    write_image(folder / "picture.png", pixels)
    with Pictures(folder).incoming() as incoming:
        incoming.write((folder / "picture.png").read_bytes())
        stored = incoming.finish()
    store.add_image("picture.png", stored, id=str(uuid.uuid4()))
    store.run(AddClass(name="thing"), id=str(uuid.uuid4()))
    store.close()


def scribble(rng: random.Random) -> list[tuple[float, float]]:
    """A stroke of fifty points."""
    return [(rng.uniform(0, SIZE[1]), rng.uniform(0, SIZE[0])) for _ in range(50)]


def work(folder: Path, seed: int) -> None:
    """Does commands until killed, and prints the id and the milliseconds of each."""
    store = Store.open(folder)
    rng = random.Random(seed)
    layer = {"image": "i1", "class": "c1"}

    def prompt(id: str) -> None:
        now = shown(store.state(), "i1", "c1")
        drawn = Scribble(points=scribble(rng), width=8)
        store.run(AddPrompt.model_validate(layer | {"prompt": drawn, "shown": now}), id=id)

    def brush(id: str) -> None:
        now = shown(store.state(), "i1", "c1")
        stroke = BrushStroke(points=scribble(rng)[:5], width=40, add=rng.random() < 0.7 or now is None)
        store.run(Paint.model_validate(layer | {"strokes": [stroke], "shown": now}), id=id)

    def clear(id: str) -> None:
        if store.state().get("layer/i1/c1") is None:
            return prompt(id)
        store.run(ClearLayer.model_validate(layer), id=id)

    def back(id: str) -> None:
        store.undo(id=id) if store.state().undo else prompt(id)

    def again(id: str) -> None:
        store.redo(id=id) if store.state().redo else prompt(id)

    kinds: list[Callable[[str], None]] = [prompt, prompt, prompt, brush, back, again, clear]
    for number in itertools.count():
        id = str(uuid.uuid4())
        call = rng.choice(kinds)
        start = time.perf_counter()
        call(id)
        taken = 1000 * (time.perf_counter() - start)
        print(id, call.__name__, f"{taken:.3f}", flush=True)
        if number % 5 == 0:
            derive(store, rng)


def derive(store: Store, rng: random.Random) -> None:
    """Writes a found mask, as the engine does between commands."""
    labels = np.zeros(SIZE, np.uint16)
    labels[rng.randrange(SIZE[0]) :, rng.randrange(SIZE[1]) :] = 1
    found = FoundClass(
        raster=store.put_raster(labels),
        absent=False,
        reason=None,
        score=0.5,
        resemblance=0.5,
        log_evidence=0.0,
        instances=1,
        heat=store.put_heat(np.full((60, 90), rng.randrange(256), np.uint8)),
    )
    document = FoundDocument(basis="0" * 64, classes={"c1": found}, uncertainty=rng.random())
    store.derive({"found/i1": document}, what={"model": "bench"})


def killed(folder: Path, seed: int, after: float) -> list[list[str]]:
    """The acknowledged commands of one process: id, kind, milliseconds."""
    command = [sys.executable, __file__, "--work", str(folder), "--seed", str(seed)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    lines: list[str] = []
    begun = threading.Event()

    def collect() -> None:
        for line in process.stdout or ():
            lines.append(line)
            begun.set()

    reader = threading.Thread(target=collect)
    reader.start()
    try:
        if not begun.wait(120):
            raise SystemExit("The process did no command within two minutes.")
        time.sleep(after)
        if process.poll() is not None:
            raise SystemExit(f"The process ended by itself, with {process.returncode}.")
    finally:
        process.kill()
        process.wait()
        reader.join()
    # A line cut short was not read by anybody.
    return [line.split() for line in lines if line.endswith("\n")]


def kill_again_and_again(folder: Path, kills: int, seed: int) -> int:
    """Kills process after process on one project; prints the table and returns the number of failures."""
    rng = random.Random(seed)
    acknowledged: list[list[str]] = []
    lost, faulty, others = 0, 0, 0
    for number in range(kills):
        acknowledged += killed(folder, seed + number, rng.uniform(0.0, 1.5))
        store = Store.open(folder)
        logged = {entry.id for entry in all_entries(store)}
        lost += sum(line[0] not in logged for line in acknowledged)
        faults = store.check()
        faulty += bool(faults)
        others = len(logged) - len(acknowledged)
        print(*faults, sep="\n", end="\n" if faults else "")
        entries = store.state().seq
        store.close()
    print("| figure | value |\n|---|---|")
    print(f"| kills | {kills} |\n| commands acknowledged | {len(acknowledged)} |\n| lost | {lost} |")
    print(f"| kills after which the check finds a fault | {faulty} |\n| entries in the log | {entries} |")
    print(f"| of these by the engine, at the start, or killed before they were acknowledged | {others} |")
    for kind in sorted({line[1] for line in acknowledged}):
        times = [float(line[2]) for line in acknowledged if line[1] == kind]
        print(f"| {kind}: median | {median(times):.1f} ms ({len(times)}) |")
    print(f"| all: median | {median(float(line[2]) for line in acknowledged):.1f} ms |")
    return lost + faulty


def all_entries(store: Store) -> list:
    """The whole log."""
    entries: list = []
    while more := store.entries(entries[-1].seq if entries else 0):
        entries += more
    return entries


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--smoke", action="store_true", help="3 kills")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work is not None:
        work(options.work, options.seed)
        return
    with tempfile.TemporaryDirectory() as folder:
        make_project(Path(folder))
        failures = kill_again_and_again(Path(folder), 3 if options.smoke else options.kills, options.seed)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
