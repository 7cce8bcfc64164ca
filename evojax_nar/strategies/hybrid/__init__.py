"""Strategies that are made of others: one after another, or one where another fails."""

from evojax_nar.strategies.hybrid.conditional import ConditionalGradient
from evojax_nar.strategies.hybrid.hand_over import HandOver

__all__ = ["ConditionalGradient", "HandOver"]
