"""Phrases for classes, and what is said while models are loaded."""

import io
import warnings

import pytest

from softmatch_jax import Softmatcher
from softmatch_jax._checks import InputError
from softmatch_jax.cli.backend import load_matcher, parse_texts
from softmatch_jax.cli.config import SegmentConfig
from softmatch_jax.cli.plain_warnings import plain_warnings


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    "texts, classes, phrases",
    [
        ([], ["duck"], {}),
        (["a duck"], ["duck"], {"duck": "a duck"}),
        (["duck= a=b "], ["duck"], {"duck": "a=b"}),
        (["cat=a cat", "duck=a duck"], ["duck", "cat"], {"duck": "a duck", "cat": "a cat"}),
        (["a=b=c"], ["a", "a=b"], {"a=b": "c"}),
    ],
)
def test_phrases_of_classes(texts, classes, phrases):
    assert parse_texts(texts, classes) == phrases


@pytest.mark.parametrize(
    "texts, classes, sentence",
    [
        (["a duck"], ["duck", "cat"], "--text 'a duck' names no class .* NAME of 'duck', 'cat'"),
        (["dog=a dog"], ["duck"], "--text 'dog=a dog' names no class .* NAME of 'duck'"),
        (["Duck=a duck"], ["duck"], "names no class"),
        (["duck= "], ["duck"], "is empty; expected a phrase"),
        ([""], ["duck"], "is empty; expected a phrase"),
        (["duck=a", "b"], ["duck"], "given twice for the class 'duck'"),
    ],
)
def test_texts_that_cannot_be_used(texts, classes, sentence):
    with pytest.raises(InputError, match=sentence):
        parse_texts(texts, classes)


@pytest.mark.parametrize(
    "stream, changes, said",
    [
        (Terminal(), {}, "Loading facebook/dinov2-base, facebook/sam-vit-base ...\n"),
        (Terminal(), {"quiet": True}, ""),
        (io.StringIO(), {}, ""),
        (Terminal(), {"backend": "embedded"}, ""),
        (None, {}, ""),
    ],
)
def test_a_terminal_is_told_that_models_are_loaded(stream, changes, said, tmp_path, monkeypatch):
    config = SegmentConfig(targets=("t",), output=tmp_path, **{"backend": "foundation", **changes})
    monkeypatch.setattr(Softmatcher, "foundation", lambda models, settings: Softmatcher.embedded(settings))
    matcher = load_matcher(config, {}, stream)
    assert matcher.config.matching == config.matching
    assert (stream.getvalue() if stream else "") == said


def test_only_warnings_of_the_cache_are_plain():
    stream = io.StringIO()
    with warnings.catch_warnings(record=True) as others:
        warnings.simplefilter("always")
        with plain_warnings(stream):
            warnings.warn("Features cannot be stored in x (full).", RuntimeWarning, stacklevel=1)
            warnings.warn("of somebody else", UserWarning, stacklevel=1)
    assert stream.getvalue() == "softmatch: warning: Features cannot be stored in x (full).\n"
    assert [str(one.message) for one in others] == ["of somebody else"]
