"""normcore's threads under threadpoolctl: importing this module registers them, as the library ``normcore``.

    import threadpoolctl, normcore.threadpool
    with threadpoolctl.threadpool_limits(1, user_api="normcore"): ...

Needs threadpoolctl 3.1 or later, which the extra ``normcore[bench]`` and scikit-learn install.
"""

from __future__ import annotations

from typing import Any

import threadpoolctl

from . import __version__, get_num_threads, set_num_threads

__all__ = ["Controller"]


class Controller(threadpoolctl.LibController):  # type: ignore[misc]  # threadpoolctl has no types
    """The threads a call of normcore may use, which are one number for the whole process."""

    user_api = "normcore"
    internal_api = "normcore"
    filename_prefixes = ("_core",)
    check_symbols = ("normcore_python_extension",)

    def get_num_threads(self) -> int:
        """How many threads a call may use, the caller's among them."""
        return get_num_threads()

    def set_num_threads(self, num_threads: Any) -> None:
        """Set that number; see `normcore.set_num_threads`."""
        set_num_threads(num_threads)

    def get_version(self) -> str:
        """The version of normcore."""
        return __version__


threadpoolctl.register(Controller)
