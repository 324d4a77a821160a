"""The web app under a clock and under load, over loopback from a second process.

    python bench/serve.py latency          # scribble to mask, scribble to the first and to all of 20 targets
    python bench/serve.py load             # 8 and 32 users for 5 minutes each, then too many at once
    python bench/serve.py page             # weight of the page, and its first view in Chromium
    python bench/serve.py --smoke          # a quick pass over all of them

Pictures are two photographs that scikit-image ships, brought to 1280 pixels and cut, turned and lit anew
so that no two are the same. A user draws, brushes, undoes, and looks at masks and pictures, with pauses of
half a second on average.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import random
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection
from importlib.metadata import version
from pathlib import Path
from statistics import median, quantiles
from urllib.parse import urlsplit

import httpx
import numpy as np
import PIL.Image
import psutil
import skimage.data
from serve_client import Client, server

from softmatch_jax.imaging import resize_image

PAUSE_S = 0.5
PACKAGES = ("jax", "fastapi", "starlette", "uvicorn", "pydantic")


def main() -> None:
    """Runs the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", choices=[[], "latency", "load", "page"])
    parser.add_argument("--pictures", type=int, default=21)
    parser.add_argument("--side", type=int, default=1280)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--users", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--flood", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=20.0, help=argparse.SUPPRESS)
    parser.add_argument("--smoke", action="store_true", help="small and quick, to see that it runs")
    args = parser.parse_args()
    if args.flood:
        flood(args.flood, args.seconds)
        return
    if args.smoke:
        args.pictures, args.side, args.repeats, args.users, args.minutes = 3, 320, 2, [3], 0.1
    print(", ".join([platform.machine(), *(f"{name} {version(name)}" for name in PACKAGES)]))
    for part in args.parts or ["latency", "load", "page"]:
        with tempfile.TemporaryDirectory() as folder, server(Path(folder) / "project") as (address, process):
            print(f"\n## {part}\n")
            if part == "latency":
                measure_latency(address, args)
            elif part == "load":
                for users in args.users:
                    measure_load(address, process.pid, users, 60 * args.minutes, args)
                measure_overload(address, seconds=2 if args.smoke else 20)
            else:
                measure_page(address)


def pictures(count: int, side: int) -> list[bytes]:
    """JPEG files of pictures, no two alike."""
    rng = np.random.default_rng(0)
    made = []
    coins = np.repeat(skimage.data.coins()[:, :, None], 3, axis=2)
    tissue = skimage.data.immunohistochemistry()
    for index in range(count):
        image = (coins, tissue)[index % 2]
        height, width = (int(0.8 * length) for length in image.shape[:2])
        top, left = (rng.integers(0, a - b + 1) for a, b in zip(image.shape, (height, width), strict=False))
        image = np.rot90(image[top : top + height, left : left + width], rng.integers(4))
        lit = np.clip(image * rng.uniform(0.8, 1.15), 0, 255).astype(np.uint8)
        scale = side / max(lit.shape[:2])
        size = (round(scale * lit.shape[0]), round(scale * lit.shape[1]))
        buffer = io.BytesIO()
        PIL.Image.fromarray(resize_image(np.ascontiguousarray(lit), size)).save(buffer, "JPEG", quality=92)
        made.append(buffer.getvalue())
    return made


def filled(client: Client, args: argparse.Namespace) -> tuple[list[str], str]:
    """Pictures and a class in the project; waits until the engine has seen all pictures."""
    images = [
        client.upload(f"{i}-{uuid.uuid4().hex[:6]}.jpg", data)
        for i, data in enumerate(pictures(args.pictures, args.side))
    ]
    client.command("add_class", name="coin")
    client.wait(lambda c: any(key.startswith("class/") for key in c.docs), 10, "class")
    (name,) = (key.partition("/")[2] for key in client.docs if key.startswith("class/"))
    return images, name


def scribble(side: int, seed: int) -> Mapping[str, object]:
    """A short stroke somewhere in the middle."""
    rng = random.Random(seed)
    x, y = (rng.uniform(0.35, 0.6) * side for _ in range(2))
    points = [[x + step * side / 90, y + rng.uniform(-3, 3)] for step in range(8)]
    return {"kind": "scribble", "points": points, "width": side / 110, "positive": True}


