"""Judges: pairs of answers to verdicts, by language models, reward models, rubrics and fakes."""

from safetyvalve.judges.address import Address, find_address
from safetyvalve.judges.cache import OpinionCache
from safetyvalve.judges.endpoint import EndpointJudge
from safetyvalve.judges.fake import FakeJudge
from safetyvalve.judges.items import Answer, Pair, Paired, draw_prompts, pair_answers
from safetyvalve.judges.protocol import Failure, Judge, Opinion, Question
from safetyvalve.judges.records import save_verdicts, verdicts_of
from safetyvalve.judges.retry import RetryPolicy
from safetyvalve.judges.run import Judgment, judge_pairs
from safetyvalve.judges.scoring import RubricJudge
from safetyvalve.judges.sources import read_answers, read_pairs

__all__ = [
    "Address",
    "Answer",
    "EndpointJudge",
    "Failure",
    "FakeJudge",
    "Judge",
    "Judgment",
    "Opinion",
    "OpinionCache",
    "Pair",
    "Paired",
    "Question",
    "RetryPolicy",
    "RubricJudge",
    "draw_prompts",
    "find_address",
    "judge_pairs",
    "pair_answers",
    "read_answers",
    "read_pairs",
    "save_verdicts",
    "verdicts_of",
]
