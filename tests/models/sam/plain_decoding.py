"""The plain mask decoder on several prompts, for comparison."""

import jax


def decode_batch(decoder, image, image_pe, sparse, valid=None):
    """Decodes ``P`` prompts, padded to one length, on one image."""
    if valid is None:
        return jax.vmap(lambda tokens: decoder(image, image_pe, tokens))(sparse)
    return jax.vmap(lambda tokens, ok: decoder(image, image_pe, tokens, valid=ok))(sparse, valid)
