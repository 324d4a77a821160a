from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from project_making import (
    BASIS,
    DOT,
    add_picture,
    box_labels,
    command,
    derive_found,
    derive_mask,
    found,
    made_by_hand,
    project,
    run,
    unique,
)

from softmatch_jax import InputError
from softmatch_jax.serve.project.documents import FoundDocument, LayerDocument, MaskDocument
from softmatch_jax.serve.project.errors import ConflictError, NotFoundError
from softmatch_jax.serve.project.showing import found_basis, layer_basis, references, shown
from softmatch_jax.serve.project.store import Store

BRUSH = [{"points": [[30, 30]], "width": 9, "add": True}]
WIPE = [{"points": [[0, 24], [64, 24]], "width": 200, "add": False}]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = project(tmp_path / "project")
    yield store
    assert store.check() == []
    store.close()


def test_names_are_given_in_order_and_never_twice(store: Store) -> None:
    assert [*store.state().of("image")] == ["image/i1", "image/i2"]
    run(store, "delete_image", "i2")
    run(store, "delete_class", cls="c2")
    assert add_picture(store, 9) == "i3"
    assert "class/c3" in run(store, "add_class", name="new").changes
    store.undo(id=unique())
    assert "class/c4" in run(store, "add_class", name="new").changes


def test_a_first_prompt_on_nothing_is_a_reference(store: Store) -> None:
    entry = run(store, "add_prompt", "i1", "c1", prompt=DOT)
    assert store.state().layer("i1", "c1") == LayerDocument(reference=True)
    assert set(entry.changes) == {"layer/i1/c1", "prompt/i1/c1/p1"}
    # The mask is on its way; a second stroke does not wait for it, and changes its own document alone.
    second = run(store, "add_prompt", "i1", "c1", prompt=DOT | {"positive": False})
    assert set(second.changes) == {"prompt/i1/c1/p2"}
    assert [p.prompt.positive for p in store.state().prompts("i1", "c1")] == [True, False]
    assert references(store.state()) == []
    raster = derive_mask(store, "i1", "c1", box_labels(0, 0, 9, 9))
    assert references(store.state()) == [("i1", "c1", raster)]
    assert shown(store.state(), "i1", "c1") == raster


def test_prompts_over_a_found_mask_correct_it_and_are_no_reference(store: Store) -> None:
    rasters = derive_found(store, "i2", c1=box_labels(0, 0, 9, 9))
    for said in (None, BASIS):
        with pytest.raises(ConflictError, match="has changed since"):
            run(store, "add_prompt", "i2", "c1", prompt=DOT, shown=said)
    run(store, "add_prompt", "i2", "c1", prompt=DOT, shown=rasters["c1"])
    assert store.state().layer("i2", "c1") == LayerDocument(base=rasters["c1"])
    # Until the correction is there, what it corrects shows, whatever is found meanwhile.
    derive_found(store, "i2", c1=box_labels(5, 5, 20, 20))
    assert shown(store.state(), "i2", "c1") == rasters["c1"]
    corrected = derive_mask(store, "i2", "c1", box_labels(0, 0, 12, 9))
    assert shown(store.state(), "i2", "c1") == corrected
    run(store, "promote", "i2", "c1", reference=True, shown=corrected)
    assert store.state().layer("i2", "c1") == LayerDocument(reference=True, base=rasters["c1"])


def test_after_the_last_prompt_what_was_corrected_shows_again(store: Store) -> None:
    rasters = derive_found(store, "i2", c1=box_labels(0, 0, 9, 9))
    run(store, "add_prompt", "i2", "c1", prompt=DOT, shown=rasters["c1"])
    derive_mask(store, "i2", "c1", box_labels(0, 0, 12, 9))
    run(store, "delete_prompt", "i2", "c1", prompt="p1")
    assert store.state().layer("i2", "c1") == LayerDocument(painted=rasters["c1"])
    assert shown(store.state(), "i2", "c1") == rasters["c1"]
    assert store.state().get("mask/i2/c1") is None
    # Without a base, nothing of the layer is left.
    run(store, "add_prompt", "i1", "c1", prompt=DOT)
    run(store, "delete_prompt", "i1", "c1", prompt="p2")
    assert store.state().get("layer/i1/c1") is None
    with pytest.raises(NotFoundError, match="no prompt p2"):
        run(store, "delete_prompt", "i1", "c1", prompt="p2")


