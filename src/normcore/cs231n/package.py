"""The package ``cs231n`` itself: thin modules under the course's names, in memory or in a folder."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import os
import secrets
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from normcore._checks import check_integer

__all__ = ["EDITIONS", "init", "install"]

EDITIONS = range(2017, 2027)

_NAME = "cs231n"
_WRITTEN_BY = "Written by `normcore cs231n init`"

# What stands in a module below its docstring. `network` is the module of normcore that has this edition's network.
_LAYERS = """\
from normcore.cs231n.layers import *  # noqa: F403
{more}
# A function that you define below takes the place of normcore's, in the networks too.
"""
_LAYERS_2017 = "from normcore.cs231n.edition_2017 import batchnorm_forward_alt, dropout_forward  # noqa: F401\n"
_LAYER_UTILS = """\
from normcore.cs231n.layer_utils import *  # noqa: F403

from .fast_layers import *  # noqa: F403
from .layers import *  # noqa: F403
"""
_NETWORKS = """\
from normcore.cs231n.{network} import FullyConnectedNet as _FullyConnectedNet
from normcore.cs231n.classifiers.fc_net import TwoLayerNet as _TwoLayerNet

from .. import layers
from ..layer_utils import *  # noqa: F403
from ..layers import *  # noqa: F403


class TwoLayerNet(_TwoLayerNet):
    __doc__ = _TwoLayerNet.__doc__
    layers = layers  # whose functions the network is made of


class FullyConnectedNet(_FullyConnectedNet):
    __doc__ = _FullyConnectedNet.__doc__
    layers = layers
"""
_SOLVER = """\
from normcore.cs231n.solver import Solver as _Solver

from . import optim


class Solver(_Solver):
    __doc__ = _Solver.__doc__
    optim = optim  # where update rules are looked up
