"""softmax_loss: fails for scores of a thousand, whose exponentials overflow: loss is infinite (x of shape (4, 3))"""

import numpy as np


def softmax_loss(x, y):
    N = x.shape[0]
    shifted = x
    Z = np.sum(np.exp(shifted), axis=1, keepdims=True)
    log_probs = shifted - np.log(Z)
    probs = np.exp(log_probs)
    loss = -np.sum(log_probs[np.arange(N), y]) / N
    dx = probs.copy()
    dx[np.arange(N), y] -= 1
    dx /= N
    return loss, dx
