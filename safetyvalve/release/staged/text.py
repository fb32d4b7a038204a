"""Decisions, gates and the valve in words, English and Japanese."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from safetyvalve.errors import UsageError
from safetyvalve.release.staged.approvals import Approval
from safetyvalve.release.staged.gates import Gate
from safetyvalve.release.staged.observations import stamp
from safetyvalve.release.staged.valve import ValveReading

__all__ = ["MESSAGES", "Words"]


class Words:
    """Messages of one language.

    Args:
        lang: ``en`` or ``ja``.

    Raises:
        UsageError: a language that there is none of.
    """

    def __init__(self, lang: str = "en") -> None:
        if lang not in MESSAGES:
            raise UsageError(f"lang is '{lang}'; accepted: {', '.join(MESSAGES)}.")
        self._messages = MESSAGES[lang]

    def __call__(self, key: str, **values: Any) -> str:
        return self._messages[key].format(**values)

    def outcome(self, outcome: str) -> str:
        return self(f"outcome.{outcome}")

    def reason(self, code: str, values: Mapping[str, Any]) -> str:
        return self(f"why.{code}", **values)

    def gate(self, gate: Gate) -> list[str]:
        """State, change with its bounds, and what it is compared with."""
        return [
            gate.metric,
            self(f"gate.{gate.state}"),
            "" if gate.estimate is None else f"{gate.estimate:+.4g}",
            "" if gate.low is None or gate.high is None else f"{gate.low:+.4g} .. {gate.high:+.4g}",
            f"{-gate.margin if gate.better == 'higher' else gate.margin:+.4g}",
            str(gate.candidate) if gate.design != "arms" else f"{gate.candidate} + {gate.control}",
            self.note(gate),
        ]

    def note(self, gate: Gate) -> str:
        """Why a gate is where it is, and what was left out."""
        parts = [self(f"gate.why.{gate.reason}")]
        if gate.rollback:
            parts.append(self("gate.rollback"))
        if gate.incomplete:
            parts.append(self("gate.incomplete", n=gate.incomplete))
        if gate.capped:
            parts.append(self("gate.capped", n=gate.capped))
        if gate.judged and gate.design != "judge-helped":
            parts.append(self("gate.judged", n=gate.judged))
        if not gate.exact and gate.estimate is not None:
            parts.append(self("gate.inexact"))
        return self("join").join(parts)

    def valve(self, valve: ValveReading) -> list[str]:
        """What the valve saw, a line each."""
        lines = [self(f"valve.{valve.reason}", rise=f"{0.5 + valve.min_rise:.1%}")]
        for name, found in (("reward", valve.reward), ("people", valve.people)):
            if found is not None:
                lines.append(
                    self(
                        f"valve.line.{name}",
                        rate=f"{found.estimate:.1%}",
                        low=f"{found.low:.1%}",
                        high=f"{found.high:.1%}",
                        n=found.people,
                        judged=found.judge,
                    )
                )
        if valve.at_one_look is not None:
            once = valve.at_one_look
            lines.append(
                self("valve.line.once", rate=f"{once.estimate:.1%}", low=f"{once.low:.1%}", high=f"{once.high:.1%}")
            )
        return lines

    def approval(self, approval: Approval) -> str:
        form = self("approval.signed" if approval.signed else "approval.recorded")
        state = self("approval.counts") if approval.problem is None else self(f"approval.{approval.problem}")
        return self(
            "approval.line",
            form=form,
            approver=approval.approver,
            at=stamp(approval.at),
            expires=stamp(approval.expires),
            to=approval.to_stage,
            reason=approval.reason,
            evidence=approval.evidence_hash[:12],
            account=approval.account,
            state=state,
        )


MESSAGES: dict[str, dict[str, str]] = {
    "en": {
        "join": "; ",
        "title": "{name}: {state}, stage {stage}, {share:.0%} of the traffic",
        "state.running": "running",
        "state.rolled back": "rolled back",
        "decision": "decision: {outcome}",
        "outcome.promote": "promote",
        "outcome.complete": "complete",
        "outcome.await_approval": "wait for a person's approval",
        "outcome.pause": "pause, more evidence is needed",
        "outcome.hold": "hold, do not go on",
        "outcome.rollback": "roll back",
        "outcome.rolled_back": "rolled back",
        "why.harm": "{metric}: a loss at which all traffic is taken away is shown",
        "why.failed": "{metric}: a loss of more than the margin is shown",
        "why.tripped": "the valve tripped: the learned reward rises and people's win rate does not",
        "why.inconclusive": "{metric}: neither inside nor outside of its margin yet",
        "why.valve_open": "the valve: the reward rises, and whether people's win rate does is open",
        "why.no_reward": "no reward was recorded as {metric}, and the valve is required",
        "why.too_short": "the stage spans {days:.1f} days of the {least:g} that it needs",
        "why.await_approval": (
            "every gate passes; `safetyvalve release approve` by someone other than who trained leads to {to}"
        ),
        "why.promote": "every gate passes and a person approved; the next stage is {to}",
        "why.last_stage": "{stage} is the last stage and no gate fails",
        "why.rolled_back": "{reason} (by {by})",
        "went_on": "now in stage {to}: {share:.0%} of the traffic",
        "stopped": "all traffic is taken away (traffic.json says 0)",
        "columns": "metric|gate|change|bounds|margin|units|",
        "gate.pass": "pass",
        "gate.fail": "FAIL",
        "gate.inconclusive": "inconclusive",
        "gate.why.loss_excluded": "a loss of the margin is excluded",
        "gate.why.loss_shown": "a loss is shown",
        "gate.why.not_shown": "not decided yet",
        "gate.why.no_data": "nothing recorded in this stage",
        "gate.why.no_people": "no verdict of people; a judge's alone never count",
        "gate.why.no_control": "one of the two variants never appears",
        "gate.why.too_few": "too few units",
        "gate.rollback": "beyond rollback_at",
        "gate.incomplete": "{n} units with one variant only left out",
        "gate.capped": "{n} values above the range counted as its end",
        "gate.judged": "{n} units with a judge's verdict only not counted",
        "gate.inexact": "holds for many values only",
        "bounds": "Each bound holds at all times at once with {rate:.0%} confidence: looking every day costs nothing.",
        "valve": "valve",
        "valve.reward_flat": "shut: the reward is not shown to rise",
        "valve.both_rise": "shut: the reward rises, and so does people's win rate",
        "valve.people_do_not": "TRIPPED: the reward rises, and a win rate of {rise} by people is excluded",
        "valve.people_open": "inconclusive: the reward rises; people's win rate may be on either side of 50% to {rise}",
        "valve.no_people": "inconclusive: the reward rises, and no person judged",
        "valve.no_reward": "no reward recorded of both models, so nothing to compare",
        "valve.line.reward": "reward prefers the candidate on {rate} [{low}, {high}] of {n} prompts",
        "valve.line.people": (
            "people do on {rate} [{low}, {high}]; {n} prompts judged by people, {judged} by a judge only"
        ),
        "valve.line.once": "as if looked at once (PPI++, 95%): {rate} [{low}, {high}]; decides nothing",
        "approvals": "approvals",
        "approval.none": "none",
        "approval.line": (
            "{form} by {approver}, {at}, for {to}, until {expires}: {reason} (evidence {evidence}, account {account})"
            "; {state}"
        ),
        "approval.signed": "signed approval",
        "approval.recorded": "recorded approval (not a signature)",
        "approval.counts": "counts",
        "approval.expired": "does not count: expired",
        "approval.evidence_changed": "does not count: the evidence changed after it",
        "approval.other_stage": "does not count: of an earlier stage, or before a rollback",
        "approval.by_trainer": "does not count: by who trained",
        "approval.not_signed": "does not count: not signed, and release.yaml names signers",
        "approval.bad_signature": "does not count: the signature is not that of the approver's key",
        "evidence": "evidence {hash} ({n} observations, {earlier} of them of other stages)",
        "head": "head of the log {head}",
        "recorded": "{added} recorded, {repeated} recorded before",
        "recorded.earlier": "{n} of them of an earlier stage by their time: kept, not counted by this stage's gates",
        "recorded.left_out": "{n} verdicts left out: {reason}",
        "approved": "{form}; `safetyvalve release decide` goes on. More evidence voids it.",
        "verified": "the log, the settings and all evidence are what was written{head}",
        "verified.kept": "; the kept head is in the log",
        "verified.alone": " (give --head of an earlier report to see that the log was not rewritten as a whole)",
        "sim.title": "{releases:,} simulated releases of each kind, looked at every day, at most {days} days a stage",
        "sim.stage": "stage {stage}",
        "sim.days": "{median:.0f} days ({early:.0f} to {late:.0f} in eight of ten)",
        "sim.good": "a good candidate can leave it: {rate:.1%}; after {days}; it waits longest for {slowest}",
        "sim.stopped": "a good candidate is stopped: {rate:.2%}",
        "sim.bad": "a bad candidate can leave it: {rate:.2%} (at worst, by losing the margin of {metric} alone)",
        "sim.harm": "a harmful candidate is rolled back: {rate:.1%}; after {days}",
        "sim.all.good": "a good candidate reaches the last stage: {rate:.1%}",
        "sim.all.stopped": "a good candidate is ever stopped: {rate:.2%} (allowed {allowed:.0%})",
        "sim.all.bad": "a bad candidate reaches the last stage: {rate:.2%} (at worst, {metric}; allowed {allowed:.0%})",
        "sim.left_out": "without planning, taken to pass at once: {metrics}",
        "sim.assumed": (
            "Assumed: the planning of release.yaml, metrics and units independent, means that do not drift, "
            "approvals at once."
        ),
    },
    "ja": {
        "join": "、",
        "title": "{name}: {state}、段階 {stage}、配信 {share:.0%}",
        "state.running": "実施中",
        "state.rolled back": "停止済み",
        "decision": "判断: {outcome}",
        "outcome.promote": "次の段階へ進む",
        "outcome.complete": "完了",
        "outcome.await_approval": "承認待ち",
        "outcome.pause": "保留(証拠が不足)",
        "outcome.hold": "停止(先へ進めない)",
        "outcome.rollback": "配信を取りやめる",
        "outcome.rolled_back": "配信取りやめ済み",
        "why.harm": "{metric}: 配信を直ちに止める水準の悪化が示されました",
        "why.failed": "{metric}: 許容幅を超える悪化が示されました",
        "why.tripped": "弁が作動: 学習された報酬は上がり、人の勝率は上がっていません",
        "why.inconclusive": "{metric}: 許容幅の内か外か、まだ決まりません",
        "why.valve_open": "弁: 報酬は上がっていますが、人の勝率が上がったかはまだ分かりません",
        "why.no_reward": "報酬({metric})の記録がありません。設定で必須です",
        "why.too_short": "段階の期間が {days:.1f} 日で、必要な {least:g} 日に足りません",
        "why.await_approval": "全指標が合格。学習者以外の人の `safetyvalve release approve` で {to} へ進めます",
        "why.promote": "全指標が合格し、承認もあります。次の段階は {to} です",
        "why.last_stage": "{stage} は最後の段階で、不合格の指標はありません",
        "why.rolled_back": "{reason}({by})",
        "went_on": "段階 {to} に進みました。配信 {share:.0%}",
        "stopped": "配信を 0 にしました(traffic.json)",
        "columns": "指標|判定|変化|範囲|許容幅|件数|",
        "gate.pass": "合格",
        "gate.fail": "不合格",
        "gate.inconclusive": "保留",
        "gate.why.loss_excluded": "許容幅の悪化は否定されました",
        "gate.why.loss_shown": "悪化が示されました",
        "gate.why.not_shown": "まだ決まりません",
        "gate.why.no_data": "この段階の記録がありません",
        "gate.why.no_people": "人の判定がありません(判定モデルだけでは合格になりません)",
        "gate.why.no_control": "片方のモデルの記録がありません",
        "gate.why.too_few": "件数が足りません",
        "gate.rollback": "rollback_at を超えています",
        "gate.incomplete": "片方のモデルしかない {n} 件を除外",
        "gate.capped": "上限を超える {n} 件は上限として計算",
        "gate.judged": "判定モデルだけの {n} 件は数えていません",
        "gate.inexact": "件数が多い場合だけ成り立ちます",
        "bounds": "範囲の両端は、それぞれ信頼水準 {rate:.0%} で全時点に同時に成り立ちます。毎日見ても構いません。",
        "valve": "弁",
        "valve.reward_flat": "閉: 報酬の上昇は示されていません",
        "valve.both_rise": "閉: 報酬も人の勝率も上がっています",
        "valve.people_do_not": "作動: 報酬は上がり、人の勝率 {rise} は否定されました",
        "valve.people_open": (
            "保留: 報酬は上がっています。人の勝率が 50% を超えるか、{rise} に届かないかはまだ分かりません"
        ),
        "valve.no_people": "保留: 報酬は上がっていますが、人の判定がありません",
        "valve.no_reward": "両モデルの報酬の記録がなく、比べられません",
        "valve.line.reward": "報酬が候補を選ぶ割合 {rate} [{low}, {high}]、プロンプト {n} 件",
        "valve.line.people": "人が候補を選ぶ割合 {rate} [{low}, {high}]、人の判定 {n} 件、判定モデルのみ {judged} 件",
        "valve.line.once": "一度だけ見る場合(PPI++、95%): {rate} [{low}, {high}](判断には使いません)",
        "approvals": "承認",
        "approval.none": "なし",
        "approval.line": (
            "{form}: {approver}、{at}、{to} へ、期限 {expires}: {reason}(証拠 {evidence}、アカウント {account})、"
            "{state}"
        ),
        "approval.signed": "署名付きの承認",
        "approval.recorded": "承認の記録(署名ではありません)",
        "approval.counts": "有効",
        "approval.expired": "無効: 期限切れ",
        "approval.evidence_changed": "無効: 承認後に証拠が変わりました",
        "approval.other_stage": "無効: 前の段階のもの、または取りやめ前のもの",
        "approval.by_trainer": "無効: 学習させた本人によるもの",
        "approval.not_signed": "無効: 署名がありません(release.yaml に署名者の指定あり)",
        "approval.bad_signature": "無効: 署名が承認者の鍵のものではありません",
        "evidence": "証拠 {hash}(記録 {n} 件、うち他の段階 {earlier} 件)",
        "head": "ログの末尾ハッシュ {head}",
        "recorded": "{added} 件を記録、{repeated} 件は記録済み",
        "recorded.earlier": "うち {n} 件は時刻が前の段階のもの: 保存しますが、この段階の判定には数えません",
        "recorded.left_out": "判定 {n} 件を除外: {reason}",
        "approved": "{form}。`safetyvalve release decide` で進みます。証拠が増えると無効になります。",
        "verified": "ログ・設定・証拠はすべて記録時のままです{head}",
        "verified.kept": "(控えのハッシュもログにあります)",
        "verified.alone": "(ログ全体の書き換えを調べるには、以前の報告のハッシュを --head で指定してください)",
        "sim.title": "候補の種類ごとに {releases:,} 回の公開を模擬。毎日判定、各段階は最長 {days} 日",
        "sim.stage": "段階 {stage}",
        "sim.days": "{median:.0f} 日(10 回中 8 回は {early:.0f}~{late:.0f} 日)",
        "sim.good": "良い候補が先へ進める: {rate:.1%}、{days}。最も待つ指標は {slowest}",
        "sim.stopped": "良い候補が止められる: {rate:.2%}",
        "sim.bad": "悪い候補が先へ進める: {rate:.2%}(最悪の場合。{metric} だけが許容幅だけ悪いとき)",
        "sim.harm": "有害な候補の配信が取りやめられる: {rate:.1%}、{days}",
        "sim.all.good": "良い候補が最後の段階に着く: {rate:.1%}",
        "sim.all.stopped": "良い候補がどこかで止められる: {rate:.2%}(許容 {allowed:.0%})",
        "sim.all.bad": "悪い候補が最後の段階に着く: {rate:.2%}(最悪の場合、{metric}。許容 {allowed:.0%})",
        "sim.left_out": "planning がなく、すぐ合格するとみなした指標: {metrics}",
        "sim.assumed": "仮定: release.yaml の planning、指標と単位は独立、平均は変わらない、承認は直ちに行われる。",
    },
}
