"""Optimisation: batches as pure functions of seed and step, one jitted step, checkpoints."""
