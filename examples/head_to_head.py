# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# [![Open In Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/evojax-nar/evojax-nar/blob/main/examples/head_to_head.ipynb)
#
# # Evolution against a gradient, head to head
#
# The same model learns the same algorithm twice: once by evolution, which only compares, and once
# by back-propagation. Both may spend the same counted cost, both start from the same parameters,
# and both are judged at sizes that they never saw.
#
# The whole notebook takes a few minutes on a CPU. No GPU is needed.

# %%
try:
    import evojax_nar as nar
except ImportError:
    # %pip install -q evojax-nar
    import evojax_nar as nar

# %%
# %matplotlib inline
import os

import jax
from IPython.display import display

# A tiny budget, with which the notebook is tested. Nothing is learned in it.
QUICK = bool(os.environ.get("EVOJAX_NAR_QUICK"))

# %% [markdown]
# ## The task
#
# Parity: read a string of bits, and say at its last bit whether the number of ones was odd. One
# wrong step anywhere makes the answer wrong, so a model either has the algorithm or it guesses, and
# guessing gives a score of 50 %. We train on strings of 1 to 10 bits and judge on strings of up to
# 200.

# %%
task = nar.tasks.Parity(
    train_sizes=range(1, 11), test_sizes=(10, 20) if QUICK else (10, 20, 50, 100, 200)
)
batch = task.sample(jax.random.key(0), 6, max_size=6, batch=3)
for bits, answer in zip(batch.inputs.values[..., 1], batch.targets[:, -1], strict=True):
    print("".join(str(int(bit)) for bit in bits), "->", "odd" if answer else "even")

# %% [markdown]
# ## The model
#
# An LSTM, as anyone would write it. It does not know how it will be trained. For a flax module of
# your own write `nar.models.wrap(module)`.

# %%
model = nar.models.LSTM(hidden=4 if QUICK else 16)

# %% [markdown]
# ## The arms
#
# An *arm* is one side of the comparison: a strategy, and the number of examples that each of its
# steps sees.
#
# - `es` moves a centre along a gradient that it estimates from 256 noisy copies of it (the
#   *members*). It never differentiates anything.
# - `snes` keeps a mean and a standard deviation for each parameter. It comes from the library
#   evosax.
# - `adam` back-propagates through time.
#
# Everything is always a **loss: lower is better**. The *score* is the other way round.

# %%
arms = {
    "es": nar.Arm(
        nar.strategies.ES(
            population=256,
            sigma=0.25,
            optimizer=nar.strategies.optimizer("adam", learning_rate=0.06),
        ),
        batch=32,
    ),
    "snes": nar.Arm(
        nar.strategies.Evosax("SNES", population=256, std=0.33, numbers={"lr_std_init": 0.22}),
        batch=32,
    ),
    "adam": nar.Arm(
        nar.strategies.Gradient(nar.strategies.optimizer("adam", learning_rate=0.01)), batch=64
    ),
}

# %% [markdown]
# ## The comparison
#
# Cost is counted in *forward-equivalents*: one example through one member costs 1, and a gradient
# step costs 3 an example, since a backward pass is about two forward passes. Each seed of each arm
# may spend the same number of them. A step of `es` costs 256 x 32 = 8192, a step of `adam`
# 3 x 64 = 192, so `adam` takes 43 times as many steps.
#
# Between steps each arm is judged on the *training* sizes, and what was best there is deployed. The
# test sizes decide nothing.

# %%
seeds = 1 if QUICK else 3
budget = nar.Budget(forwards=5e4 if QUICK else 2e6)
results = nar.compare(task, model, arms, seeds=seeds, budget=budget)
results.table()

# %% [markdown]
# All files of the comparison lie in one folder: the config, the results as JSON, the metrics of
# each seed, what each deployed, and `report.html`, a page with everything on it.

# %%
curves, generalisation = results.plot()
print("Written to", results.folder)
display(curves)

