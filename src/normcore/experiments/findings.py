"""What the numbers of the experiments show, in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from normcore.experiments.results import DataFacts, Finding, Record

__all__ = ["findings_of"]


def findings_of(id: str, records: Mapping[str, Sequence[Record]], data: DataFacts) -> tuple[Finding, ...]:
    """The sentences of one experiment, from the records of all that were run."""
    return ()
