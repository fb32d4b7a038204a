"""``safetyvalve judge``: answers of models to verdicts."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from safetyvalve.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from safetyvalve.judges import Judge, Judgment, OpinionCache, Question
    from safetyvalve.judges.prompts import Language
    from safetyvalve.judges.tally import Prices
    from safetyvalve.stats import Verdict

__all__ = ["judge"]

_ANSWERS, _WHO, _SERVER, _WORK = "Answers", "Judge", "Server", "Work"


def _option(default: Any, group: str, help: str, *names: str) -> Any:
    return typer.Option(default, *names, help=help, rich_help_panel=group, show_default=default is not None)


def judge(
    answers: list[str] = typer.Argument(
        help="Run folders, RUN or RUN@STEP; or JSONL, AlpacaEval and MT-Bench files of answers.", show_default=False
    ),
    kind: Literal["endpoint", "reward", "rubric", "fake"] = typer.Option(
        ..., "--judge", help="Language model behind a server, reward model, scoring function, or fake."
    ),
    output: Path | None = _option(
        None, _ANSWERS, "Verdicts are added to this file. Default: verdicts.jsonl beside the answers."
    ),
    common_only: bool = _option(False, _ANSWERS, "Go on where answers lack a partner.", "--common-only"),
    prompts: int | None = _option(None, _ANSWERS, "Judge this many prompts, drawn at random."),
    seed: int = _option(0, _ANSWERS, "Of that draw, and of the fake judge."),
    turn: Literal["1", "2"] = _option("1", _ANSWERS, "Of MT-Bench's conversations."),
    model: str | None = _option(None, _WHO, "Name to ask a server for; folder or hub name of a reward model."),
    lang: Literal["en", "ja"] = _option("en", _WHO, "Language of the prompt to a language model."),
    scorer: str | None = _option(None, _WHO, "Rubric: module:function(prompts, answers), or quickstart-rubric."),
    tie_margin: float = _option(0.0, _WHO, "Reward and rubric: scores that differ by this or less tie."),
    chat_template: Path | None = _option(None, _WHO, "Reward: Jinja file that replaces the tokenizer's template."),
    batch_size: int = _option(4, _WHO, "Reward: pairs scored together."),
    aggregation: str | None = _option(
        None, _WHO, "Reward: mean, min, mean-std or mean-variance of an ensemble's members. Default: its own."
    ),
    k: float | None = _option(None, _WHO, "Reward: of mean-std and mean-variance; default 1."),
    position_bias: float = _option(0.0, _WHO, "Fake: log-odds for the answer shown first."),
    length_bias: float = _option(0.0, _WHO, "Fake: log-odds for each doubling of the length."),
    url: str = _option("http://127.0.0.1:8000/v1", _SERVER, "OpenAI-compatible server."),
    api_key_env: str = _option(
        "SAFETYVALVE_JUDGE_API_KEY", _SERVER, "Environment variable that holds the key; unset: no key is sent."
    ),
    allow_plain_http: bool = _option(False, _SERVER, "Send the key without encryption.", "--allow-plain-http"),
    resolves_to: str | None = _option(None, _SERVER, "Name the server answers under, where it is not --model."),
    temperature: float = _option(0.0, _SERVER, "Of the judge."),
    max_tokens: int = _option(512, _SERVER, "Bound of a reply."),
    body: str | None = _option(None, _SERVER, "JSON object of further request fields; null removes one."),
    concurrency: int = _option(4, _SERVER, "Most requests at a time."),
    timeout: float = _option(120.0, _SERVER, "Seconds without a byte of a reply until an attempt is given up."),
    attempts: int = _option(6, _SERVER, "Attempts a question, with back-off between."),
    prompt_price: float | None = _option(None, _SERVER, "Of a million prompt tokens, in your currency."),
    completion_price: float | None = _option(None, _SERVER, "Of a million completion tokens."),
    cache: Path | None = _option(None, _WORK, "Folder of opinions; default: judges/ in safetyvalve's cache."),
    accept_failures: bool = _option(
        False, _WORK, "Record questions that got no answer as no verdict.", "--accept-failures"
    ),
    dry_run: bool = _option(False, _WORK, "Count questions and guess tokens and cost; ask nothing.", "--dry-run"),
) -> None:
    """Judge pairs of answers, in both orders, and record the verdicts.

    A single RUN is compared with its own first step, several with each other at their last. Orders that disagree count
    as a tie; both raw verdicts are kept. The same command goes on where it was stopped: nothing is asked twice.
    Read the result with `safetyvalve stats`.
    """
    from safetyvalve.judges import draw_prompts, judge_pairs, read_pairs, save_verdicts
    from safetyvalve.judges.run import plan

    prices = _prices(prompt_price, completion_price)
    paired = read_pairs(answers, common_only=common_only, turn=int(turn))
    pairs = paired.pairs if prompts is None else draw_prompts(paired.pairs, prompts, seed=seed)
    who: Judge
    if kind == "endpoint":
        from safetyvalve.judges import EndpointJudge, RetryPolicy, find_address

        address = find_address(url, key_variable=api_key_env, allow_plain_http=allow_plain_http)
        who = EndpointJudge(
            _needed(model, "--model", kind),
            address,
            language=lang,
            temperature=temperature,
            max_tokens=max_tokens,
            body=_object(body),
            resolves_to=resolves_to,
            concurrency=concurrency,
            timeout=timeout,
            retry=RetryPolicy(attempts),
        )
    elif kind == "reward":
        from safetyvalve.judges.reward import load_reward_judge
        from safetyvalve.rewards import Aggregation

        who = load_reward_judge(
            _needed(model, "--model", kind),
            chat_template=chat_template,
            margin=tie_margin,
            batch_size=batch_size,
            aggregation=Aggregation(aggregation, 1.0 if k is None else k) if aggregation else None,
        )
    elif kind == "rubric":
        from safetyvalve.cli.scorers import load_scorer
        from safetyvalve.judges import RubricJudge

        function = load_scorer(_needed(scorer, "--scorer", kind))
        assert function is not None
        who = RubricJudge(function, _needed(scorer, "--scorer", kind), margin=tie_margin)
    else:
        from safetyvalve.judges import FakeJudge

        who = FakeJudge(position_bias=position_bias, length_bias=length_bias, seed=seed)

    store = _cache(cache)
    agenda = plan(who, pairs, store)
    print(f"{len(pairs)} pairs of {len({p.prompt_id for p in pairs})} prompts" + _unmatched(len(paired.unmatched)))
    print(f"questions: {len(agenda.asked)}; in the cache: {len(agenda.known)}; to ask: {len(agenda.todo)}")
    if dry_run:
        if kind == "endpoint":
            _print_estimate([agenda.asked[k] for k in agenda.todo], lang, max_tokens, prices)
        return
    from tqdm import tqdm

    with tqdm(total=len(agenda.todo), unit="question", disable=None, leave=False) as bar:
        judgments = judge_pairs(who, pairs, cache=store, accept_failures=accept_failures, progress=bar.update)
    records = _records(who, judgments)
    file = output or _beside(answers)
    written = save_verdicts(file, [v for item in records for v in item])
    _print_and_keep(file, who, judgments, records, agenda.known.keys(), prices)
    print(
        f"written: {written.added} records to {file}" + (f"; {written.present} were there" if written.present else "")
    )


def _records(who: Judge, judgments: list[Judgment]) -> list[list[Verdict]]:
    from safetyvalve.judges import verdicts_of
    from safetyvalve.judges.tally import distinct_opinions

    name = next((o.model for o in distinct_opinions(judgments)), who.name)
    return [verdicts_of(j, who, name) for j in judgments]


def _print_and_keep(
    file: Path,
    who: Judge,
    judgments: list[Judgment],
    records: list[list[Verdict]],
    cached: Collection[str],
    prices: Prices | None,
) -> None:
    """Counts to people, and to ``judges.jsonl`` beside the verdicts with the judge's settings."""
    from safetyvalve.judges.protocol import now
    from safetyvalve.judges.records import append_line
    from safetyvalve.judges.tally import Tokens, count, distinct_opinions

    tally = count(records)
    name = records[0][0].rater
    print(f"{who.kind} {name}:")
    for (a, b), n in tally.by_models.items():
        print(f"  {a} {n['a']}, {b} {n['b']}, tie {n['tie']}, both bad {n['both_bad']}, no verdict {n['none']}")
    if tally.both_decided:
        print(f"  orders disagreed on {tally.disagreed} of {tally.both_decided} pairs; each counts as a tie")
    if tally.decided:
        print(f"  the answer shown first won {tally.first_won} of {tally.decided} single verdicts")
    if tally.same_text:
        print(f"  not asked, as both answers are the same: {tally.same_text} pairs")
    if tally.causes:
        print("  no verdict: " + ", ".join(f"{n} {cause}" for cause, n in tally.causes.most_common()))
    tokens = Tokens.of(distinct_opinions(judgments))
    cost = prices.of(tokens) if prices else None
    if tokens.prompt or tokens.completion:
        print(f"  tokens: {tokens.prompt} prompt, {tokens.completion} completion, with those of cached answers")
        if tokens.uncounted:
            print(f"  tokens of {tokens.uncounted} replies were not counted by the server")
        print(
            f"  cost: {cost:.4f}"
            if cost is not None
            else "  cost: not known; give --prompt-price and --completion-price"
        )
    append_line(
        file.with_name("judges.jsonl"),
        {
            "time": now().isoformat(),
            "verdicts": file.name,
            "rater": name,
            "rater_kind": who.kind,
            "settings": dict(who.settings),
            "counts": tally.as_json(),
            "questions_from_cache": len(cached),
            "tokens": tokens._asdict(),
            "cost": cost,
        },
    )


