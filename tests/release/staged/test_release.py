"""A release from start to end: decisions, approvals, rollback, tampering, clocks, two writers and a killed one."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from safetyvalve.errors import DataError, ReleaseDamagedError, ReleaseError, UsageError
from safetyvalve.hashing import digest
from safetyvalve.release.staged import folder as folder_module
from safetyvalve.release.staged.approvals import add_approval
from safetyvalve.release.staged.decision import approve, assess, decide, roll_back, stop_on_harm
from safetyvalve.release.staged.folder import open_release, read_release
from safetyvalve.release.staged.log import read_log
from safetyvalve.release.staged.record import plain, release_record
from tests.release.staged.material import SETTINGS, START, good, release, rows, take_in

REASON = "looked at all gates and at forty answers"


def _decide(folder: Path) -> str:
    with open_release(folder) as opened:
        return decide(opened).outcome


def _approve(folder: Path, approver: str = "b.tanaka", **options: Any) -> Any:
    with open_release(folder) as opened:
        return approve(opened, approver, REASON, **options)


def _traffic(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "traffic.json").read_text())


def test_from_shadow_to_full(tmp_path: Path) -> None:
    folder = release(tmp_path / "r")
    assert _traffic(folder) | {"log_head": ""} == {
        "release": "assistant-2", "candidate": "new", "control": "old", "state": "running", "stage": "shadow",
        "share": 0.0, "log_head": "",
    }  # fmt: skip
    assert _decide(folder) == "pause"
    take_in(folder, good())
    assert _decide(folder) == "await_approval"
    given = _approve(folder)
    assert (given.form, given.problem, given.to_stage) == ("recorded approval", None, "pilot")
    assert _traffic(folder)["share"] == 0.0
    assert _decide(folder) == "promote"
    assert _traffic(folder)["share"] == 0.1
    assert _decide(folder) == "pause"
    take_in(folder, good("pilot", n=600, start=START + timedelta(days=20)))
    assert _decide(folder) == "await_approval"
    _approve(folder)
    assert _decide(folder) == "promote"
    assert (_traffic(folder)["stage"], _traffic(folder)["share"]) == ("full", 1.0)
    assert _decide(folder) == "complete"
    with pytest.raises(ReleaseError, match="decision: complete"):
        _approve(folder)
    record = release_record(folder)
    assert (record.exit_code, record.stage, record.head) == (0, "full", str(read_release(folder).head))
    assert json.loads(json.dumps(plain(record)))["settings"]["name"] == "assistant-2"
    kinds = [e.kind for e in read_log(folder / "log.jsonl")]
    assert kinds.count("promotion") == 2
    assert kinds[:3] == ["init", "decision", "settings"]


def test_judge_only_evidence_never_promotes(tmp_path: Path) -> None:
    folder = release(tmp_path / "r")
    take_in(folder, good(source="judge", n=2000))
    assert _decide(folder) == "pause"
    with pytest.raises(ReleaseError, match="decision: pause"):
        _approve(folder)
    with open_release(folder) as opened:  # an approval that was let through all the same
        add_approval(opened, "b.tanaka", REASON)
    assert _decide(folder) == "pause"
    assert _traffic(folder)["share"] == 0.0


@pytest.mark.parametrize("name", ["a.sato", "A.Sato", " a.sato ", "a. sato", "Ａ.Ｓａｔｏ"])
def test_the_trainer_cannot_approve(tmp_path: Path, name: str) -> None:
    folder = release(tmp_path / "r")
    take_in(folder, good())
    with pytest.raises(ReleaseError, match="trained the candidate"):
        _approve(folder, name)
    assert not read_release(folder).of_kind("approval")


def test_evidence_after_an_approval_voids_it(tmp_path: Path) -> None:
    folder = release(tmp_path / "r")
    take_in(folder, good())
    _approve(folder)
    take_in(folder, rows("harm", [0], prefix="later", start=START + timedelta(days=60)), name="more.jsonl")
    found = assess(read_release(folder))
    assert (found.outcome, found.approvals[0].problem) == ("await_approval", "evidence_changed")
    assert _decide(folder) == "await_approval"
    _approve(folder)
    assert _decide(folder) == "promote"


def test_an_approval_expires(tmp_path: Path) -> None:
    folder = release(tmp_path / "r")
    take_in(folder, good())
    _approve(folder, days=1)
    opened = read_release(folder)
    assert assess(opened).outcome == "promote"
    later = assess(opened, now=folder_module.milliseconds() + 86_400_001)
    assert (later.outcome, later.approvals[0].problem) == ("await_approval", "expired")


def test_an_approval_says_what_was_looked_at(tmp_path: Path) -> None:
    folder = release(tmp_path / "r")
    take_in(folder, good())
    seen = read_release(folder).evidence_hash()
    with pytest.raises(ReleaseError, match="not what was looked at"):
        _approve(folder, seen=digest("other"))
    with pytest.raises(ReleaseError, match="not what was looked at"):
        _approve(folder, seen=seen[:4])
    assert _approve(folder, seen=seen[:12]).problem is None
    with pytest.raises(UsageError, match="ten characters"), open_release(folder) as opened:
        approve(opened, "b.tanaka", "fine")
    with pytest.raises(UsageError, match="at most 7"):
        _approve(folder, days=8)


def test_an_approval_written_into_the_log_for_the_trainer_does_not_count(tmp_path: Path) -> None:
    folder = release(tmp_path / "r")
    take_in(folder, good())
    with open_release(folder) as opened:
        payload = {
            "approver": "A.Sato", "reason": REASON, "release": "assistant-2", "stage": "shadow", "to_stage": "pilot",
            "evidence_hash": opened.evidence_hash(), "expires": folder_module.milliseconds() + 10**7, "signature": None,
        }  # fmt: skip
        opened.append("approval", payload)
        assert decide(opened).approvals[0].problem == "by_trainer"
    assert _traffic(folder)["share"] == 0.0


def _key(folder: Path, name: str) -> tuple[Path, str]:
    if shutil.which("ssh-keygen") is None:
        pytest.skip("needs ssh-keygen")
    file = folder / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(file)], check=True)
    kind, key = file.with_suffix(file.suffix + ".pub").read_text().split()[:2]
    return file, f"{name} {kind} {key}"


def test_signed_approvals(tmp_path: Path) -> None:
    mine, line = _key(tmp_path, "b_tanaka")
    other, _ = _key(tmp_path, "c_mori")
    folder = release(tmp_path / "r", approval={"signers": [line]})
    take_in(folder, good())
    with pytest.raises(ReleaseError, match="without --key"):
        _approve(folder, "b_tanaka")
    with pytest.raises(ReleaseError, match="signed by one of b_tanaka"):
        _approve(folder, "c_mori", key=other)
    with pytest.raises(ReleaseError, match="is not the key"):
        _approve(folder, "b_tanaka", key=other)
    with open_release(folder) as opened:  # unsigned, let through: it does not count
        payload = _unsigned(opened)
        opened.append("approval", payload)
        assert assess(opened).approvals[-1].problem == "not_signed"
        opened.append("approval", payload | {"signature": "-----BEGIN SSH SIGNATURE-----\nAAAA\n"})
        assert assess(opened).approvals[-1].problem == "bad_signature"
    given = _approve(folder, "b_tanaka", key=mine)
    assert (given.form, given.signed, given.problem) == ("signed approval", True, None)
    with open_release(folder) as opened:  # the same signature under another reason
        payload = dict(opened.of_kind("approval")[-1].payload)
        opened.append("approval", payload | {"reason": "something else entirely"})
        assert assess(opened).approvals[-1].problem == "bad_signature"
    assert _decide(folder) == "promote"


def _unsigned(opened: Any) -> dict[str, Any]:
    return {
        "approver": "b_tanaka", "reason": REASON, "release": "assistant-2", "stage": "shadow", "to_stage": "pilot",
        "evidence_hash": opened.evidence_hash(), "expires": folder_module.milliseconds() + 10**7, "signature": None,
    }  # fmt: skip


def test_a_key_without_signers_is_refused(tmp_path: Path) -> None:
    folder = release(tmp_path / "r")
    take_in(folder, good())
    with pytest.raises(ReleaseError, match="names no signers"):
        _approve(folder, key=tmp_path / "key")


def _harmful(stage: str) -> list[dict[str, Any]]:
    return [
        *rows("harm", [1, 0] * 100, stage=stage, start=START + timedelta(days=30)),
        *rows("harm", [0] * 200, stage=stage, variant="control", prefix="c", start=START + timedelta(days=30)),
    ]


def test_harm_rolls_back_by_itself(tmp_path: Path) -> None:
    folder = release(tmp_path / "r")
    take_in(folder, good())
    _approve(folder)
    assert _decide(folder) == "promote"
    take_in(folder, _harmful("pilot"))
    with open_release(folder) as opened:
        found = stop_on_harm(opened)
    assert (found.outcome, found.exit_code) == ("rollback", 13)
    assert (_traffic(folder)["share"], _traffic(folder)["state"]) == (0.0, "rolled back")
    event = read_release(folder).of_kind("rollback")[0]
    assert event.payload["automatic"] and event.payload["log_e"]["harm"] > 0
    assert _decide(folder) == "rolled_back"
    with pytest.raises(ReleaseError, match="takes no more evidence"):
        take_in(folder, good("pilot"))
    with pytest.raises(ReleaseError, match="rolled back before"), open_release(folder) as opened:
        roll_back(opened, "again")


def test_a_person_rolls_back(tmp_path: Path) -> None:
    folder = release(tmp_path / "r")
    with open_release(folder) as opened, pytest.raises(UsageError, match="reason is empty"):
        roll_back(opened, "  ")
    with open_release(folder) as opened:
        roll_back(opened, "customers report nonsense")
    found = release_record(folder)
    assert (found.outcome, found.share, found.exit_code) == ("rolled_back", 0.0, 13)


def test_a_failed_gate_holds(tmp_path: Path) -> None:
    folder = release(tmp_path / "r")
    given = [r | {"value": 0} if r["metric"] == "human_win_rate" and i % 2 else r for i, r in enumerate(good())]
    take_in(folder, given)
    assert _decide(folder) == "hold"


def test_the_same_decision_is_logged_once(tmp_path: Path) -> None:
    folder = release(tmp_path / "r")
    for _ in range(3):
        _decide(folder)
    assert len(read_release(folder).of_kind("decision")) == 1


def test_a_stage_lasts_its_days(tmp_path: Path) -> None:
    stages = [{"name": "shadow", "share": 0.0, "min_days": 30}, {"name": "full", "share": 1.0}]
    folder = release(tmp_path / "r", stages=stages)
    take_in(folder, good())
    with open_release(folder) as opened:
        found = decide(opened)
    assert found.outcome == "pause"
    assert found.reasons[0][0] == "too_short"


# -- tampering


def _change(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_changed_evidence_is_found_and_stops_everything(tmp_path: Path) -> None:
    folder = release(tmp_path / "r")
    take_in(folder, good())
    _approve(folder)
    file = next((folder / "evidence").iterdir())
    _change(file, '"value":0.0', '"value":1.0')
    with pytest.raises(ReleaseDamagedError, match=r"was changed after event 3"):
        release_record(folder)
    with pytest.raises(ReleaseDamagedError, match="approvals do not count"):
        _decide(folder)
    assert _traffic(folder)["share"] == 0.0
    file.unlink()
    with pytest.raises(ReleaseDamagedError, match="cannot be read"):
        _decide(folder)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda lines: [lines[0].replace("root", "toor").replace('"at":1', '"at":2'), *lines[1:]], "was changed"),
        (lambda lines: [lines[0], *lines[2:]], "does not follow"),
        (lambda lines: lines[:-1], "events were removed"),
        (lambda lines: [*lines[:-1], lines[-1][:40]], "is no event"),
        (lambda lines: [*lines, "{}"], "is no event"),
    ],
    ids=["changed", "removed", "cut", "half", "added"],
)
def test_a_changed_log_is_found(tmp_path: Path, edit: Any, message: str) -> None:
    folder = release(tmp_path / "r")
    take_in(folder, good())
    lines = (folder / "log.jsonl").read_text().split("\n")[:-1]
    (folder / "log.jsonl").write_text("\n".join(edit(lines)) + "\n")
    with pytest.raises(ReleaseDamagedError, match=message):
        release_record(folder)


def test_a_log_rewritten_as_a_whole_is_found_with_a_kept_head(tmp_path: Path) -> None:
    folder = release(tmp_path / "r")
    take_in(folder, good())
    kept = release_record(folder).head
    assert release_record(folder, head=kept).head == kept
    other = release(tmp_path / "again")
    take_in(other, [r for r in good() if r["unit"] != "u7"])
    with pytest.raises(ReleaseDamagedError, match="the log was rewritten"):
        release_record(other, head=kept)
    with pytest.raises(ReleaseError, match="NUMBER:HASH"):
        release_record(folder, head="12")


def test_settings_are_fixed_by_the_first_observation(tmp_path: Path) -> None:
    folder = release(tmp_path / "r")
    _change(folder / "release.yaml", "margin: 0.1", "margin: 0.2")
    assert release_record(folder).settings.guardrails[0].margin == 0.2
    take_in(folder, good())
    _change(folder / "release.yaml", "margin: 0.2", "margin: 0.3")
    with pytest.raises(ReleaseDamagedError, match="margins that follow the data prove nothing"):
        release_record(folder)


# -- clocks, writers, kills


def test_a_clock_that_goes_backwards_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = release(tmp_path / "r")
    now = folder_module.milliseconds()
    monkeypatch.setattr(folder_module, "milliseconds", lambda: now - 3_600_000)
    before = (folder / "log.jsonl").read_bytes()
    with pytest.raises(ReleaseError, match="clock goes backwards"):
        _decide(folder)
    assert (folder / "log.jsonl").read_bytes() == before


STREAMS = [
    {"metric": "harm"},
    {"metric": "harm", "variant": "control"},
    {"metric": "human_win_rate", "source": "human"},
    {"metric": "human_win_rate", "source": "judge"},
]


def _record_one(folder: Path, number: int) -> None:
    given = dict(STREAMS[number])
    take_in(folder, rows(given.pop("metric"), [0] * 20, **given), name=f"w{number}.jsonl")


def test_writers_wait_for_each_other(tmp_path: Path) -> None:
    folder = release(tmp_path / "r")
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_record_one, args=(folder, i)) for i in range(len(STREAMS))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [w.exitcode for w in workers] == [0] * len(STREAMS)
    found = read_release(folder)
    assert len(found.observations) == 20 * len(STREAMS)
    assert len(found.of_kind("record")) == len(STREAMS)
    assert len(found.of_kind("settings")) == 1
    assert [e.seq for e in found.events] == list(range(1, len(found.events) + 1))


def _record_for_ever(folder: Path) -> None:
    for i in range(10_000):
        take_in(folder, rows("harm", [0], prefix=f"k{i}-", start=START + timedelta(minutes=i)), name="k.jsonl")


def test_a_kill_in_the_middle_leaves_a_whole_log(tmp_path: Path) -> None:
    folder = release(tmp_path / "r")
    context = multiprocessing.get_context("fork")
    for _ in range(3):
        worker = context.Process(target=_record_for_ever, args=(folder,))
        worker.start()
        time.sleep(0.15)
        os.kill(worker.pid or 0, signal.SIGKILL)
        worker.join()
        found = read_release(folder)
        found.verify()
    assert len(found.observations) == len(found.of_kind("record")) > 0
    _decide(folder)  # and it goes on


def test_damaged_traffic_is_told_and_a_stale_one_mended(tmp_path: Path) -> None:
    folder = release(tmp_path / "r")
    _change(folder / "traffic.json", '"share": 0.0', '"share": 0.9')
    with open_release(folder):
        pass
    assert _traffic(folder)["share"] == 0.0
    (folder / "traffic.json").write_text("nonsense")
    with pytest.raises(ReleaseDamagedError, match="Remove it"):
        read_release(folder)


def test_a_folder_that_is_no_release(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="holds no release"):
        read_release(tmp_path)
    with pytest.raises(ReleaseError, match="is no folder"), open_release(tmp_path / "none"):
        pass
    (tmp_path / "x").write_text("")
    with pytest.raises(ReleaseError, match="not an empty folder"):
        release(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stages": [{"name": "a", "share": 0.5}, {"name": "b", "share": 0.5}]}, "rising ones that end in 1"),
        ({"candidate": "old"}, "two models are compared"),
        ({"trainers": []}, "trainers"),
        ({"colour": "red"}, "colour"),
        ({"guardrails": [SETTINGS["guardrails"][1]]}, "never promotes"),
        ({"guardrails": [SETTINGS["guardrails"][0] | {"level": 2}]}, "guardrails 1 .human_win_rate.: level is 2"),
        ({"guardrails": [SETTINGS["guardrails"][0] | {"range": None}]}, "range goes with kind"),
        ({"guardrails": [SETTINGS["guardrails"][0] | {"stages": ["beta"]}]}, "names the stage 'beta'"),
        ({"guardrails": [SETTINGS["guardrails"][0], SETTINGS["guardrails"][1] | {"margin": 1.5}]}, "margin is 1.5"),
        ({"error_rates": {"promote": 0.7}}, "error_rates, promote"),
        ({"approval": {"signers": ["b.tanaka"]}}, "no line NAME KEYTYPE KEY"),
        ({"approval": {"signers": ["a.sato ssh-ed25519 AAAA"]}}, "another person approves"),
    ],
)
def test_settings_that_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        release(tmp_path / "r", **change)
    assert not (tmp_path / "r").exists()


def test_observations_do_not_come_twice(tmp_path: Path) -> None:
    folder = release(tmp_path / "r")
    assert take_in(folder, good()).added == 1200
    head = read_release(folder).head
    again = take_in(folder, good())
    assert (again.added, again.repeated) == (0, 1200)
    assert read_release(folder).head == head
    with pytest.raises(DataError, match="a duplicate"):
        take_in(folder, [good()[0] | {"value": 0}], name="other.jsonl")
