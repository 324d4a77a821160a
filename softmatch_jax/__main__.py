"""``python -m softmatch_jax`` is the ``softmatch`` command."""

from softmatch_jax.cli.main import main

raise SystemExit(main())
