"""Where the installed C library lies, and the `normcore-config` command."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from . import _core

if TYPE_CHECKING:
    from pathlib import Path


def _installed(*parts: str) -> Path:
    """Path of an installed file. File by file, because an editable install keeps the package in several folders."""
    from importlib.resources import files
    from pathlib import Path

    path = Path(str(files("normcore").joinpath(*parts)))
    if not path.is_file():
        raise FileNotFoundError(f"normcore: {path} does not exist; the C library comes with an installed normcore only")
    return path


def get_include() -> str:
    """Folder of `normcore.h`, for `-I`.

    Raises
    ------
    FileNotFoundError
        If the package runs from a source tree without having been installed.

    Examples
    --------
    >>> import os
    >>> "normcore.h" in os.listdir(nc.get_include())
    True
    """
    return str(_installed("include", "normcore.h").parent)


def get_library_dir() -> str:
    """Folder of the static library `libnormcore.a`, for `-L`.

    Raises
    ------
    FileNotFoundError
        If the package runs from a source tree without having been installed.

    Examples
    --------
    >>> import os
    >>> "libnormcore.a" in os.listdir(nc.get_library_dir())
    True
    """
    return str(_installed("lib", "libnormcore.a").parent)


def show_config() -> None:
    """Print versions, CPU features, instruction sets, threads and folders: what a bug report should hold.

    Examples
    --------
    >>> nc.show_config()
    normcore         ...
    python           ..., numpy ...
    ...
    """
    import platform

    import numpy as np

    def folder(find: Callable[[], str]) -> str:
        try:
            return find()
        except FileNotFoundError:
            return "not installed"

    try:
        isa = _core.get_isa()
    except ValueError as error:
        isa = str(error)
    rows = {
        "normcore": f"{_core.__version__}, numeric contract {_core.CONTRACT}",
        "python": f"{platform.python_version()}, numpy {np.__version__}, {platform.platform()}",
        "cpu features": _core.cpu_features() or "none that matter here",
        "instruction set": f"{isa} (available: {', '.join(_core.available_isas())})",
        "threads": str(_core.get_num_threads()),
        "include": folder(get_include),
        "library": folder(get_library_dir),
    }
    for name, value in rows.items():
        print(f"{name:16} {value}")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `normcore-config`: what a compiler and a linker need, on one line."""
    import argparse

    parser = argparse.ArgumentParser(
        prog="normcore-config", description="Flags for C programs that use the normcore library of this installation."
    )
    parser.add_argument("--cflags", action="store_true", help="flags for the compiler")
    parser.add_argument("--libs", action="store_true", help="flags for the linker (static library)")
    parser.add_argument("--pkgconfigdir", action="store_true", help="folder of normcore.pc, for PKG_CONFIG_PATH")
    parser.add_argument("--version", action="store_true", help="version of the library")
    options = parser.parse_args(argv)
    words: list[str] = []
    try:
        if options.cflags:
            words.append(f"-I{get_include()}")
        if options.libs:
            words += [f"-L{get_library_dir()}", "-lnormcore", "-lm", "-pthread"]
        if options.pkgconfigdir:
            words.append(str(_installed("lib", "pkgconfig", "normcore.pc").parent))
    except FileNotFoundError as error:
        parser.exit(2, f"{error}\n")
    if options.version:
        words.append(_core.__version__)
    if not words:
        parser.print_usage()
        return 2
    print(" ".join(words))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
