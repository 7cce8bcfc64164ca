"""What happens inside: how good an estimate is, how sharp a solution, how sure of itself a model.

`cosine` compares what a strategy estimates with the true gradient, `sharpness` looks at the loss
around a solution, and `calibration` at whether a model's confidence is its accuracy.
"""