def test_prompts_after_the_brush_start_from_what_was_brushed(store: Store) -> None:
    run(store, "add_prompt", "i1", "c1", prompt=DOT)
    mask = derive_mask(store, "i1", "c1", box_labels(0, 0, 9, 9))
    run(store, "paint", "i1", "c1", shown=mask, strokes=BRUSH)
    painted = shown(store.state(), "i1", "c1")
    assert painted == store.state().layer("i1", "c1").painted != mask
    run(store, "add_prompt", "i1", "c1", prompt=DOT, shown=painted)
    assert store.state().layer("i1", "c1") == LayerDocument(reference=True, base=painted)
    assert len(store.state().prompts("i1", "c1")) == 1
    # The mask of the prompts before is gone: it would show once more what the brush mended.
    assert store.state().get("mask/i1/c1") is None
    assert shown(store.state(), "i1", "c1") == painted
    store.undo(id=unique())
    assert shown(store.state(), "i1", "c1") == painted


def test_painting_makes_a_raster_from_what_is_shown(store: Store) -> None:
    run(store, "paint", "i1", "c1", shown=None, strokes=BRUSH)
    first = shown(store.state(), "i1", "c1")
    np.testing.assert_array_equal(np.unique(store.raster(first)), [0, 1])
    assert not store.state().layer("i1", "c1").reference
    with pytest.raises(ConflictError, match="has changed since"):
        run(store, "paint", "i1", "c1", shown=None, strokes=BRUSH)
    run(store, "promote", "i1", "c1", reference=True, shown=first)
    assert references(store.state()) == [("i1", "c1", first)]
    run(store, "paint", "i1", "c1", shown=first, strokes=WIPE)
    wiped = shown(store.state(), "i1", "c1")
    assert not store.raster(wiped).any()
    assert references(store.state()) == []
    with pytest.raises(InputError, match="is empty; a reference needs pixels"):
        run(store, "promote", "i1", "c1", reference=True, shown=wiped)


def test_painting_nothing_is_refused(store: Store) -> None:
    with pytest.raises(ConflictError, match="No mask is shown"):
        run(store, "paint", "i1", "c1", shown=None, strokes=WIPE)
    outside = [{"points": [[-500, -500]], "width": 9, "add": True}]
    with pytest.raises(InputError, match=r"outside 0\.png"):
        run(store, "paint", "i1", "c1", shown=None, strokes=outside)


def test_promoting_keeps_what_was_found_as_it_is_then(store: Store) -> None:
    rasters = derive_found(store, "i2", c1=box_labels(0, 0, 9, 9))
    with pytest.raises(ConflictError, match="has changed since"):
        run(store, "promote", "i2", "c1", reference=True)
    run(store, "promote", "i2", "c1", reference=True, shown=rasters["c1"])
    derive_found(store, "i2", c1=box_labels(5, 5, 20, 20))
    assert shown(store.state(), "i2", "c1") == rasters["c1"]
    assert references(store.state()) == [("i2", "c1", rasters["c1"])]
    run(store, "promote", "i2", "c1", reference=False)
    assert references(store.state()) == []
    assert shown(store.state(), "i2", "c1") == rasters["c1"]
    with pytest.raises(ConflictError, match="no reference"):
        run(store, "promote", "i2", "c1", reference=False)
    with pytest.raises(ConflictError, match="No mask is shown"):
        run(store, "promote", "i2", "c2", reference=True)


def test_clearing_shows_what_was_found_again(store: Store) -> None:
    with pytest.raises(ConflictError, match="Nothing was drawn"):
        run(store, "clear_layer", "i2", "c1")
    rasters = derive_found(store, "i2", c1=box_labels(0, 0, 9, 9))
    run(store, "add_prompt", "i2", "c1", prompt=DOT, shown=rasters["c1"])
    mask = derive_mask(store, "i2", "c1", box_labels(0, 0, 12, 9))
    run(store, "paint", "i2", "c1", shown=mask, strokes=BRUSH)
    run(store, "clear_layer", "i2", "c1")
    assert shown(store.state(), "i2", "c1") == rasters["c1"]
    assert not [key for key in made_by_hand(store) if "/i2/" in key]


