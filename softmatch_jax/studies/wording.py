"""Sentences that say what the numbers say, whichever way it fell."""

from __future__ import annotations

from collections.abc import Sequence

from softmatch_jax.studies.resampling import Estimate


def shown(estimate: Estimate, digits: int, *, unit: str = "", signed: bool = False) -> str:
    """A number with its interval, such as ``1.2 % [0.9, 1.5]``."""
    sign = "+" if signed else ""
    value = f"{estimate.value:{sign}.{digits}f}{unit}"
    if estimate.low != estimate.low:
        return f"{value} [no interval]"
    return f"{value} [{estimate.low:{sign}.{digits}f}, {estimate.high:{sign}.{digits}f}]"


def significant(estimate: Estimate, *, signed: bool = False) -> str:
    """The same with three digits of whatever size."""
    sign = "+" if signed else ""
    value = f"{estimate.value:{sign}.3g}"
    if estimate.low != estimate.low:
        return f"{value} [no interval]"
    return f"{value} [{estimate.low:{sign}.3g}, {estimate.high:{sign}.3g}]"


def percent(estimate: Estimate, *, signed: bool = False, digits: int = 1) -> str:
    """A share as per cent."""
    return shown(Estimate(*(100 * number for number in estimate)), digits, unit=" %", signed=signed)


def verdict(difference: Estimate, *, above: str, below: str, neither: str) -> str:
    """Which of three things a difference and its interval say."""
    return {1: above, -1: below, 0: neither}[difference.sign]


def sentence(parts: Sequence[str]) -> str:
    """Clauses as one sentence."""
    return "; ".join(parts) + "."
