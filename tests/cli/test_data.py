"""``safetyvalve data check``: what was recognised is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from safetyvalve.cli import main


def test_says_what_it_recognised(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "エクセル.csv"
    file.write_bytes("prompt,chosen,rejected\r\n東京,日本の首都,大阪\r\n".encode("cp932"))
    assert main(["data", "check", str(file)]) == 2
    assert "--encoding" in capsys.readouterr().err
    assert main(["data", "check", str(file), "--encoding", "cp932"]) == 0
    assert "エクセル.csv: CSV, cp932, form pair, 1 rows" in capsys.readouterr().out
    assert main(["data", "check", str(file), "--encoding", "cp932", "--json", "-"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["source"], report["encoding"], report["form"]) == ("CSV", "cp932", "pair")
