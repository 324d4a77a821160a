"""Files, folders and patterns become a list of pictures."""

from pathlib import Path

import pytest

from softmatch_jax._checks import InputError
from softmatch_jax.cli.targets import expand_targets


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in ("b.JPG", "a.png", "notes.txt", ".hidden.png", "deep/c.webp", "out/overlays/a.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def expanded(folder, *words, recursive=False):
    paths = expand_targets([str(word) for word in words], recursive=recursive, output=folder / "out")
    return [path.relative_to(folder).as_posix() for path in paths]


def test_a_folder_holds_its_pictures_only(folder):
    assert expanded(folder, folder) == ["a.png", "b.JPG"]


def test_recursion_leaves_out_our_own_results(folder):
    assert expanded(folder, folder, recursive=True) == ["a.png", "b.JPG", "deep/c.webp"]


def test_patterns(folder):
    assert expanded(folder, folder / "*.png") == ["a.png"]
    assert expanded(folder, folder / "**" / "*") == ["a.png", "b.JPG", "deep/c.webp"]


def test_a_file_is_taken_as_it_is_and_once(folder):
    assert expanded(folder, folder / "notes.txt", folder, folder / "a.png") == ["notes.txt", "a.png", "b.JPG"]


def test_a_name_that_looks_like_a_pattern(folder):
    (folder / "x[1].png").write_bytes(b"x")
    assert expanded(folder, folder / "x[1].png") == ["x[1].png"]


@pytest.mark.parametrize(
    "word, sentence",
    [
        ("nothing.png", "does not exist; check the spelling"),
        ("*.tif", "matches no picture; expected a match in .bmp"),
        ("empty", "holds no picture; expected files in .bmp"),
        ("nul\0.png", "does not exist"),
    ],
)
def test_what_stands_for_no_picture(folder, word, sentence):
    (folder / "empty").mkdir()
    with pytest.raises(InputError) as caught:
        expanded(folder, f"{folder}/{word}")
    assert sentence in str(caught.value) and word in str(caught.value)


def test_pictures_within_the_output_folder_are_found(folder):
    paths = expand_targets([str(folder)], recursive=False, output=folder)
    assert [path.name for path in paths] == ["a.png", "b.JPG"]


def test_masks_of_references_are_passed_over_unless_named(folder):
    mask = folder / "a.png"
    passed = expand_targets([str(folder)], recursive=False, output=folder / "out", passed_over=[mask])
    assert [path.name for path in passed] == ["b.JPG"]
    assert expand_targets([str(mask)], recursive=False, output=folder / "out", passed_over=[mask]) == [mask]
