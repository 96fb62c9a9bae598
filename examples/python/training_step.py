"""A training loop of your own. Its step is four words: forward, loss, backward, update."""

import numpy as np

import normcore as nc

rng = np.random.default_rng(0)
X = rng.uniform(-1, 1, size=(256, 2)).astype(np.float32)
y = X[:, :1] * X[:, 1:]  # what the network is to learn

model = nc.MLP([2, 32, 1], norm="batch", activation="tanh", seed=0)
first, second = (np.zeros_like(model.parameters_flat) for _ in range(2))  # Adam's moments

for step in range(1, 301):
    outputs = model.forward_training(X, stream=step * model.layers)
    loss, doutputs, _ = nc.squared_error(outputs, y)
    model.backward(doutputs)
    nc.optimizer_update(
        "adam", model.parameters_flat, model.gradients_flat, first, second, learning_rate=0.01, step=step
    )
    if step % 100 == 0:
        print(f"step {step}: loss {loss:.4f}")
