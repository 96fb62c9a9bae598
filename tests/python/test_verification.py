"""`normcore info --verify`: equal here, and seen where a digest is another."""

from __future__ import annotations

from pathlib import Path

import pytest

import normcore as nc
from normcore import verification
from normcore.cli import main

COMMITTED = Path(__file__).parents[2] / "digests" / "NC1.sha256"


def test_the_runs_on_the_digits_have_the_committed_digests() -> None:
    expected = [tuple(line.split()) for line in COMMITTED.read_text().splitlines() if line.startswith("digits/")]
    assert len(expected) == 3
    assert list(verification.digits_digests()) == expected


def test_the_readme_quotes_the_digest_of_the_digits() -> None:
    readme = COMMITTED.parents[1] / "README.md"
    first = next(line for line in COMMITTED.read_text().splitlines() if line.startswith("digits/batch_norm/f32"))
    assert first.split()[1] in readme.read_text()


@pytest.mark.parametrize("changed", [None, "relu_forward/f32/", "digits/batch_norm/f64"])
def test_info_verifies(
    changed: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of one instruction set, for the time it takes; with one digest of the file changed in turn."""
    digests = tmp_path / "NC1.sha256"
    lines = COMMITTED.read_text().splitlines()
    if changed:
        at = next(i for i, line in enumerate(lines) if line.startswith(changed))
        lines[at] = lines[at][:-1] + ("0" if lines[at][-1] != "0" else "1")
    digests.write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(verification, "_DIGESTS", digests)
    monkeypatch.setattr(verification, "available_isas", lambda: (nc.get_isa(),))
    assert main(["info", "--verify"]) == (1 if changed else 0)
    captured = capsys.readouterr()
    assert f"{3 if changed else 4} equal, {1 if changed else 0} with other bits, 0 not compared" in captured.out
    assert captured.err.count("DIFFERENT") == (1 if changed else 0)
    assert not changed or changed in captured.err
    assert captured.err.count(": equal") == (3 if changed else 4)


@pytest.mark.parametrize("content", [None, "", "one\n", "digits/foo\n", "\x8e\x00"])
def test_a_damaged_package_says_so(
    content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    digests = tmp_path / "NC1.sha256"
    if content is not None:
        digests.write_bytes(content.encode("latin-1"))
    monkeypatch.setattr(verification, "_DIGESTS", digests)
    assert main(["info", "--verify"]) == 2
    error = capsys.readouterr().err
    assert ("is missing" if content is None else "is damaged") in error
    assert "TRACEBACK" not in error


def test_the_module_says_what_it_can_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert verification.main([]) == 2
    assert capsys.readouterr().err.startswith("usage: python -m normcore.verification {digits | operations")
    with pytest.raises(ValueError, match="15 arguments; at most 14"):
        verification.main(["operations", *["--quick"] * 15])


def test_what_could_not_be_compared_is_not_called_different(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nexit 2\n")
    program.chmod(0o755)
    digests = tmp_path / "NC1.sha256"
    lines = COMMITTED.read_text().splitlines()
    digests.write_text("".join(f"{line}\n" for line in lines if not line.startswith("digits/")))
    monkeypatch.setattr(verification.sys, "executable", str(program))
    monkeypatch.setattr(verification, "_DIGESTS", digests)
    monkeypatch.setattr(verification, "available_isas", lambda: (nc.get_isa(),))
    assert main(["info", "--verify"]) == 0
    captured = capsys.readouterr()
    assert "0 equal, 0 with other bits, 4 not compared" in captured.out
    assert captured.err.count("not compared") == 4