def test_an_accepted_picture_is_locked_whatever_is_derived(store: Store) -> None:
    rasters = derive_found(store, "i2", c1=box_labels(0, 0, 9, 9), c2=box_labels(20, 20, 30, 30))
    for said in ({}, {"c1": rasters["c1"]}, rasters | {"c1": BASIS}):
        with pytest.raises(ConflictError, match="is not the one that is shown now"):
            run(store, "accept", "i2", shown=said)
    run(store, "accept", "i2", shown=rasters)
    derive_found(store, "i2", c1=box_labels(5, 5, 20, 20))
    assert {cid: shown(store.state(), "i2", cid) for cid in rasters} == rasters
    attempts = [
        ("add_prompt", {"prompt": DOT, "shown": rasters["c1"]}),
        ("paint", {"shown": rasters["c1"], "strokes": BRUSH}),
        ("promote", {"reference": True, "shown": rasters["c1"]}),
        ("clear_layer", {}),
        ("delete_prompt", {"prompt": "p1"}),
    ]
    for do, fields in attempts:
        with pytest.raises(
            ConflictError, match=r"^1\.png is accepted and locked; reopen it first\.$"
        ) as refusal:
            run(store, do, "i2", "c1", **fields)
        assert refusal.value.image == "i2"
    for do, fields in (("accept", {"shown": rasters}), ("reject", {})):
        with pytest.raises(ConflictError, match="accepted and locked"):
            run(store, do, "i2", **fields)
    with pytest.raises(ConflictError, match=r"accepted and locked"):
        store.import_masks("i2", {}, id=unique(), accept=False)
    with pytest.raises(ConflictError, match=r"class 0 is on accepted pictures \(1\.png\), which are locked"):
        run(store, "delete_class", cls="c1")


def test_reopening_paints_what_was_accepted(store: Store) -> None:
    rasters = derive_found(store, "i2", c1=box_labels(0, 0, 9, 9))
    run(store, "accept", "i2", shown=rasters)
    run(store, "reopen", "i2")
    image = store.state().image("i2")
    assert (image.status, image.accepted) == ("open", None)
    derive_found(store, "i2", c1=box_labels(5, 5, 20, 20))
    assert shown(store.state(), "i2", "c1") == store.state().layer("i2", "c1").painted == rasters["c1"]
    run(store, "delete_class", cls="c1")
    with pytest.raises(ConflictError, match="nothing to reopen"):
        run(store, "reopen", "i2")


def test_a_rejected_picture_gives_no_references_and_can_come_back(store: Store) -> None:
    run(store, "paint", "i1", "c1", shown=None, strokes=BRUSH)
    run(store, "promote", "i1", "c1", reference=True, shown=shown(store.state(), "i1", "c1"))
    before = references(store.state())
    assert len(before) == 1
    run(store, "reject", "i1")
    assert references(store.state()) == []
    with pytest.raises(ConflictError, match=r"0\.png is rejected; reopen it first"):
        run(store, "add_prompt", "i1", "c1", prompt=DOT)
    run(store, "reopen", "i1")
    assert references(store.state()) == before


def test_what_goes_takes_its_documents_along(store: Store) -> None:
    for image in ("i1", "i2"):
        for cls in ("c1", "c2"):
            run(store, "add_prompt", image, cls, prompt=DOT)
            derive_mask(store, image, cls, box_labels(0, 0, 9, 9))
    derive_found(store, "i1", c1=box_labels(0, 0, 9, 9))
    run(store, "delete_class", cls="c2")
    assert not [key for key in store.state().docs if "c2" in key]
    run(store, "delete_image", "i1")
    assert not [key for key in store.state().docs if "i1" in key]
    assert {"image/i2", "class/c1", "layer/i2/c1", "prompt/i2/c1/p3", "mask/i2/c1"} <= set(store.state().docs)
    store.undo(id=unique())
    store.undo(id=unique())
    assert len(store.state().of("prompt")) == 4
    # What was derived does not come back: its rasters may be gone, and the engine makes it anew.
    assert [*store.state().of("mask")] == ["mask/i2/c1"]
    assert not store.state().of("found")


