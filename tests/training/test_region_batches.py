from __future__ import annotations

import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import scipy.ndimage

from softmatch_jax._checks import InputError
from softmatch_jax.data.region_cache import RegionCache
from softmatch_jax.data.region_sources import open_region_pictures
from softmatch_jax.data.regions import RegionPicture
from softmatch_jax.training.region_batches import RegionBatches, RegionSource
from softmatch_jax.training.region_config import Colours, Drawing, Framing, Pasting, RegionBatchConfig

STILL = Colours(brightness=0, contrast=0, saturation=0, hue=0, grey=0, blurred=0, noisy=0)
PLAIN = Framing(whole=1, mirrored=0)
EXACT = Drawing(min_area=0, max_area=1, merge=0, jitter=0)


@dataclass(frozen=True)
class Given:
    """Label maps that are not in a file; compares by its name."""

    reading: str
    maps: np.ndarray = field(compare=False)
    path: Path = Path("given.png")

    def read(self, size):
        return tuple(self.maps)


def cells(seed, size=(60, 80), points=12):
    """A Voronoi partition."""
    rng = np.random.default_rng(seed)
    seeds = rng.random((points, 2)) * size
    y, x = np.mgrid[: size[0], : size[1]]
    distance = (y[..., None] - seeds[:, 0]) ** 2 + (x[..., None] - seeds[:, 1]) ** 2
    return (distance.argmin(-1) + 1).astype(np.uint16)


def picture(folder, name, maps):
    """A picture whose colours are those of the regions of its first map."""
    maps = np.asarray(maps, np.uint16)
    colours = np.random.default_rng(7).integers(40, 256, (maps.max() + 1, 3)).astype(np.uint8)
    path = folder / f"{name}.png"
    PIL.Image.fromarray(colours[maps[0]]).save(path)
    return RegionPicture(name=name, image=path, maps=Given(name, maps))


@pytest.fixture
def source(tmp_path):
    pictures = [
        picture(tmp_path, str(k), [cells(2 * k, size), cells(2 * k + 1, size)])
        for k, size in enumerate([(60, 80), (80, 60), (64, 64), (40, 90)])
    ]
    return RegionSource(name="cells", pictures=tuple(pictures))


def config(**changes):
    return RegionBatchConfig(**{"stages": ((0, 64, 4),), "prompts": 5, **changes})


def one(folder, labels, **changes):
    """A batch of the only picture there is, as it stands."""
    source = RegionSource(name="one", pictures=(picture(folder, "p", [labels]),))
    settings = {"stages": ((0, 64, 1),), "framing": PLAIN, "colours": STILL, "drawing": EXACT, **changes}
    return RegionBatches([source], config(**settings))


def assert_same(first, second):
    assert first.keys() == second.keys()
    for key in first:
        assert first[key].dtype == second[key].dtype
        np.testing.assert_array_equal(first[key], second[key], err_msg=key)


def slots(batch):
    return [(b, k) for b, k in np.argwhere(batch["weights"] > 0).tolist()]


def test_shapes_and_types(source):
    batch = RegionBatches([source], config()).batch(0, 0)
    assert {key: (value.dtype.name, value.shape) for key, value in batch.items()} == {
        "images": ("uint8", (4, 64, 64, 3)),
        "content": ("int32", (4, 2)),
        "masks": ("bool", (4, 5, 32, 32)),
        "weights": ("float32", (4, 5)),
        "centres": ("float32", (4, 5, 2)),
        "points": ("float32", (4, 5, 2)),
        "boxes": ("float32", (4, 5, 4)),
    }
    assert set(np.unique(batch["weights"])) <= {0, 1}


