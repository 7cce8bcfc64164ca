"""Machines that apply one block again and again, until an example is done."""

from evojax_nar.models.looped.looped_transformer import LoopedTransformer
from evojax_nar.models.looped.neural_gpu import NeuralGPU
from evojax_nar.models.looped.universal_transformer import SteppedTransformer, UniversalTransformer

__all__ = ["LoopedTransformer", "NeuralGPU", "SteppedTransformer", "UniversalTransformer"]
