"""The module names of Stanford's course CS231n over normcore, so that its notebooks run on it.

The functions stand in `normcore.cs231n.layers`, ``layer_utils``, ``optim``, ``solver``, ``gradient_check``,
``data_utils``, ``vis_utils`` and ``classifiers.fc_net``. Notebooks import them from a package named ``cs231n``:
`install` makes one in a running notebook, `init` (and ``normcore cs231n init DIR``) writes one into a folder.
"""

from __future__ import annotations

from normcore.cs231n.package import EDITIONS, init, install

__all__ = ["EDITIONS", "init", "install"]