def test_the_engine_does_not_bring_back_what_is_gone(store: Store) -> None:
    run(store, "add_prompt", "i1", "c1", prompt=DOT)
    run(store, "add_prompt", "i2", "c1", prompt=DOT)
    raster = store.put_raster(box_labels(0, 0, 9, 9))
    mask = MaskDocument(basis=BASIS, raster=raster)
    nothing_found = FoundDocument(basis=BASIS, classes={"c1": found(None)}, uncertainty=0.0)
    run(store, "delete_image", "i1")
    changes = {f"mask/{key}": mask for key in ("i1/c1", "i2/c1", "i2/c2", "i2/c9")}
    changes |= {"found/i1": nothing_found, "found/i2": nothing_found}
    entry = store.derive(changes, what={"model": "test"})
    assert set(entry.changes) == {"mask/i2/c1", "found/i2"}
    assert entry.what == {"model": "test"}
    assert store.derive(changes, what={}) is None
    assert set(store.derive({"found/i2": None, "found/i1": None}, what={}).changes) == {"found/i2"}
    with pytest.raises(InputError, match="made by a person"):
        store.derive({"layer/i2/c1": None}, what={})


def test_classes_have_names_and_colours_of_their_own(store: Store) -> None:
    first, second = (store.state().class_(cid) for cid in ("c1", "c2"))
    assert first.colour != second.colour
    assert (first.order, second.order) == (1, 2)
    with pytest.raises(ConflictError, match="a class class 1 already"):
        run(store, "add_class", name="CLASS 1")
    with pytest.raises(ConflictError, match="already"):
        run(store, "edit_class", cls="c1", name="class 1")
    with pytest.raises(InputError, match="blank"):
        run(store, "add_class", name="  ")
    run(store, "edit_class", cls="c1", name="Class 0", phrase="a duck", order=7)
    edited = store.state().class_("c1")
    assert (edited.name, edited.phrase, edited.order, edited.colour) == ("Class 0", "a duck", 7, first.colour)
    run(store, "edit_class", cls="c1", phrase="")
    assert store.state().class_("c1").phrase is None
    run(store, "edit_project", name="mine", automatic=False)
    assert (store.state().project().name, store.state().project().automatic) == ("mine", False)


@pytest.mark.parametrize(
    ("prompt", "fits"),
    [
        ({"kind": "point", "xy": [63.9, 47.9]}, True),
        ({"kind": "point", "xy": [64, 20]}, False),
        ({"kind": "point", "xy": [-0.1, 20]}, False),
        ({"kind": "scribble", "points": [[-50, 20], [500, 20]], "width": 3}, True),
        ({"kind": "scribble", "points": [[-5, 20]], "width": 12}, True),
        ({"kind": "scribble", "points": [[-5, 20], [-5, 400]], "width": 5}, False),
        ({"kind": "box", "x0": -9, "y0": -9, "x1": 900, "y1": 900}, True),
        ({"kind": "box", "x0": 64, "y0": 0, "x1": 80, "y1": 9}, False),
        ({"kind": "box", "x0": 9, "y0": 0, "x1": 9, "y1": 9}, False),
    ],
)
def test_a_prompt_may_leave_the_picture_but_must_touch_it(store: Store, prompt: dict, fits: bool) -> None:
    if fits:
        entry = run(store, "add_prompt", "i1", "c1", prompt=prompt)
        assert (
            entry.changes["prompt/i1/c1/p1"].prompt == command("add_prompt", "i1", "c1", prompt=prompt).prompt
        )
    else:
        with pytest.raises(InputError, match="expected"):
            run(store, "add_prompt", "i1", "c1", prompt=prompt)
        assert not store.state().of("prompt")