# %% [markdown]
# ## Does it generalise?
#
# The next figure is the one to look at. Within the shaded sizes all arms may look alike. Beyond
# them they need not: a network can have learned something that is nearly a flip-flop and leaks a
# little at each step, and then the score sinks towards 50 % as strings grow. A loss on training
# sizes hardly shows it.

# %%
display(generalisation)

# %% [markdown]
# How to read it:
#
# - A point is the *interquartile mean* over the seeds. With three seeds that is their plain mean.
# - The bar is a 95 % bootstrap interval. With three seeds it shows how far the seeds lie apart and
#   hardly more. One without width says that they agree, not that a fourth would.
# - The table counts the seeds that solved the task, which means a score of 100 % at *every* test
#   size. Look at that column before the means: one seed that fails says more than a mean of 99 %.
# - `results.data["comparisons"]` has, for each two arms, how likely a run of the first is to score
#   above one of the second.
#
# What it does not say: that one strategy is better in general. These settings, this model, this
# task, this budget. The settings here were found with a few tries, and not with equal effort for
# each arm. To claim more, do that, and take more seeds.

# %%
for pair in results.data["comparisons"]:
    print(
        f"{pair['first']} above {pair['second']}: {pair['probability_of_improvement']:.2f} "
        f"[{pair['low']:.2f}, {pair['high']:.2f}]"
    )

# %% [markdown]
# ## Your turn
#
# How much does the noise matter? Change the arm below and run the cell again. A
# `GeneticAlgorithm`, a `RandomSearch`, and every strategy that `Evosax` knows can take its place,
# and `help(nar.strategies.ES)` says what else `ES` can be told.

# %%
yours = nar.Arm(
    nar.strategies.ES(
        population=256,
        sigma=0.05,
        optimizer=nar.strategies.optimizer("adam", learning_rate=0.06),
    ),
    batch=32,
)
nar.compare(task, model, {"yours": yours}, seeds=seeds, budget=budget).table()

# %% [markdown]
# ## One run, interrupted and resumed
#
# `nar.train` is a comparison of one arm and one seed. Its state is saved as it goes, so that a run
# that was stopped, by you or by a machine that went away, continues where it was. To show it, the
# run is stopped on purpose: a logger sees every record, and this one gives up at the third.


# %%
class Interruption:
    def log(self, arm, record):
        if record["epoch"] == 3:
            raise KeyboardInterrupt

    def close(self):
        pass


one = {"seed": 7, "budget": budget, "out": results.folder / "one", "checkpoint_seconds": 0.0}
try:
    nar.train(task, model, arms["es"], **one, loggers=[Interruption()])
except KeyboardInterrupt:
    print("interrupted")

run = nar.train(task, model, arms["es"], **one, resume=True)
epochs = [point["epoch"] for point in run.entry["curve"]]
print("epochs", epochs[0], "to", epochs[-1], "each once:", epochs == sorted(set(epochs)))
print("spent", run.cost["forward_equivalents"], "forward-equivalents")

# %% [markdown]
# What it deployed are plain arrays, and the task can make a batch of bits of your own.

# %%
batch = task.encode_windows([[1, 0, 1, 1, 0, 0, 1, 0, 1, 1, 1, 0, 1]])
outputs = model.apply(run.params, batch.inputs, spec=task.spec)
print("says", task.answers(outputs, batch)[0, -1], "and should say", task.truths(batch)[0, -1])

# %% [markdown]
# ## Further
#
# A [model of your own](https://github.com/evojax-nar/evojax-nar/blob/main/examples/own_model.py), a
# [task of your own](https://github.com/evojax-nar/evojax-nar/blob/main/examples/own_task.py), a
# [strategy without either](https://github.com/evojax-nar/evojax-nar/blob/main/examples/bare_strategy.py),
# and [what all the words mean](https://github.com/evojax-nar/evojax-nar/blob/main/docs/concepts.md).
