"""Many images as one, under the names of ``cs231n.vis_utils``; ``plt.imshow`` shows them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from normcore.cs231n._arrays import Array

__all__ = ["vis_grid", "vis_nn", "visualize_grid"]


def visualize_grid(Xs: ArrayLike, ubound: float = 255.0, padding: int = 1) -> Array:
    """Images in a square grid on black, each scaled to [0, `ubound`] by its own least and greatest number.

    Parameters
    ----------
    Xs : array (N, H, W, C)
    padding : int
        Black pixels between images.

    Returns
    -------
    grid : array (h, w, C)

    Examples
    --------
    >>> from normcore.cs231n.vis_utils import visualize_grid
    >>> visualize_grid(np.random.rand(10, 3, 3, 1)).shape  # 4 x 4 images of 3 pixels, with 3 between them
    (15, 15, 1)
    """
    images = _images("visualize_grid", Xs)
    low, high = (reduce(images, axis=(1, 2, 3), keepdims=True) for reduce in (np.min, np.max))
    spread = np.where(high > low, high - low, 1)
    return _grid(ubound * (images - low) / spread, padding, 0.0)


def vis_grid(Xs: ArrayLike) -> Array:
    """Images (N, H, W, C) in a square grid, all scaled to [0, 1] by their common least and greatest number.

    Examples
    --------
    >>> from normcore.cs231n.vis_utils import vis_grid
    >>> vis_grid(np.arange(4.0).reshape(4, 1, 1, 1))[:, :, 0].round(2)
    array([[0.  , 1.  , 0.33],
           [1.  , 1.  , 1.  ],
           [0.67, 1.  , 1.  ]])
    """
    images = _images("vis_grid", Xs)
    return _scaled(_grid(images, 1, images.max()))


def vis_nn(rows: Sequence[ArrayLike]) -> Array:
    """Images in rows that are given, scaled as in `vis_grid`: `rows` (R, K, H, W, C).

    Examples
    --------
    >>> from normcore.cs231n.vis_utils import vis_nn
    >>> vis_nn(np.random.rand(2, 5, 3, 3, 1)).shape
    (7, 19, 1)
    """
    array = np.asarray(rows, dtype=np.float64)
    if array.ndim != 5 or 0 in array.shape:
        raise ValueError(f"vis_nn: rows is {array.shape}; it must be (R, K, H, W, C), none of them 0")
    return _scaled(_laid_out(array, 1, array.max()))


def _images(operation: str, Xs: ArrayLike) -> Array:
    images = np.asarray(Xs, dtype=np.float64)
    if images.ndim != 4 or 0 in images.shape:
        raise ValueError(f"{operation}: Xs is {images.shape}; it must be (N, H, W, C), none of them 0")
    return images


def _grid(images: Array, padding: int, background: Any) -> Array:
    side = math.isqrt(len(images) - 1) + 1
    full = np.full((side * side, *images.shape[1:]), background, dtype=np.float64)
    full[: len(images)] = images
    return _laid_out(full.reshape(side, side, *images.shape[1:]), padding, background)


def _laid_out(rows: Array, padding: int, background: Any) -> Array:
    """Images (R, K, H, W, C) beside and below each other, with `padding` pixels of `background` between them."""
    padded = np.pad(rows, ((0, 0), (0, 0), (0, padding), (0, padding), (0, 0)), constant_values=background)
    r, k, height, width, channels = padded.shape
    grid = padded.transpose(0, 2, 1, 3, 4).reshape(r * height, k * width, channels)
    return grid[: r * height - padding, : k * width - padding]


def _scaled(grid: Array) -> Array:
    low, high = grid.min(), grid.max()
    return np.asarray((grid - low) / (high - low if high > low else 1))
