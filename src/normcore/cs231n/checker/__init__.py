"""A checker for students: runs somebody's own layers and update rules of the course against the reference.

It says in words what is wrong. Each known mistake is a variant of the reference; a mistake is named where its variant
gives exactly what the code gives, over all cases. Where none does, the difference is told and nothing is guessed. What
is inexact but right is told as a remark. docs/cs231n-checker.md lists the mistakes.

The code is run in a process of its own, with a limit of time and memory. That keeps accidents away from whoever checks;
it is not a sandbox: the code may do whatever its user may do.
"""

from __future__ import annotations

from normcore.cs231n.checker.checking import FUNCTIONS, CannotRunError, check, known_mistakes
from normcore.cs231n.checker.judge import Finding, Verdict
from normcore.cs231n.checker.report import Report

__all__ = ["FUNCTIONS", "CannotRunError", "Finding", "Report", "Verdict", "check", "known_mistakes"]