def test_a_batch_is_a_function_of_seed_and_step(source):
    batches = RegionBatches([source], config())
    asked = [batches.batch(3, step) for step in (5, 1, 9)]
    other = pickle.loads(pickle.dumps(RegionBatches([source], config(), RegionCache(most_bytes=0))))
    for step, batch in zip((9, 1, 5), asked[::-1], strict=True):
        assert_same(other.batch(3, step), batch)
    assert (batches.batch(3, 6)["images"] != asked[0]["images"]).any()
    assert (batches.batch(4, 5)["images"] != asked[0]["images"]).any()
    for batch in asked:  # not one view four times
        assert len({image.tobytes() for image in batch["images"]}) == 4
    with ThreadPoolExecutor(4) as pool:
        for batch, step in zip(
            pool.map(lambda s: batches.batch(3, s), [5, 1, 9] * 5), [0, 1, 2] * 5, strict=True
        ):
            assert_same(batch, asked[step])


def test_what_is_handed_out_belongs_to_the_caller(source):
    batches = RegionBatches([source], config())
    first = batches.batch(0, 0)
    copy = {key: value.copy() for key, value in first.items()}
    for value in first.values():
        value[:] = 1
    assert_same(batches.batch(0, 0), copy)


@pytest.mark.parametrize("turned", [0, 25])
def test_prompts_lie_in_their_masks(source, turned):
    batches = RegionBatches([source], config(framing=Framing(turned=turned), drawing=Drawing(jitter=0)))
    seen = 0
    for step in range(30):
        batch = batches.batch(0, step)
        for b, k in slots(batch):
            mask, seen = batch["masks"][b, k], seen + 1
            for x, y in (batch["points"][b, k], batch["centres"][b, k]):
                assert mask[int(y / 2), int(x / 2)]
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            tight = 2 * np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
            x0, y0, x1, y1 = batch["boxes"][b, k]
            # The box is that of the samples: it may end within the outermost pixel of the mask ...
            assert x0 < tight[0] + 2 and y0 < tight[1] + 2 and x1 > tight[2] - 2 and y1 > tight[3] - 2
            height, width = batch["content"][b]
            assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height  # ... and go on where less than half is
    assert seen > 300


def test_centres_are_the_deepest_pixels_by_scipy(source):
    batches = RegionBatches([source], config())
    for step in range(10):
        batch = batches.batch(1, step)
        for b, k in slots(batch):
            height, width = batch["content"][b] // 2
            mask = np.pad(batch["masks"][b, k, :height, :width], 1)
            depths = scipy.ndimage.distance_transform_edt(mask)
            x, y = batch["centres"][b, k] / 2 - 0.5  # of the pixel, without the padding
            assert x % 1 == y % 1 == 0
            assert depths[int(y) + 1, int(x) + 1] == pytest.approx(depths.max(), rel=1e-6)


def test_padding_is_zero_and_content_is_the_picture(tmp_path):
    labels = cells(0, (40, 64))
    batch = one(tmp_path, labels).batch(0, 0)
    assert batch["content"].tolist() == [[40, 64]]
    image = np.asarray(PIL.Image.open(tmp_path / "p.png"))
    np.testing.assert_array_equal(batch["images"][0, :40], image)
    assert not batch["images"][0, 40:].any() and not batch["masks"][0, :, 20:].any()
    # Colours that change do not reach the padding.
    bright = one(tmp_path, labels, colours=Colours(brightness=1, noisy=1, blurred=1))
    assert not any(bright.batch(0, step)["images"][0, 40:].any() for step in range(10))


def test_masks_are_the_majority_of_each_two_by_two(tmp_path):
    """At the picture's own size a pixel of a mask is four of the label map."""
    labels = cells(1, (48, 64))
    batch = one(tmp_path, labels, prompts=12).batch(0, 0)
    found = {batch["masks"][0, k].tobytes() for _, k in slots(batch)}
    expected = set()
    for number in range(1, 13):
        share = (labels == number).reshape(24, 2, 32, 2).mean((1, 3))
        expected.add(np.pad(share >= 0.5, ((0, 8), (0, 0))).tobytes())
    assert found == expected


