"""Progress is a bar in a terminal, lines elsewhere, or nothing."""

import io

from softmatch_jax.cli.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(stream, *, quiet=False):
    with progress(2, quiet=quiet, stream=stream) as step:
        step("a.png: [duck] x1")
        step("b.png")
    return stream.getvalue()


def test_lines():
    assert shown(io.StringIO()) == "[1/2] a.png: [duck] x1\n[2/2] b.png\n"


def test_quiet():
    assert shown(Terminal(), quiet=True) == ""


def test_bar(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    text = shown(Terminal())
    assert "2/2" in text and "b.png" in text
