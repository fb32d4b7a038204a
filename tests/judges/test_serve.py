"""The endpoint judge against a real OpenAI-compatible server: ``transformers serve`` with SmolLM2."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from safetyvalve.errors import JudgeError
from safetyvalve.judges import (
    EndpointJudge,
    Opinion,
    OpinionCache,
    RetryPolicy,
    find_address,
    judge_pairs,
    pair_answers,
)
from safetyvalve.judges.parsing import CAUSES
from safetyvalve.models import resolve
from tests.judges.stand_in import answer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """(URL, model) of a server on this machine."""
    pytest.importorskip("openai", reason="transformers serve needs the transformers[serving] extra")
    folder, model = tmp_path_factory.mktemp("serve"), resolve("smollm2-135m")
    (folder / "hub").mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", "from transformers.cli.transformers import main; main()", "serve", model]
    command += ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"]
    with (folder / "log").open("wb") as log:
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder)}
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            limit = time.monotonic() + 300
            while True:
                try:
                    if httpx2.get(f"http://127.0.0.1:{port}/health", trust_env=False).status_code == 200:
                        break
                except httpx2.TransportError:
                    pass
                if process.poll() is not None or time.monotonic() > limit:
                    pytest.fail((folder / "log").read_text()[-2000:])
                time.sleep(0.5)
            yield f"http://127.0.0.1:{port}/v1", model
        finally:
            process.terminate()
            process.wait(30)


def test_a_real_server_answers_both_orders(server: tuple[str, str], tmp_path: Path) -> None:
    url, model = server
    judge = EndpointJudge(model, find_address(url), max_tokens=24, concurrency=2)
    pairs = pair_answers([answer("x", "Blue."), answer("y", "I like blue and red."), answer("z", "")]).pairs
    cache = OpinionCache(tmp_path)
    judgments = judge_pairs(judge, pairs, cache=cache)
    opinions = [o for j in judgments for o in j.opinions.values() if isinstance(o, Opinion)]
    assert len(opinions) == 6
    # The server says which revision answered.
    assert {o.model for o in opinions} == {f"{model}@main"}
    for opinion in opinions:
        assert opinion.reply
        assert opinion.prompt_tokens is not None
        assert opinion.prompt_tokens > 200
        assert opinion.completion_tokens is not None
        assert 0 < opinion.completion_tokens <= 24
        assert (opinion.choice == "none") == (opinion.cause in CAUSES)
    assert judge_pairs(judge, pairs, cache=cache) == judgments


def test_a_real_server_refuses_another_model(server: tuple[str, str]) -> None:
    judge = EndpointJudge("gpt-9", find_address(server[0]), retry=RetryPolicy(2, first_wait=0.01))
    pairs = pair_answers([answer("x", "Blue."), answer("y", "Red.")]).pairs
    with pytest.raises(JudgeError, match="Server is pinned to"):
        judge_pairs(judge, pairs)
