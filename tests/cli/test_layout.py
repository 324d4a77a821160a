"""The output folder is checked before it is touched, and only our own files ever go."""

import os

import pytest

from softmatch_jax._checks import InputError
from softmatch_jax.cli.layout import check_output, make_folders, remove_files, target_files

FILES = target_files("a", ["duck", "../cat"])


def check(root, inputs=(), *, resume=False, overwrite=False):
    check_output(root, [FILES], inputs, resume=resume, overwrite=overwrite)


def test_names_of_files():
    assert FILES.pictures == ("masks/a.png", "overlays/a.jpg", "maps/a.duck.png", "maps/a.___cat.png")
    assert target_files("a", ["duck"]).maps == ("maps/a.png",)


def test_confidence_only_where_it_is_wanted(tmp_path):
    files = target_files("a", ["duck", "../cat"], confidence=True)
    assert files.pictures == (*FILES.pictures, "confidence/a.duck.png", "confidence/a.___cat.png")
    make_folders(tmp_path)
    assert not (tmp_path / "confidence").exists()
    make_folders(tmp_path, confidence=True)
    assert (tmp_path / "confidence").is_dir()


def test_a_map_of_confidence_is_in_the_way(tmp_path):
    (tmp_path / "confidence").mkdir()
    (tmp_path / "confidence" / "a.duck.png").write_text("mine")
    files = target_files("a", ["duck", "../cat"], confidence=True)
    with pytest.raises(InputError, match="was not made by softmatch"):
        check_output(tmp_path, [files], (), resume=False, overwrite=False)
    check(tmp_path)
    with pytest.raises(InputError, match="lies among the results"):
        check(tmp_path, [tmp_path / "confidence" / "b.png"])


def test_an_absent_folder_and_foreign_files_are_fine(tmp_path):
    check(tmp_path / "new" / "out")
    assert not (tmp_path / "new").exists()
    (tmp_path / "notes.txt").write_text("mine")
    check(tmp_path)


@pytest.mark.parametrize("name", ["results.json", "contact_sheet.png", "records/b.json", "masks/a.png"])
def test_results_may_neither_go_nor_stay_unasked(tmp_path, name):
    make_folders(tmp_path)
    (tmp_path / name).write_text("{}")
    with pytest.raises(InputError) as caught:
        check(tmp_path)
    assert all(part in str(caught.value) for part in (str(tmp_path), "--resume", "--overwrite"))
    check(tmp_path, resume=True)
    check(tmp_path, overwrite=True)
    with pytest.raises(InputError, match="given together"):
        check(tmp_path, resume=True, overwrite=True)


@pytest.mark.parametrize("name", ["results.json", "masks/a.png"])
@pytest.mark.parametrize("flags", [{}, {"resume": True}, {"overwrite": True}], ids=str)
def test_what_another_program_put_there_is_never_replaced(tmp_path, name, flags):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match="was not made by softmatch"):
        check(tmp_path, **flags)


def test_a_name_no_file_system_takes(tmp_path):
    with pytest.raises(InputError, match="File name too long"):
        check(tmp_path / ("a" * 300))


def test_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "out").write_text("")
    for root in (tmp_path / "out", tmp_path / "out" / "deeper"):
        with pytest.raises(InputError, match="is not a folder; expected another -o"):
            check(root)


def test_a_folder_without_permission(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(InputError, match="does not allow it; change its permissions"):
        check(tmp_path / "out")


def test_no_input_lies_among_the_results(tmp_path):
    with pytest.raises(InputError, match=r"masks.b\.png lies among the results.*another output folder"):
        check(tmp_path, [tmp_path / "masks" / "b.png"], overwrite=True)
    check(tmp_path, [tmp_path / "b.png"])


def test_making_fails_in_one_sentence(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    with pytest.raises(InputError, match="cannot be made \\(Read-only file system\\)"):
        make_folders(tmp_path / "out")


def test_only_files_of_ours_are_removed(tmp_path):
    root = tmp_path / "out"
    make_folders(root)
    foreign = [tmp_path / "outside.png", root / "notes.txt", root / "masks" / "deep"]
    for path in (*foreign[:2], root / "masks/a.png", root / "results.json"):
        path.write_text("x")
    names = ("masks/a.png", "results.json", "../outside.png", "masks/../../outside.png", "notes.txt")
    remove_files(root, (*names, str(foreign[0]), "masks/missing.png"))
    assert not (root / "masks/a.png").exists() and not (root / "results.json").exists()
    assert all(path.exists() for path in foreign[:2])
    foreign[2].mkdir()
    with pytest.raises(InputError, match="cannot be removed"):
        remove_files(root, ["masks/deep"])
