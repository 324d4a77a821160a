"""From the words of ``softmatch serve`` to settings; the server itself is tested in tests/serve."""

from __future__ import annotations

import importlib
import io
import subprocess
import sys

import pytest

from softmatch_jax._checks import InputError
from softmatch_jax.cli import serve
from softmatch_jax.cli.main import main
from softmatch_jax.cli.serve import has_screen, parse_serve, run_serve, serve_settings
from softmatch_jax.pipelines import SoftmatcherConfig


def test_the_defaults_are_those_of_the_small_sam():
    options = parse_serve([])
    preset = SoftmatcherConfig.embedded("tiny")
    assert options.embedded_masks == "tiny" and options.decision == preset.decision
    assert parse_serve(["--embedded-masks", "grabcut"]).decision == SoftmatcherConfig.embedded().decision
    assert parse_serve(["--backend", "foundation"]).matching == SoftmatcherConfig.foundation().matching
    assert parse_serve(["--completion.rounds", "1"]).completion.rounds == 1  # which the small SAM listens to


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--ray-gpus", "1"], "--ray-gpus has no effect without Ray; expected --ray N"),
        (["--ray-address", "auto"], "--ray-address has no effect without Ray"),
        (["--ray", "0"], "--ray is 0; expected a number of replicas"),
        (["--project", ""], "--project is empty"),
        (["--project="], "--project is empty"),
        (["--size", "518"], "--size has no effect on the embedded models"),
        (["--embedded-masks", "grabcut", "--completion.rounds", "1"], "--completion.rounds has no effect"),
        (["--backend", "foundation", "--stride", "8"], "--stride has no effect on the foundation models"),
    ],
)
def test_options_without_effect_are_refused(words, said, capsys):
    with pytest.raises(InputError, match=said):
        parse_serve(words)
    assert main(["serve", *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--host", "0.0.0.0"], "lets other machines in; expected --token"),
        (["--host", "192.168.1.4", "--token", "short"], "others? could guess|other machines could guess"),
        (["--port", "70000"], "expected 0 to 65535"),
        (["--max-upload-mb", "0"], "expected more than 0"),
    ],
)
def test_settings_that_are_refused(words, said, monkeypatch):
    monkeypatch.delenv("SOFTMATCH_TOKEN", raising=False)
    with pytest.raises(InputError, match=said):
        serve_settings(parse_serve(words))


def test_settings_reach_the_server(tmp_path, monkeypatch):
    monkeypatch.setenv("SOFTMATCH_TOKEN", "a token of the environment")
    words = ["--project", str(tmp_path / "p"), "--port", "0", "--allow-host", "a.example", "--read-only"]
    made = serve_settings(parse_serve([*words, "--allow-host", "b.example", "--max-upload-mb", "7"]))
    assert (made.project, made.port, made.token) == (tmp_path / "p", 0, "a token of the environment")
    assert made.allow_hosts == ("a.example", "b.example") and made.read_only
    assert made.limits.upload_bytes == 7_000_000 and made.limits.pixels == 64_000_000
    given = serve_settings(parse_serve([*words, "--token", "a token of the words"]))
    assert given.token == "a token of the words"


@pytest.mark.parametrize("package", ["fastapi", "uvicorn", "prometheus_client"])
def test_what_is_missing_is_named_with_its_extra(package, monkeypatch, tmp_path):
    real = importlib.import_module

    def missing(name, package_of=None, **rest):
        if name == package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, package_of or rest.get("package"))

    monkeypatch.setattr(importlib, "import_module", missing)
    project = tmp_path / "project"
    with pytest.raises(InputError, match=rf"{package} is not installed, which the web app needs.*\[serve\]"):
        run_serve(["--project", str(project)], stdout=io.StringIO())
    assert not project.exists()


def test_a_bad_size_is_told_before_a_project_is_made(tmp_path):
    words = ["--project", str(tmp_path / "p"), "--backend", "foundation", "--size", "100"]
    with pytest.raises(InputError, match="--size is 100; expected a multiple of 14"):
        run_serve(words)
    assert not (tmp_path / "p").exists()


def test_a_browser_is_opened_where_there_is_a_screen(monkeypatch, tmp_path):
    opened, out = [], io.StringIO()
    served = []

    def serve_project(config, engine_maker, *, tell):
        served.append(config)
        tell("http://127.0.0.1:1/?token=t")
        return 0

    monkeypatch.setattr("softmatch_jax.serve.running.serve_project", serve_project)
    monkeypatch.setattr(serve.webbrowser, "open", opened.append)
    monkeypatch.setattr(serve, "has_screen", lambda: True)
    project = ["--project", str(tmp_path / "p")]
    assert run_serve(project, stdout=out) == 0
    assert opened == ["http://127.0.0.1:1/?token=t"] and served[0].project == tmp_path / "p"
    assert out.getvalue().splitlines()[0] == "Open http://127.0.0.1:1/?token=t"
    assert "Ctrl-C" in out.getvalue()
    quiet = io.StringIO()
    run_serve([*project, "--quiet", "--no-browser"], stdout=quiet)
    assert quiet.getvalue() == "Open http://127.0.0.1:1/?token=t\n" and len(opened) == 1


def test_a_text_browser_is_not_opened_in_the_terminal(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert not has_screen()
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    assert has_screen()


def test_help_waits_for_nothing_heavy():
    code = (
        "import sys; from softmatch_jax.cli.main import main; main(['serve', '--help'])\n"
        "heavy = {'jax', 'cv2', 'fastapi', 'uvicorn', 'pydantic', 'torch', 'flax'} & sys.modules.keys()\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--allow-host" in done.stdout
