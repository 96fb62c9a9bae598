"""What was found, as lines for people and as JSON for graders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from normcore.cs231n.checker.function import Case
from normcore.cs231n.checker.judge import Finding, Verdict

__all__ = ["Report"]

_STATUSES = ("right", "wrong", "unjudged", "unwritten", "missing")


@dataclass(frozen=True)
class Report:
    """The verdicts about all functions that were asked for, in the order of the course.

    Examples
    --------
    >>> from pathlib import Path
    >>> from normcore.cs231n.checker import check
    >>> _ = Path("layers.py").write_text("def relu_forward(x):\\n    return x, x\\n")
    >>> report = check("layers.py", only=["relu_forward", "relu_backward"])
    >>> report.right, [verdict.status for verdict in report.verdicts]
    (False, ['wrong', 'missing'])
    """

    files: Sequence[str]
    edition: int
    verdicts: Sequence[Verdict]
    others: Sequence[str] = ()  # functions of the files that are not checked

    @property
    def right(self) -> bool:
        """Whether no function has a mistake."""
        return not any(verdict.mistakes for verdict in self.verdicts)

    def of(self, status: str) -> list[str]:
        """The functions of a status."""
        return [verdict.function for verdict in self.verdicts if verdict.status == status]

    def lines(self, examples: bool = False) -> list[str]:
        """A line for each mistake, then for each remark, then for what was not checked, and the count."""
        lines = []
        for kind in ("mistakes", "remarks"):
            for verdict in self.verdicts:
                for finding in getattr(verdict, kind):
                    lines.append(f"{verdict.function}: {finding.text}")
                    if examples and finding.case is not None:
                        lines += ["    " + line for line in _example(finding.case)]
        lines += [f"{v.function}: not judged: {v.note}" for v in self.verdicts if v.status == "unjudged"]
        lines += [f"{v.function}: {v.note}" for v in self.verdicts if v.status == "wrong" and v.note]
        for status, words in (("unwritten", "not written yet"), ("missing", "not in the file")):
            if self.of(status):
                lines.append(f"{words}: {', '.join(self.of(status))}")
        counts = [
            f"{len(self.of(status))} {status}"
            for status in _STATUSES
            if self.of(status) or status in ("right", "wrong")
        ]
        lines.append(", ".join(counts).replace("unjudged", "not judged").replace("unwritten", "not written"))
        return lines

    def text(self, examples: bool = False) -> str:
        """The lines as one text."""
        return "\n".join(self.lines(examples))

    def as_dict(self) -> dict[str, Any]:
        """What JSON can hold: for each function its status, mistakes and remarks, each with a case."""
        return {
            "files": list(self.files),
            "edition": self.edition,
            "right": self.right,
            "counts": {status: len(self.of(status)) for status in _STATUSES},
            "functions": {
                verdict.function: {
                    "status": verdict.status,
                    "mistakes": [_finding(finding) for finding in verdict.mistakes],
                    "remarks": [_finding(finding) for finding in verdict.remarks],
                    "note": verdict.note,
                }
                for verdict in self.verdicts
            },
            "not_checked": list(self.others),
        }


def _finding(finding: Finding) -> dict[str, Any]:
    case = None if finding.case is None else _plain(finding.case.given)
    return {"text": finding.text, "mistake": finding.mistake, "case": case}


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        # A hundred numbers are for people; larger arrays are told by their shape.
        return value.tolist() if value.size <= 100 else {"shape": list(value.shape), "dtype": str(value.dtype)}
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def _example(case: Case) -> list[str]:
    lines: list[str] = []
    for name, value in case.given.items():
        if isinstance(value, np.ndarray) and value.size > 100:
            lines.append(f"# {name}: an array of shape {value.shape}")
        else:
            lines += f"{name} = {_python(value, len(name) + 3)}".split("\n")
    return lines


def _python(value: Any, column: int) -> str:
    """A value as Python has it, the lines of an array below each other from a column on."""
    if isinstance(value, np.ndarray):
        dtype = ", dtype=np.float32" if value.dtype == np.float32 else ""
        shown = np.array2string(value, separator=", ", precision=4, prefix=" " * (column + len("np.array(")))
        return f"np.array({shown}{dtype})"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {_python(entry, column + 4)}" for key, entry in value.items()) + "}"
    return f"[{', '.join(_python(entry, column + 4) for entry in value)}]" if isinstance(value, list) else repr(value)
