"""Limits of control groups, read from files as the kernel writes them."""

from __future__ import annotations

from pathlib import Path

from safetyvalve.doctor import Limits, read_limits

GIB = 2**30


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_version_2_takes_the_tightest_of_the_group_and_those_above(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "proc": "0::/pods/mine\n",
            "fs/pods/mine/cpu.max": "max 100000\n",
            "fs/pods/cpu.max": "150000 100000\n",
            "fs/pods/mine/memory.max": f"{8 * GIB}\n",
            "fs/pods/mine/memory.current": f"{3 * GIB}\n",
            "fs/pods/mine/memory.stat": f"anon 5\ninactive_file {GIB}\n",
            "fs/pods/memory.max": "max\n",
        },
    )
    assert read_limits(tmp_path / "proc", tmp_path / "fs") == Limits(1.5, 8 * GIB, 2 * GIB)


def test_version_1_in_a_container_that_sees_its_group_at_the_root(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "proc": "4:memory:/docker/abc\n2:cpu,cpuacct:/docker/abc\n0::/\n",
            "fs/cpu,cpuacct/cpu.cfs_quota_us": "400000\n",
            "fs/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            "fs/memory/memory.limit_in_bytes": f"{GIB}\n",
            "fs/memory/memory.usage_in_bytes": f"{GIB // 2}\n",
        },
    )
    assert read_limits(tmp_path / "proc", tmp_path / "fs") == Limits(4.0, GIB, GIB // 2)


def test_no_limits(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "proc": "4:memory:/\n2:cpu:/\n",
            "fs/cpu/cpu.cfs_quota_us": "-1\n",
            "fs/cpu/cpu.cfs_period_us": "100000\n",
            "fs/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "fs/memory/memory.usage_in_bytes": "123\n",
        },
    )
    assert read_limits(tmp_path / "proc", tmp_path / "fs") == Limits(None, None, 0)
    assert read_limits(tmp_path / "nowhere", tmp_path / "fs") == Limits(None, None, 0)