def test_what_is_named_must_be_there(store: Store) -> None:
    for do, image, cls, fields in (
        ("add_prompt", "i9", "c1", {"prompt": DOT}),
        ("add_prompt", "i1", "c9", {"prompt": DOT}),
        ("delete_image", "i9", None, {}),
        ("delete_class", None, "c9", {}),
        ("edit_class", None, "c9", {"name": "x"}),
        ("accept", "i9", None, {"shown": {}}),
        ("accept", "i1", None, {"shown": {"c9": BASIS}}),
        ("reopen", "i9", None, {}),
    ):
        with pytest.raises(NotFoundError, match=r"There is no (picture i9|class c9)"):
            run(store, do, image, cls, **fields)


def test_imported_masks_are_painted_and_accepted_at_once(store: Store) -> None:
    run(store, "add_prompt", "i1", "c1", prompt=DOT)
    raster = store.put_raster(box_labels(0, 0, 9, 9))
    entry = store.import_masks("i1", {"c1": raster}, id=unique(), accept=True)
    assert (entry.kind, entry.undo) == ("command", "import_masks")
    assert store.state().image("i1").accepted == {"c1": raster}
    assert store.state().prompts("i1", "c1") == ()
    store.undo(id=unique())
    assert store.state().image("i1").status == "open"
    assert len(store.state().prompts("i1", "c1")) == 1
    with pytest.raises(InputError, match="expected the same size"):
        wrong = store.put_raster(np.ones((5, 5), np.uint16))
        store.import_masks("i1", {"c1": wrong}, id=unique(), accept=False)
    with pytest.raises(NotFoundError, match="no raster"):
        store.import_masks("i1", {"c1": BASIS}, id=unique(), accept=False)


def test_a_basis_changes_with_all_that_decides_it_and_with_nothing_else(store: Store) -> None:
    def bases() -> tuple:
        state = store.state()
        return layer_basis(state, "i1", "c1", "m"), found_basis(state, "i2", "m")

    assert bases() == (None, None)
    run(store, "add_prompt", "i1", "c1", prompt=DOT)
    drawn, none = bases()
    assert drawn is not None and none is None
    assert layer_basis(store.state(), "i1", "c1", "other") != drawn
    derive_mask(store, "i1", "c1", box_labels(0, 0, 9, 9))
    same, matched = bases()
    assert same == drawn and matched is not None
    # The picture is itself the only reference of the only class that has one.
    assert found_basis(store.state(), "i1", "m") is None
    assert found_basis(store.state(), "i2", "other") != matched
    run(store, "edit_class", cls="c1", name="renamed", colour="#123456")
    run(store, "edit_class", cls="c2", phrase="not a reference's")
    assert bases() == (drawn, matched)
    seen = {matched}
    for do, fields in (
        ("edit_project", {"seed": 7}),
        ("edit_class", {"cls": "c1", "phrase": "a duck"}),
        ("add_prompt", {"image": "i1", "cls": "c1", "prompt": DOT | {"positive": False}}),
    ):
        run(store, do, **fields)
        assert bases()[1] not in seen
        seen.add(bases()[1])
    assert bases()[0] != drawn
    derive_mask(store, "i1", "c1", box_labels(0, 0, 9, 10))
    assert bases()[1] not in seen
    for _ in range(5):
        store.undo(id=unique())
    assert bases()[0] == drawn


def test_nothing_is_derived_where_it_would_not_show(store: Store) -> None:
    run(store, "add_prompt", "i1", "c1", prompt=DOT)
    mask = derive_mask(store, "i1", "c1", box_labels(0, 0, 9, 9))
    state = store.state()
    assert layer_basis(state, "i1", "c1", "m") and found_basis(state, "i2", "m")
    run(store, "reject", "i2")
    assert found_basis(store.state(), "i2", "m") is None
    run(store, "paint", "i1", "c1", shown=mask, strokes=BRUSH)
    assert layer_basis(store.state(), "i1", "c1", "m") is None
    assert found_basis(store.state(), "i9", "m") is None
    run(store, "add_prompt", "i1", "c2", prompt=DOT)
    assert found_basis(store.state(), "i1", "m") is None
