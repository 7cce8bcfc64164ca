"""A model of your own: any flax module, wrapped, and trained by evolution and by a gradient.

The module below remembers by multiplication. Each step gives a factor from -1 to 1, and the memory
is the product of all factors so far: a flip of the sign is all that parity needs. Nothing in it
knows how it will be trained. Run with `python examples/own_model.py`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

import evojax_nar as nar


class ProductMemory(nn.Module):
    """Values (B, T, F) to outputs (B, T, outputs), by a running product of factors.

    `nar.models.wrap` asks for no more than this signature. A module that must know which steps
    exist takes a second argument named `mask`, (B, T) bool. Parameters are trained, and nothing
    else: use LayerNorm where you would use BatchNorm.
    """

    hidden: int
    outputs: int

    @nn.compact
    def __call__(self, values: jax.Array) -> jax.Array:
        # Clipping makes factors of exactly -1 and 1 easy to reach, so that a product of a thousand
        # of them does not fade.
        factors = jnp.clip(nn.Dense(self.hidden)(values), -1.0, 1.0)
        memory = jnp.cumprod(factors, axis=1)
        return nn.Dense(self.outputs)(memory)


def main(arguments: Sequence[str] | None = None) -> nar.Results:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smaller budget, shorter strings")
    parser.add_argument("--out", help="results folder; without it a fresh one under results/")
    options = parser.parse_args(arguments)

    far = 100 if options.quick else 1000
    task = nar.tasks.Parity(train_sizes=range(1, 11), test_sizes=(10, far))
    # A module must give as many outputs as the task asks for: `task.spec` says how many.
    model = nar.models.wrap(ProductMemory(hidden=8, outputs=task.spec.output_features))
    arms = {
        "es": nar.Arm(
            nar.strategies.ES(population=128, sigma=0.2, optimizer=optax.adam(0.1)), batch=32
        ),
        "adam": nar.Arm(nar.strategies.Gradient(optax.adam(0.02)), batch=32),
    }
    results = nar.compare(
        task,
        model,
        arms,
        seeds=3,
        budget=nar.Budget(forwards=1e5 if options.quick else 2e6),
        out=options.out,
        progress=False,
    )
    results.table()
    return results


if __name__ == "__main__":
    main()
