"""How large steps a network takes that learns from paint: by what it knows already, and which of its weights are new."""

from __future__ import annotations

from typing import Any

from torch import nn

from .transfer import Start

# Largest step size by what the network knows already: all of the classes, none or some of them, nothing at all.
_RATES = (1e-4, 5e-4, 2e-3)
# Rows of new classes start from nothing: the layer that holds them takes steps so many times as large.
_NEW_ROWS = 4.0


def suited_rate(start: Start) -> float:
    """Largest step size for a network that knows all, some or none of the classes."""
    if start.scratch:
        return _RATES[2]
    return _RATES[0] if set(start.spec.names) == start.shared else _RATES[1]


def parameter_groups(start: Start, *, new: bool) -> list[dict[str, Any]]:
    """Weights for an optimiser, each group with how large its steps are as a multiple of the usual ones (``faster``).

    Parameters
    ----------
    start : the network
    new : whether it learns classes that it did not know
    """
    faster = start.per_class if new else frozenset()
    groups: dict[float, list[nn.Parameter]] = {}
    for name, weights in start.network.named_parameters():
        groups.setdefault(_NEW_ROWS if name in faster else 1.0, []).append(weights)
    return [{"params": weights, "faster": factor} for factor, weights in groups.items()]
