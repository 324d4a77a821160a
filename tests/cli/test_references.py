"""Every way to annotate a reference, and every way to get it wrong."""

import json

import numpy as np
import pytest
from conftest import disc, picture

from softmatch_jax._checks import InputError
from softmatch_jax.cli.arguments import split_references
from softmatch_jax.cli.references import parse_colours, read_references
from softmatch_jax.imaging import DEFAULT_MAX_PIXELS, read_image, write_image
from softmatch_jax.prompting import Box, MaskAnnotation, Painted, Points, Scribbles, seeds

RED, BLUE = (255, 0, 0), (0, 0, 255)


def read(*words):
    from softmatch_jax.cli.arguments import _parse
    from softmatch_jax.cli.config import ReferenceConfig

    groups = split_references([str(word) for word in words]).groups
    configs = [_parse(ReferenceConfig, group) for group in groups]
    return read_references(configs, max_pixels=DEFAULT_MAX_PIXELS)


@pytest.fixture
def painting(made, tmp_path):
    """A copy of the picture with strokes of the given colours."""

    def paint(*colours):
        image = read_image(made / "a.png")
        for index, colour in enumerate(colours):
            image[48:54, 8 + 30 * index : 26 + 30 * index] = colour
        write_image(tmp_path / "painted.png", image)
        return tmp_path / "painted.png"

    return paint


@pytest.fixture
def scribbled(tmp_path):
    """A file of annotations from entries."""

    def write(*entries, text=None):
        path = tmp_path / "scribbles.json"
        path.write_text(json.dumps({"softmatch": 1, "annotations": entries}) if text is None else text)
        return path

    return write


STROKE = [{"points": [[35, 50], [45, 50]]}]


def test_a_mask(made):
    (image,) = read("--reference", made / "a.png", "--mask", made / "a-mask.png")
    assert image.kind == "mask" and list(image.annotations) == ["object"]
    np.testing.assert_array_equal(image.annotations["object"].mask, disc(40, 50))


def test_a_mask_of_grey_levels_needs_its_threshold(made, tmp_path):
    grey = np.repeat((disc(40, 50) * 100 + 20 * disc(40, 50, 30))[..., None], 3, axis=2).astype(np.uint8)
    write_image(tmp_path / "m.png", grey)
    words = ["--reference", made / "a.png", "--mask", tmp_path / "m.png"]
    with pytest.raises(InputError, match=r"m\.png holds 3 distinct values.*--mask-threshold"):
        read(*words)
    (image,) = read(*words, "--mask-threshold", 100)
    np.testing.assert_array_equal(image.annotations["object"].mask, disc(40, 50))


def test_points_and_box(made):
    words = ["--reference", made / "a.png"]
    (image,) = read(*words, "--point", "40,50", "--negative-point", "5,5", "--point", "42,50")
    assert image.kind == "points"
    assert image.annotations["object"] == Points(((40, 50), (42, 50), (5, 5)), (True, True, False))
    (image,) = read(*words, "--box", "20,30,60,70", "--class-name", "x")
    assert image.kind == "box" and image.annotations == {"x": Box(20, 30, 60, 70)}


def test_scribbles_of_several_classes(made, scribbled):
    file = scribbled({"class": "x", "strokes": STROKE}, {"class": "y", "points": [[5, 5]]})
    (image,) = read("--reference", made / "a.png", "--scribbles", file)
    assert list(image.annotations) == ["x", "y"]
    assert isinstance(image.annotations["x"], Scribbles)
    with pytest.raises(
        InputError, match=r"--class-name z is given for 2 classes, 'x', 'y'.*scribbles|scribbles.*2 classes"
    ):
        read("--reference", made / "a.png", "--scribbles", file, "--class-name", "z")


def test_one_class_of_a_file_can_be_renamed(made, scribbled):
    file = scribbled({"class": "x", "strokes": STROKE})
    (image,) = read("--reference", made / "a.png", "--scribbles", file, "--class-name", "z")
    assert list(image.annotations) == ["z"]


def test_a_painting_of_one_colour(made, painting):
    (image,) = read("--reference", made / "a.png", "--painting", painting(RED), "--class-name", "x")
    assert isinstance(image.annotations["x"], Painted)
    assert image.annotations["x"].foreground.sum() == 6 * 18