def measure_latency(address: str, args: argparse.Namespace) -> None:
    """From a scribble on the reference to its mask, to the first target and to all."""
    client = Client(address)
    images, name = filled(client, args)
    reference, targets = images[0], [f"found/{image}" for image in images[1:]]
    mask, on = f"mask/{reference}/{name}", {"image": reference, "class": name}
    client.http.post("/api/view", json={"image": images[1]}).raise_for_status()
    times: dict[str, list[float]] = defaultdict(list)
    for repeat in range(args.repeats + 2):
        if repeat:
            client.command("clear_layer", **on)
        idle(client)
        start = draw(client, on, args.side, repeat)
        acknowledged = time.perf_counter()
        masked = client.wait(lambda c: mask in c.arrived, 60, "mask")
        first = client.wait(lambda c: any(key in c.arrived for key in targets), 60, "target")
        ends = {"be acknowledged": acknowledged, "its mask": masked, "the first target": first}
        if repeat % 2:
            last = client.wait(lambda c: all(key in c.arrived for key in targets), 120, "last target")
            ends["all targets"] = last
        else:
            again = draw(client, on, args.side, repeat)
            busy = client.wait(lambda c: mask in c.arrived, 60, "mask")
            ends["its mask, while targets are being matched"] = start + busy - again
        if repeat >= 2:  # the first ones wait for the pictures to be encoded
            for what, end in ends.items():
                times[what].append(end - start)
    client.close()
    print(f"{args.pictures} pictures of {args.side} px, {args.repeats} scribbles\n")
    print("| from a new scribble to | p50 | p95 |\n|---|---|---|")
    for what, seconds in times.items():
        print(f"| {what} | {1000 * median(seconds):.0f} ms | {1000 * percentile(seconds, 95):.0f} ms |")


def draw(client: Client, on: Mapping[str, str], side: int, seed: int) -> float:
    """A scribble; returns when it was sent."""
    with client.changed:
        client.arrived.clear()
    start = time.perf_counter()
    client.command("add_prompt", **on, prompt=scribble(side, seed))
    return start


def idle(client: Client) -> None:
    """Waits until nothing is being matched."""
    time.sleep(0.15)  # for the conductor to see what was asked last
    client.wait(lambda c: c.live.get("live/job", {}).get("state") != "running", 300, "rest")


def percentile(values: Sequence[float], percent: int) -> float:
    """A percentile, for two values or more."""
    return quantiles(values, n=100, method="inclusive")[percent - 1] if len(values) > 1 else values[0]


@dataclass
class Tally:
    """What the users saw."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    statuses: Counter[int] = field(default_factory=Counter)
    acknowledged: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, kind: str, status: int, seconds: float, done: str | None = None) -> None:
        """Takes one answer."""
        with self.lock:
            self.statuses[status] += 1
            if status != 429:
                self.seconds[kind].append(seconds)
            if done is not None and status == 200:
                self.acknowledged.add(done)


class User:
    """Somebody at a page of their own: a class, a picture at a time, and pauses."""

    def __init__(self, address: str, number: int, images: Sequence[str], side: int, tally: Tally) -> None:
        self.random, self.images, self.side, self.tally = random.Random(number), images, side, tally
        self.client = Client(address)
        self.name = ""
        self.number = number

    def run(self, seconds: float, pause: float) -> None:
        """Works until the time is over."""
        end = time.monotonic() + seconds
        self.name = self.own_class()
        while time.monotonic() < end:
            self.random.choice(
                (self.draw, self.draw, self.brush, self.undo, self.look, self.look, self.read)
            )()
            time.sleep(self.random.expovariate(1 / pause) if pause else 0)
        self.client.close()

    def own_class(self) -> str:
        """A class of one's own, so that users do not lock each other out."""
        known = f"class of {self.number} {uuid.uuid4().hex[:6]}"
        reply = self.client.command("add_class", name=known)
        return next(key.partition("/")[2] for key in reply["changes"])

    def draw(self) -> None:
        """A scribble: on one of two pictures that are one's references, or where a mask is to be mended."""
        shown = self.shown(image := self.random.choice(self.images))
        if shown is None or self.random.random() < 0.5:
            place = (2 * self.number + self.random.randrange(2)) % len(self.images)
            shown = self.shown(image := self.images[place])
        prompt = scribble(self.side, self.random.randrange(10**6))
        self.send("add_prompt", image, prompt=prompt, **({} if shown is None else {"shown": shown}))

    def brush(self) -> None:
        """A stroke of the brush over what is shown."""
        image = self.random.choice(self.images)
        stroke = {"points": scribble(self.side, self.number)["points"], "width": 12, "add": True}
        self.send("paint", image, shown=self.shown(image), strokes=[stroke])

    def undo(self) -> None:
        """Takes back whatever came last, of anybody."""
        self.request("undo", "POST", "/api/undo", json={"id": str(uuid.uuid4())})

    def look(self) -> None:
        """What a page reads when a picture is opened."""
        image = self.random.choice(self.images)
        self.request("read", "GET", f"/api/images/{image}/preview?side=1280")
        shown = self.shown(image)
        if shown is not None:
            self.request("read", "GET", f"/api/rasters/{shown}")

    def read(self) -> None:
        """The whole state, as a page that is opened does."""
        self.request("read", "GET", "/api/state")

    def shown(self, image: str) -> str | None:
        """The raster that is shown of one's class, as a page works it out."""
        with self.client.changed:
            docs = dict(self.client.docs)
        layer = docs.get(f"layer/{image}/{self.name}") or {}
        prompted = any(key.startswith(f"prompt/{image}/{self.name}/") for key in docs)
        if layer.get("painted"):
            return layer["painted"]
        if prompted:
            return (docs.get(f"mask/{image}/{self.name}") or {}).get("raster")
        found = (docs.get(f"found/{image}") or {}).get("classes", {}).get(self.name) or {}
        return found.get("raster")

    def send(self, do: str, image: str, **fields: object) -> None:
        """A command under an id that must be in the record afterwards."""
        own = str(uuid.uuid4())
        body = {"id": own, "command": {"do": do, "image": image, "class": self.name, **fields}}
        self.request("write", "POST", "/api/commands", json=body, done=own)

    def request(
        self, kind: str, method: str, path: str, *, json: object = None, done: str | None = None
    ) -> None:
        """One request, whose answer is counted."""
        start = time.perf_counter()
        try:
            status = self.client.http.request(method, path, json=json).status_code
        except httpx.HTTPError:
            status = 599
        self.tally.count(kind, status, time.perf_counter() - start, done)


