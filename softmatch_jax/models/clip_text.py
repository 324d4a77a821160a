"""The half of CLIP that reads: phrases to embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from jaxtyping import Array, Float

from softmatch_jax._checks import InputError
from softmatch_jax.models.bridge import to_jax
from softmatch_jax.models.checkpoints import Checkpoint
from softmatch_jax.models.optional import require
from softmatch_jax.models.preprocessing import inference


@dataclass(frozen=True, eq=False, kw_only=True)
class PhraseEncoder:
    """Embeds phrases with a CLIP network. Threads may share one.

    Attributes:
        name: The checkpoint, as the user gave it.
        model: The frozen torch network.
        tokenizer: The checkpoint's own.
        device: The ``torch.device`` the network is on.
        templates: Sentences with one ``{}`` each, into which a phrase is put.
        batch_size: Sentences that pass through the network together.
        knobs: What the message says to change where the memory is full.
    """

    name: str
    model: Any = field(repr=False)
    tokenizer: Any = field(repr=False)
    device: Any
    templates: tuple[str, ...]
    batch_size: int
    knobs: str
    # Tokenizers keep how they pad as a state.
    _tokenizing: Lock = field(init=False, repr=False, default_factory=Lock)

    def __call__(self, texts: Sequence[str]) -> Float[Array, "n dim"]:
        """The mean of the unit embeddings of a phrase in all templates, unit norm.

        Raises:
            InputError: A phrase is too long for the model, or the GPU's memory is full.
        """
        sentences = [template.replace("{}", text) for text in texts for template in self.templates]
        torch, step = require("torch"), self.batch_size
        with inference(self.name, self.model.dtype, self.knobs):
            batches = (sentences[start : start + step] for start in range(0, len(sentences), step))
            units = torch.cat([self._sentence_embeddings(batch) for batch in batches])
            means = units.reshape(len(texts), len(self.templates), -1).mean(dim=1)
            return to_jax(torch.nn.functional.normalize(means, dim=-1))

    def _sentence_embeddings(self, sentences: list[str]) -> Any:
        """Where sentences lie, unit norm, torch ``float32 [b, dim]``."""
        torch = require("torch")
        with self._tokenizing:
            tokens = self.tokenizer(sentences, padding=True, return_tensors="pt", verbose=False)
        limit = int(self.model.config.text_config.max_position_embeddings)
        lengths = tokens["attention_mask"].sum(dim=1)
        longest = int(lengths.argmax())
        if lengths[longest] > limit:
            raise InputError(
                f"The phrase in {_shortened(sentences[longest])} makes {int(lengths[longest])} tokens; "
                f"expected at most {limit} with its template (shorten it)."
            )
        found = self.model.get_text_features(**tokens.to(self.device)).pooler_output
        return torch.nn.functional.normalize(found.float(), dim=-1)


def load_tokenizer(checkpoint: Checkpoint, vocabulary: int) -> Any:
    """The tokenizer of a checkpoint.

    Raises:
        InputError: Its files are missing or damaged, or it does not know ``vocabulary`` tokens.
    """
    files = "tokenizer.json, or vocab.json and merges.txt"
    try:
        tokenizer = require("transformers").CLIPTokenizer.from_pretrained(
            str(checkpoint.path), local_files_only=True
        )
    except Exception as error:  # a damaged file fails in as many ways as there are parsers
        raise InputError(
            f"The tokenizer of {checkpoint.name} cannot be read ({type(error).__name__}: {error}); expected "
            f"{files} beside the weights."
        ) from error
    # Without its files a tokenizer is made all the same, one that knows no words.
    if len(tokenizer) != vocabulary:
        raise InputError(
            f"The tokenizer of {checkpoint.name} knows {len(tokenizer)} tokens and the network {vocabulary}; "
            f"expected {files} beside the weights (download them again)."
        )
    return tokenizer


def check_texts(texts: Sequence[str]) -> None:
    """Raises ``InputError`` unless ``texts`` is one or more phrases with something in them."""
    if isinstance(texts, str) or not len(texts):
        raise InputError(f"texts is {texts!r}; expected a list of at least one phrase.")
    for index, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"texts[{index}] is {text!r}; expected a phrase such as 'red apple'.")


def _shortened(text: str) -> str:
    """``text`` in quotes, its middle left out when it is long."""
    return repr(text if len(text) <= 60 else f"{text[:40]} ... {text[-15:]}")