def test_a_painting_of_several_colours_lists_them(made, painting):
    file = painting(RED, BLUE)
    words = ["--reference", made / "a.png", "--painting", file]
    with pytest.raises(InputError) as caught:
        read(*words)
    text = str(caught.value)
    assert all(part in text for part in (str(file), "#ff0000 (108 pixels)", "#0000ff", "--colours"))
    (image,) = read(*words, "--colours", "x=#ff0000,background=#0000ff")
    assert list(image.annotations) == ["x"] and image.annotations["x"].background.sum() == 108


def test_a_transparent_painting(made, tmp_path):
    import PIL.Image

    layer = np.zeros((96, 96, 4), np.uint8)
    layer[45:55, 35:45] = (255, 0, 0, 255)
    PIL.Image.fromarray(layer).save(tmp_path / "layer.png")
    (image,) = read("--reference", made / "a.png", "--painting", tmp_path / "layer.png")
    assert image.annotations["object"].foreground.sum() == 100


def test_the_checksum_covers_all_that_was_said(made):
    base = ["--reference", made / "a.png", "--point"]
    sums = {read(*base, point)[0].sha256 for point in ("40,50", "41,50")}
    sums.add(read("--reference", made / "t0.png", "--point", "40,50")[0].sha256)
    sums.add(read("--reference", made / "a.png", "--mask", made / "a-mask.png")[0].sha256)
    assert len(sums) == 4 and read(*base, "40,50")[0].sha256 in sums


@pytest.mark.parametrize(
    "words, sentence",
    [
        ((), "is not annotated; expected one of --mask, --scribbles"),
        (("--mask", "m", "--box", "1,2,3,4"), "is annotated in 2 ways, mask and box; expected exactly one"),
        (("--point", "1,1", "--mask-threshold", 3), "--mask-threshold is given for --reference"),
        (("--point", "1,1", "--colours", "a=#000000"), "without --painting"),
        (("--point", "1,1", "--class-name", " "), "is empty; expected a name"),
        (("--point", "200,10"), "lies entirely outside the picture"),
        (("--negative-point", "1,1"), "has no positive point"),
        (("--box", "100,100,120,120"), "lies entirely outside the picture"),
        (("--box", "20,20,10,10"), "expected x1 > x0"),
        (("--point", "nan,1"), "expected finite pixel coordinates"),
    ],
)
def test_options_that_do_not_fit(made, words, sentence):
    with pytest.raises(InputError) as caught:
        read("--reference", made / "a.png", *words)
    assert sentence in str(caught.value) and "a.png" in str(caught.value)


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("duck", "expected NAME=#RRGGBB"),
        ("duck=red", "expected NAME=#RRGGBB"),
        ("a=#ff0000,A=#00ff00", "names the class 'A' twice"),
        ("background=#ff0000", "only the background"),
        ("", "expected NAME=#RRGGBB"),
    ],
)
def test_colours_that_cannot_be_read(text, sentence):
    with pytest.raises(InputError) as caught:
        parse_colours(text)
    assert sentence in str(caught.value)


def test_colours():
    assert parse_colours("a=#ff0000, b c=#00FF0a ,background=#000000") == (
        {"a": (255, 0, 0), "b c": (0, 255, 10)},
        (0, 0, 0),
    )


def test_groups_of_one_name_are_one_class_but_spellings_must_agree(made):
    a = ["--reference", made / "a.png", "--mask", made / "a-mask.png", "--class-name"]
    b = ["--reference", made / "b.png", "--mask", made / "b-mask.png", "--class-name"]
    assert len(read(*a, "duck", *b, "duck")) == 2
    with pytest.raises(InputError) as caught:
        read(*a, "Duck", *b, "duck ")
    assert all(part in str(caught.value) for part in ("'Duck'", "'duck '", "a-mask.png", "b-mask.png"))


def test_annotations_are_checked_before_any_model_runs(made):
    (image,) = read("--reference", made / "a.png", "--mask", made / "a-mask.png")
    assert (
        seeds(MaskAnnotation(disc(40, 50)), (96, 96)).exact
        and image.image.shape == picture(disc(1, 1), 0).shape
    )