def _print_estimate(questions: Sequence[Question], lang: Language, max_tokens: int, prices: Prices | None) -> None:
    from safetyvalve.judges.tally import Tokens, guess_tokens

    prompt, most = guess_tokens(questions, lang), max_tokens * len(questions)
    print(f"tokens, guessed: about {prompt} prompt, at most {most} completion")
    if prices:
        low, high = prices.of(Tokens(prompt, 0, 0)), prices.of(Tokens(prompt, most, 0))
        print(f"cost, guessed: {low:.4f} to {high:.4f}, and more where attempts are repeated")
    else:
        print("cost: not known; give --prompt-price and --completion-price")


def _cache(folder: Path | None) -> OpinionCache:
    from safetyvalve.folders import cache_folder
    from safetyvalve.judges import OpinionCache

    return OpinionCache(folder or cache_folder() / "judges")


def _prices(prompt: float | None, completion: float | None) -> Prices | None:
    from safetyvalve.judges.tally import Prices

    if prompt is None and completion is None:
        return None
    if prompt is None or completion is None:
        raise UsageError("one price is given; --prompt-price and --completion-price belong together.")
    return Prices(prompt, completion).checked()


def _needed(value: str | None, option: str, kind: str) -> str:
    if not value:
        raise UsageError(f"--judge {kind} needs {option}.")
    return value


def _object(text: str | None) -> dict[str, Any]:
    try:
        value = json.loads(text) if text else {}
    except json.JSONDecodeError as error:
        raise UsageError(
            f"--body is no JSON ({error.msg}); an object such as '{{\"top_p\": 1}}' is accepted."
        ) from None
    if not isinstance(value, dict):
        raise UsageError(f"--body is {text}; a JSON object is accepted.")
    return value


def _unmatched(n: int) -> str:
    return f"; {n} answers without a partner in every model (--common-only)" if n else ""


def _beside(answers: list[str]) -> Path:
    """``verdicts.jsonl`` in the one run, beside the one file, or in the deepest folder that holds all."""
    paths = [Path(a if Path(a).exists() else a.rpartition("@")[0]).resolve() for a in answers]
    if len(set(paths)) == 1:
        return (paths[0] if paths[0].is_dir() else paths[0].parent) / "verdicts.jsonl"
    return Path(os.path.commonpath([p.parent for p in paths])) / "verdicts.jsonl"
