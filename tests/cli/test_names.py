"""Names of files are unique, safe, and the same every time."""

from pathlib import Path

import pytest

from softmatch_jax.cli.names import file_slug, name_classes, name_targets, printable


@pytest.mark.parametrize(
    "paths, names",
    [
        (["x/a.jpg", "x/b.png"], ["a", "b"]),
        (["x/a.jpg", "x/a.png"], ["a-jpg", "a-png"]),
        (["x/a.jpg", "y/a.jpg"], ["x-a", "y-a"]),
        (["x/a.jpg", "y/a.jpg", "y/b.jpg"], ["x-a", "y-a", "b"]),
        (["p/x/a.jpg", "q/x/a.jpg"], ["p-x-a", "q-x-a"]),
        (["../a.jpg", "a.jpg"], None),
        (["x/a.jpg", "y/a.jpg", "z/x-a.jpg"], None),
        (["x/A.jpg", "x/a.jpg"], None),
        (["x/a b.jpg", "x/a_b.jpg"], None),
    ],
)
def test_shared_stems_are_told_apart(paths, names):
    got = name_targets([Path(path) for path in paths])
    assert names is None or got == names
    assert len({name.casefold() for name in got}) == len(paths)
    assert name_targets([Path(path) for path in paths]) == got


@pytest.mark.parametrize(
    "text", ["../../x", "/etc/passwd", "..", ".hidden", "a\nb", "C:\\x", "", "ent\x00e", "名前" * 99]
)
def test_slugs_stay_in_their_folder(text):
    for dots in (False, True):
        slug = file_slug(text, 60, dots=dots)
        assert slug and not slug.startswith(".") and len(slug.encode()) <= 60
        assert not set(slug) & set("/\\:\n\x00") and (dots or "." not in slug)


def test_letters_of_any_script_stay():
    assert file_slug("größe 名前.v2", 60, dots=True) == "größe_名前.v2"


def test_classes_get_different_slugs():
    assert name_classes(["a/b", "a?b", "A_B", "duck"]) == ("a_b", "a_b-2", "A_B-3", "duck")


def test_undecodable_bytes_can_be_printed():
    printable(Path(b"a\xff.png".decode(errors="surrogateescape"))).encode()