def test_boxes_are_tight_without_jitter(tmp_path):
    labels = np.zeros((64, 64), np.uint16)
    labels[10:30, 13:41] = 5
    labels[50:52, 2] = 5  # of two parts
    batch = one(tmp_path, labels, drawing=replace(EXACT, again=False)).batch(0, 0)
    assert batch["boxes"][0, 0].tolist() == [2, 10, 41, 52]
    assert batch["weights"].tolist() == [[1, 0, 0, 0, 0]]


def test_jitter_of_boxes(tmp_path):
    labels = np.zeros((512, 512), np.uint16)
    labels[200:300, 100:400] = 1
    settings = {"stages": ((0, 512, 1),), "prompts": 1}
    drawing = replace(EXACT, jitter=0.1, most_jitter=0.5)
    batches = one(tmp_path, labels, **settings, drawing=drawing)
    shifts = np.array([batches.batch(0, s)["boxes"][0, 0] - [100, 200, 400, 300] for s in range(200)])
    assert shifts.std(0) == pytest.approx([30, 10, 30, 10], rel=0.2)
    assert np.abs(shifts.mean(0)).max() < 7
    capped = one(tmp_path, labels, **settings, drawing=replace(EXACT, jitter=0.1, most_jitter=4 / 512))
    shifts = [capped.batch(0, s)["boxes"][0, 0] - [100, 200, 400, 300] for s in range(20)]
    assert np.abs(shifts).max() == 4


def test_boxes_stay_in_the_content_and_are_not_too_thin(tmp_path):
    labels = np.zeros((32, 64), np.uint16)
    labels[0:2] = 1
    labels[30:32, 62:] = 2
    batches = one(tmp_path, labels, drawing=replace(EXACT, jitter=5, most_jitter=1))
    boxes = np.concatenate([batches.batch(0, s)["boxes"][0, :2] for s in range(100)])
    assert boxes.min() == 0 and (boxes[:, 2:] <= [64, 32]).all()
    assert (boxes[:, 2:] - boxes[:, :2] >= 2 - 1e-5).all()


def test_mirrored_views_mirror_all(tmp_path):
    labels = np.zeros((64, 64), np.uint16)
    labels[10:30, 4:20] = 1
    plain = one(tmp_path, labels).batch(0, 0)
    for name, axis in (("mirrored", 1), ("upside_down", 0)):
        framing = Framing(**{"whole": 1, "mirrored": 0, name: 1})
        batch = one(tmp_path, labels, framing=framing).batch(0, 0)
        np.testing.assert_array_equal(batch["images"][0], np.flip(plain["images"][0], axis))
        np.testing.assert_array_equal(batch["masks"][0, 0], np.flip(plain["masks"][0, 0], axis))
        box = [44, 10, 60, 30] if axis else [4, 34, 20, 54]
        assert batch["boxes"][0, 0].tolist() == box


def test_areas_are_within_the_bounds(source):
    drawing = Drawing(min_area=0.05, max_area=0.2, merge=0.5)
    batches, shares = RegionBatches([source], config(drawing=drawing)), []
    for step in range(40):
        batch = batches.batch(0, step)
        for b, k in slots(batch):
            shares.append(4 * batch["masks"][b, k].sum() / batch["content"][b].prod())
    assert len(shares) > 200 and min(shares) >= 0.05 and max(shares) <= 0.2


def test_no_region_twice_and_as_many_as_there_are(tmp_path):
    labels = np.kron(np.arange(1, 17).reshape(4, 4), np.ones((16, 16), int)).astype(np.uint16)
    once = one(tmp_path, labels, prompts=20, drawing=replace(EXACT, again=False)).batch(0, 0)
    assert once["weights"][0].tolist() == [1] * 16 + [0] * 4
    assert (once["masks"][0].sum(0) == 1).all()
    for key in ("masks", "centres", "points", "boxes"):
        assert not once[key][0, 16:].any()
    again = one(tmp_path, labels, prompts=20).batch(0, 0)
    assert (again["weights"] == 1).all()
    for key in ("masks", "centres", "points", "boxes"):  # first each once, as without
        np.testing.assert_array_equal(again[key][0, :16], once[key][0, :16])
    np.testing.assert_array_equal(again["masks"][0, 16:], once["masks"][0, :4])
    assert (again["points"][0, 16:] != once["points"][0, :4]).any(-1).all()  # by other prompts