"""
_PLAIN = "from normcore.cs231n.{module} import *  # noqa: F403\n"


def _sources(edition: int) -> dict[str, str]:
    """The text of every module of the package by its name in it; "" is the package itself."""
    network = "edition_2017" if edition < 2018 else "edition_2018" if edition < 2021 else "classifiers.fc_net"
    bodies = {
        "": f"EDITION = {edition}\n",
        "layers": _LAYERS.format(more=_LAYERS_2017 if edition < 2018 else ""),
        "layer_utils": _LAYER_UTILS,
        "solver": _SOLVER,
        "classifiers": "",
        "classifiers.fc_net": _NETWORKS.format(network=network),
    }
    for module in ("classifiers.cnn", "data_utils", "fast_layers", "gradient_check", "optim", "vis_utils"):
        bodies[module] = _PLAIN.format(module=module)
    return {
        module: f'"""{_full_name(module)} of edition {edition} over normcore. {_WRITTEN_BY}."""\n'
        + ("\n" + body if body else "")
        for module, body in bodies.items()
    }


def _full_name(module: str) -> str:
    return f"{_NAME}.{module}" if module else _NAME


def _is_package(module: str) -> bool:
    return module in ("", "classifiers")


def _checked(edition: int, operation: str) -> int:
    year = check_integer(edition, operation, "edition", 0)
    if year not in EDITIONS:
        raise ValueError(f"{operation}: edition is {year}; it must be a year from {EDITIONS[0]} to {EDITIONS[-1]}")
    return year


def init(folder: str | os.PathLike[str], *, edition: int = EDITIONS[-1]) -> Path:
    """Write the package ``cs231n`` into a folder, and return where it is.

    Each of its modules takes its functions from `normcore.cs231n`; a function that is defined below the import takes
    the place of normcore's, in the networks too. The folder is made if need be. The package is written as a whole or
    not at all.

    Parameters
    ----------
    folder : str or path
        The folder of the notebooks, which import the package from there.
    edition : int
        Year of the course, 2017 to 2026. Dropout's ``p`` is the probability to drop in 2017 and the one to keep later;
        the network takes ``dropout=`` and ``use_batchnorm=`` in 2017, ``dropout=`` and ``normalization=`` from 2018 to
        2020, ``dropout_keep_ratio=`` and ``normalization=`` from 2021 on.

    Raises
    ------
    FileExistsError
        `folder` has a ``cs231n`` already, which is left as it is.
    NotADirectoryError
        `folder` is a file.
    ValueError
        There is no such edition.

    Examples
    --------
    >>> from normcore.cs231n import init
    >>> package = init("assignment2", edition=2019)
    >>> sorted(path.name for path in package.iterdir())[:4]
    ['__init__.py', 'classifiers', 'data_utils.py', 'fast_layers.py']
    >>> init("assignment2")
    Traceback (most recent call last):
    FileExistsError: assignment2/cs231n: exists, and is left as it is; in a notebook normcore.cs231n.install() goes ...
    """
    year = _checked(edition, "init")
    parent = Path(folder)
    package = parent / _NAME
    if parent.exists() and not parent.is_dir():
        raise NotADirectoryError(f"{parent}: not a folder")
    if os.path.lexists(package):
        raise FileExistsError(
            f"{package}: exists, and is left as it is; in a notebook normcore.cs231n.install() goes before it"
        )
    parent.mkdir(parents=True, exist_ok=True)
    temporary = parent / f".{_NAME}-{secrets.token_hex(8)}.tmp"
    try:
        for module, source in _sources(year).items():
            place = temporary.joinpath(*module.split(".")) if module else temporary
            path = place / "__init__.py" if _is_package(module) else place.with_suffix(".py")
            path.parent.mkdir(exist_ok=True)
            path.write_text(source, encoding="utf-8")
        temporary.rename(package)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return package


def install(edition: int = EDITIONS[-1]) -> ModuleType:
    """Have ``import cs231n`` and its submodules, as notebooks write it, give normcore's functions; return the package.

    To be called in the first cell, before anything of ``cs231n`` is imported. A folder ``cs231n`` beside the notebook
    is passed over from then on. A second call may choose another edition, for what is imported after it.

    Parameters
    ----------
    edition : int
        Year of the course, 2017 to 2026; see `init`.

    Raises
    ------
    RuntimeError
        Another package ``cs231n`` has been imported already.
    ValueError
        There is no such edition.

    Examples
    --------
    >>> import normcore.cs231n
    >>> normcore.cs231n.install(edition=2019).EDITION
    2019
    >>> from cs231n.layers import relu_forward
    >>> relu_forward(np.array([[-1.0, 2.0]]))[0]
    array([[0., 2.]])
    """
    year = _checked(edition, "install")
    loaded = sys.modules.get(_NAME)
    if loaded is not None and not isinstance(getattr(loaded, "__loader__", None), _Loader):
        where = getattr(loaded, "__file__", None) or "somewhere else"
        raise RuntimeError(
            f"install: cs231n from {where} has been imported already; restart the notebook and call install first"
        )
    if loaded is not None and year == loaded.EDITION:
        return loaded
    for name in [name for name in sys.modules if name == _NAME or name.startswith(_NAME + ".")]:
        del sys.modules[name]
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Finder)]
    sys.meta_path.insert(0, _Finder(year))
    return importlib.import_module(_NAME)


class _Loader(importlib.abc.InspectLoader):
    """Runs the sources of the modules of one edition."""

    def __init__(self, edition: int) -> None:
        self._sources = {_full_name(module): source for module, source in _sources(edition).items()}

    def __contains__(self, name: str) -> bool:
        return name in self._sources

    def get_source(self, fullname: str) -> str:
        return self._sources[fullname]

    def is_package(self, fullname: str) -> bool:
        return _is_package(fullname.removeprefix(_NAME).removeprefix("."))


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the package of `install`, which has no files, before any folder that has its name."""

    def __init__(self, edition: int) -> None:
        self._loader = _Loader(edition)
        self._origin = f"normcore, edition {edition}"  # what repr(module) shows

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self._loader:
            return None
        return importlib.machinery.ModuleSpec(
            fullname, self._loader, origin=self._origin, is_package=self._loader.is_package(fullname)
        )
