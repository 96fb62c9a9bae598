"""Holds ``normcore.pc`` for pkg-config; see the ``pkg_config`` entry point."""
