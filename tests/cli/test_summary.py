"""The lines a person reads."""

from pathlib import Path

from softmatch_jax.cli.summary import outcome, summary

FOUND = {"name": "duck", "absent": False, "reason": None, "instances": [1, 2]}
ABSENT = {"name": "cat", "absent": True, "reason": "nothing like it", "instances": []}
OK = {"target": "a.png", "status": "ok", "classes": [FOUND, ABSENT]}
FAILED = {"target": "b.png", "status": "failed", "error": "b.png is empty (0 bytes); copy it again."}


def document(*targets, skipped=0):
    done = sum(entry["status"] == "ok" for entry in targets)
    return {
        "summary": {"done": done, "failed": len(targets) - done, "absent": 0},
        "targets": targets,
        "timings": {"skipped": skipped},
    }


def test_outcomes():
    assert outcome(OK, new=True) == "a.png: duck x2, cat absent"
    assert outcome(OK, new=False) == "a.png: kept from an earlier run"
    assert outcome(FAILED, new=True) == "failed: b.png is empty (0 bytes); copy it again."
    assert outcome({**FAILED, "error": "NaN; mend it."}, new=True) == "failed: b.png: NaN; mend it."


def test_summary():
    assert summary(document(OK, FAILED, skipped=1), Path("out")).splitlines() == [
        "2 targets: 1 segmented (1 of them by an earlier run), 1 failed.",
        "Look at out/contact_sheet.png first; results.json beside it has the numbers.",
        "absent: a.png: nothing like it",
        "failed: b.png is empty (0 bytes); copy it again.",
    ]


def test_long_lists_are_cut():
    lines = summary(document(*[FAILED] * 50), Path("out")).splitlines()
    assert len(lines) == 22 and lines[-1] == "... and 30 more; see results.json."