def measure_load(address: str, pid: int, users: int, seconds: float, args: argparse.Namespace) -> None:
    """So many users for so long: what they waited for, what was lost, what memory did."""
    seeder = Client(address)
    images = [key.partition("/")[2] for key in seeder.docs if key.startswith("image/")]
    images = images or filled(seeder, args)[0]
    idle(seeder)
    seeder.close()
    tally, process = Tally(), psutil.Process(pid)
    memory = [process.memory_info().rss / 2**20]
    crowd = [User(address, number, images, args.side, tally) for number in range(users)]
    threads = [threading.Thread(target=user.run, args=(seconds, PAUSE_S)) for user in crowd]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        time.sleep(min(5, seconds / 10))
        memory.append(process.memory_info().rss / 2**20)
    lost = tally.acknowledged - logged(address)
    print(f"{users} users, {seconds:.0f} s, {sum(tally.statuses.values())} requests\n")
    print("| | p50 | p95 | worst | count |\n|---|---|---|---|---|")
    for kind, times in sorted(tally.seconds.items()):
        figures = (median(times), percentile(times, 95), max(times))
        print(f"| {kind} | {' | '.join(f'{1000 * t:.0f} ms' for t in figures)} | {len(times)} |")
    statuses = ", ".join(f"{status}: {count}" for status, count in sorted(tally.statuses.items()))
    at = {"at first": memory[0], "half way": memory[len(memory) // 2], "at the end": memory[-1]}
    at["at most"] = max(memory)
    print(f"\nAnswers by status: {statuses}.")
    print(f"Acknowledged commands: {len(tally.acknowledged)}, lost: {len(lost)}.")
    print("Memory of the server: " + ", ".join(f"{size:.0f} MiB {when}" for when, size in at.items()) + ".\n")


def logged(address: str) -> set[str]:
    """The ids of all entries of the record."""
    client = Client(address)
    ids: set[str] = set()
    after = 0
    while entries := client.get(f"/api/log?after={after}&limit=1000")["entries"]:
        ids |= {entry["id"] for entry in entries}
        after = entries[-1]["seq"]
    client.close()
    return ids


def measure_overload(address: str, seconds: float) -> None:
    """One client that asks as fast as it can, from several processes."""
    command = [sys.executable, __file__, "--flood", address, "--seconds", str(seconds)]
    floods = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    told: Counter[str] = Counter()
    for process in floods:
        told.update(json.loads(process.communicate()[0]))
    print(f"As fast as it goes for {seconds:.0f} s: {dict(sorted(told.items()))}.")


def flood(address: str, seconds: float) -> None:
    """Asks without a pause, and prints how often there was which answer."""
    parts = urlsplit(address)
    headers = {"Authorization": f"Bearer {parts.query.partition('=')[2]}"}
    connection = HTTPConnection(parts.netloc, timeout=30)
    told: Counter[str] = Counter()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        connection.request("GET", "/api/info", headers=headers)
        reply = connection.getresponse()
        reply.read()
        told[str(reply.status)] += 1
        if reply.status == 429:
            told["429 without Retry-After"] += reply.getheader("Retry-After") is None
    print(json.dumps(told))


def measure_page(address: str) -> None:
    """Bytes of the page and of what it loads, and when Chromium has painted it."""
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
    flags += ["--disable-background-networking", "--disable-component-update"]
    first, sizes = [], {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=flags)
        for _ in range(5):
            context = browser.new_context(viewport={"width": 1280, "height": 720})
            page = context.new_page()
            page.on("response", lambda reply: sizes.__setitem__(reply.url.partition("?")[0], weight(reply)))
            page.goto(address, wait_until="load")
            page.wait_for_selector("canvas")
            paint = (
                "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? performance.now()"
            )
            first.append(page.evaluate(paint))
            context.close()
        browser.close()
    total = sum(size for url, size in sizes.items() if "/api/" not in url)
    print(f"{total / 1000:.0f} kB in {len(sizes)} files, uncompressed (bar 300 kB).")
    print(f"First contentful paint: median {median(first):.0f} ms, worst {max(first):.0f} ms (bar 1000 ms).")


def weight(reply: object) -> int:
    """Bytes of an answer, without what it is redirected to."""
    try:
        return len(reply.body())  # type: ignore[attr-defined]
    except Exception:
        return 0


if __name__ == "__main__":
    main()
