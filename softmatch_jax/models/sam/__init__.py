"""Segment Anything: prompt encoder and mask decoder in Flax, image encoder in torch.

Nothing is imported here, so that the package stays importable without flax and torch; take what you
need from ``convert`` (``load_sam``), ``mask_decoder``, ``prompt_encoder`` and ``image_encoder_torch``.
"""