def test_all_maps_of_a_picture_are_used(tmp_path):
    maps = [np.full((64, 64), 1), np.full((64, 64), 1)]
    maps[0][:, 32:] = 0
    maps[1][32:] = 0
    source = RegionSource(name="two", pictures=(picture(tmp_path, "p", maps),))
    batches = RegionBatches([source], config(framing=PLAIN, drawing=EXACT))
    wide = [batches.batch(0, step)["masks"][:, 0, 0, -1] for step in range(50)]
    assert 0.4 < np.mean(wide) < 0.6


def test_sources_are_drawn_by_their_weights(tmp_path):
    sides = {}
    for name, labels in (("left", np.eye(2)), ("right", 1 - np.eye(2))):
        (tmp_path / name).mkdir()
        pictures = (picture(tmp_path / name, "p", [np.kron(labels, np.ones((32, 32)))]),)
        sides[name] = RegionSource(name=name, pictures=pictures, weight=3 if name == "left" else 1)
    batches = RegionBatches(list(sides.values()), config(framing=PLAIN, drawing=EXACT))
    left = [batches.batch(0, step)["masks"][:, 0, 0, 0] for step in range(100)]
    assert 0.68 < np.mean(left) < 0.82


def test_what_is_pasted_is_asked_for_too(tmp_path):
    """Every region of these pictures has a colour of its own, pasted or not."""
    ground, stamp = np.ones((64, 64), int), np.zeros((64, 64), int)
    stamp[20:44, 8:40] = 2
    pictures = (picture(tmp_path, "a", [ground]), picture(tmp_path, "b", [stamp]))
    source = RegionSource(name="two", pictures=pictures)
    settings = {"framing": PLAIN, "colours": STILL, "drawing": EXACT, "correct_every": 0}
    colours = np.random.default_rng(7).integers(40, 256, (3, 3))
    code = np.array([1, 1 << 8, 1 << 16])  # one number for a colour
    wholes = 0
    for share in (0, 1):
        pasting = Pasting(share=share, min_area=0, max_area=0.9)
        batches = RegionBatches([source], config(**settings, pasting=pasting))
        assert_same(batches.batch(0, 3), batches.batch(0, 3))
        for step in range(10):
            batch = batches.batch(0, step)
            for b, k in slots(batch):
                inside = np.kron(batch["masks"][b, k], np.ones((2, 2), bool))
                assert len(np.unique(batch["images"][b][inside] @ code)) == 1
            areas = {int(area) for area in batch["masks"].sum((2, 3)).ravel()}
            assert areas <= {1024, 192, 1024 - 192}
            wholes += 832 in areas  # the ground with something on it
            assert share or 832 not in areas
            assert set(np.unique(batch["images"] @ code)) <= set(colours @ code)
    assert wholes > 5
    assert RegionBatches([source], config(**settings)).digest != batches.digest


def test_views_are_drawn_until_there_is_a_region(tmp_path):
    labels = np.zeros((400, 400), np.uint16)
    labels[300:312, 100:112] = 1  # a whole view has 0.09 % of it, the smallest cut 0.56 %
    empty = picture(tmp_path, "e", [np.zeros((60, 60))])
    source = RegionSource(name="rare", pictures=(picture(tmp_path, "p", [labels]), empty))
    batches = RegionBatches([source], config(drawing=Drawing(min_area=0.002)))
    filled = [batches.batch(0, step)["weights"][:, 0] for step in range(30)]
    assert np.mean(filled) > 0.8
    assert_same(batches.batch(0, 7), batches.batch(0, 7))


