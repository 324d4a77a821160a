"""The demo needs nothing and finds coins."""

import json

import pytest


@pytest.fixture
def small_model():
    """Not here: the demo runs as a user runs it."""


def classes(folder):
    """What the demo found in the one target of a folder."""
    return json.loads((folder / "results.json").read_text())["targets"][0]["classes"]


def test_demo(command, tmp_path):
    code, out, _ = command("demo", "-o", tmp_path / "out")
    assert code == 0 and str(tmp_path / "out" / "tissue" / "contact_sheet.png") in out
    (coins,) = classes(tmp_path / "out" / "coins")
    assert coins["name"] == "coin" and len(coins["instances"]) >= 20  # of 24
    (glands,) = classes(tmp_path / "out" / "tissue")
    # Two of the three glands touch the fourth; what is stained brown is about half of the picture.
    assert len(glands["instances"]) >= 2 and 0.4 < glands["area"] / 512**2 < 0.65
    code, out, err = command("demo", "-o", tmp_path / "out")
    assert code == 2 and "--overwrite" in err
