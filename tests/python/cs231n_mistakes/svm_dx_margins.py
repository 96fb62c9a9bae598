"""svm_loss: dx has the margins themselves, not 1 where they are positive"""

import numpy as np


def svm_loss(x, y):
    N = x.shape[0]
    correct = x[np.arange(N), y]
    margins = np.maximum(0, x - correct[:, np.newaxis] + 1.0)
    margins[np.arange(N), y] = 0
    loss = np.sum(margins) / N
    num_pos = np.sum(margins, axis=1)
    dx = margins.copy()
    dx[np.arange(N), y] -= num_pos
    dx /= N
    return loss, dx