def test_data_without_regions(tmp_path):
    source = RegionSource(name="void", pictures=(picture(tmp_path, "e", [np.zeros((60, 60))]),))
    with pytest.raises(
        InputError, match=r"pictures of void show no region of 0\.005 to 0\.7 of a view; lower"
    ):
        RegionBatches([source], config()).batch(0, 0)


def test_stages_and_corrections(source):
    batches = RegionBatches([source], config(stages=((0, 32, 3), (4, 64, 2)), correct_every=3))
    for step in range(8):
        batch = batches.batch(0, step)
        side, count = (32, 3) if step < 4 else (64, 2)
        assert batch["images"].shape == (count, side, side, 3)
        assert batch["masks"].shape == (count, 5, side // 2, side // 2)
        assert ("correct" in batch) is (step in (2, 5))
        if "correct" in batch:
            assert batch["correct"].tolist() == [False] * count and batch["correct"].dtype == bool
    never = RegionBatches([source], config(correct_every=0))
    assert not any("correct" in never.batch(0, step) for step in range(4))
    always = RegionBatches([source], config(correct_every=1))
    assert all("correct" in always.batch(0, step) for step in range(4))


def test_the_digest_tells_data_and_settings_apart(source):
    digest = RegionBatches([source], config()).digest
    assert RegionBatches([source], config(), RegionCache(most_bytes=0)).digest == digest
    others = [
        RegionBatches([replace(source, name="other")], config()),
        RegionBatches([replace(source, weight=2.0)], config()),
        RegionBatches([replace(source, pictures=source.pictures[1:])], config()),
        RegionBatches([source], config(prompts=6)),
        RegionBatches([source], config(drawing=Drawing(merge=0.2))),
        RegionBatches([source], config(), RegionCache(longest=100)),
    ]
    assert len({digest, *(other.digest for other in others)}) == 7


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stages": ()}, r"stages begin at steps \[\]; expected 0 first"),
        ({"stages": ((5, 64, 4),)}, r"stages begin at steps \[5\]"),
        ({"stages": ((0, 64, 4), (9, 64, 4), (9, 32, 4))}, r"steps \[0, 9, 9\]"),
        ({"stages": ((0, 66, 4),)}, "side 66 and 4 pictures; expected a multiple of 4"),
        ({"stages": ((0, 64, 0),)}, "side 64 and 0 pictures"),
        ({"prompts": 0}, "prompts is 0"),
        ({"correct_every": -1}, "correct_every -1"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(InputError, match=message):
        RegionBatchConfig(**settings)


def test_sources_and_steps_that_cannot_be(source):
    with pytest.raises(InputError, match=r"The sources are \[\]; expected at least one"):
        RegionBatches([])
    with pytest.raises(InputError, match=r"The sources are \['cells', 'cells'\]"):
        RegionBatches([source, source])
    with pytest.raises(InputError, match="The source 'x' has no picture"):
        RegionSource(name="x", pictures=())
    with pytest.raises(InputError, match="The weight of 'cells' is 0"):
        replace(source, weight=0)
    for seed, step in ((-1, 0), (0, -1)):
        with pytest.raises(InputError, match=f"seed is {seed} and step {step}; expected 0 or more"):
            RegionBatches([source]).batch(seed, step)


@pytest.mark.slow
def test_real_pictures_are_fast_enough(data_dir):
    sources = [
        RegionSource(name=kind, pictures=open_region_pictures(kind, data_dir / kind, "val"))
        for kind in ("bsds500", "camvid")
    ]
    batches = RegionBatches(sources, RegionBatchConfig(stages=((0, 128, 4),)))
    for step in range(100):
        batches.batch(0, step)
    times = []
    for step in range(100):
        start = time.perf_counter()
        batch = batches.batch(0, step)
        times.append(time.perf_counter() - start)
    assert batch["weights"].mean() > 0.3
    assert np.median(times) < 0.05  # 0.007 on a quiet core
