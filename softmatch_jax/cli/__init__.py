"""The ``softmatch`` command."""
