"""Messages of the English page."""

from __future__ import annotations

__all__ = ["MESSAGES"]

MESSAGES: dict[str, str] = {
    # joining
    "list.comma": ", ",
    "list.last": "{items} and {last}",
    "list.more": "{items}, ...",
    "clause.joint": "; ",
    "interval.span": "{low} to {high}",
    "interval.none": "no interval from one prompt",
    "when.start": "before training",
    "when.step": "at step {step}",
    # the finding, first sentence
    "finding.verdicts": "By the independent score, {clauses}.",
    "clause.overoptimized": (
        "{run} overoptimized: its training loss went on falling while that score fell from {before} {before_when} to "
        "{after} {after_when}"
    ),
    "clause.worse": (
        "{run} got worse: its score fell from {before} {before_when} to {after} {after_when}, and its training "
        "loss did not go down either"
    ),
    "clause.improved": (
        "{run} improved: its score rose from {start} {start_when} to {after} {after_when}, and no later fall goes "
        "beyond chance"
    ),
    "clause.no_change": "{run} shows no change beyond what chance gives: {start} {start_when} and {after} {after_when}",
    "clause.undetermined": (
        "nothing can be concluded about {run}, which has too few scored evaluations or prompts to see a change"
    ),
    "clause.unscored": (
        "nothing can be concluded about {run}, which has no such score, so people should judge its answers"
    ),
    "group.overoptimized": "overoptimized: {runs}",
    "group.worse": "worse: {runs}",
    "group.improved": "improved: {runs}",
    "group.no_change": "no change: {runs}",
    "group.undetermined": "too little measured: {runs}",
    "group.unscored": "not scored, so people should judge: {runs}",
    "finding.unscored": (
        "No conclusion on overoptimization is possible for {runs}: the learned reward alone cannot show it, and "
        "without an independent score people should judge the answers."
    ),
    # the finding, second sentence
    "final.one.higher": (
        "{run} ends at {score} (step {step}), which is {difference} higher than {start_when} (95% interval {interval})."
    ),
    "final.one.lower": (
        "{run} ends at {score} (step {step}), which is {difference} lower than {start_when} (95% interval {interval})."
    ),
    "final.one.same": (
        "{run} ends at {score} (step {step}), and no difference from the score {start_when} is seen ({difference}, "
        "95% interval {interval})."
    ),
    "final.two.higher": (
        "In the end {best} scores higher than {other}, by {difference} ({score} against {other_score}; 95% interval "
        "{interval})."
    ),
    "final.two.same": (
        "In the end no difference between {best} and {other} is seen ({score} against {other_score}; difference "
        "{difference}, 95% interval {interval})."
    ),
    "final.several.above": "In the end {best} scores highest ({score}), above {above}.",
    "final.several.both": (
        "In the end {best} scores highest ({score}), above {above}, while no difference is seen from {level}."
    ),
    "final.several.level": "In the end {best} has the highest mean ({score}), but no difference is seen from {level}.",
    "final.versus.above": "{other} by {difference} (95% interval {interval})",
    "final.versus.level": "{other} (difference {difference}, 95% interval {interval})",
    "final.scorers": "The final scores cannot be compared, because they come from different scorers ({scorers}).",
    "final.prompts": "The final scores cannot be compared, because the runs share fewer than two scored prompts.",
    "final.nothing": "Too little was scored to say how training changed the answers.",
    "finding.symptom": (
        "As a symptom and not as proof, the mean log-probability of the chosen responses on held-out pairs changed "
        "by {changes}; it also falls in healthy runs, and an SFT term on chosen responses holds it up by "
        "construction."
    ),
    "symptom.run": "{change} nats in {run}",
    "finding.nll": "On held-out responses, which nobody compared, the negative log-likelihood went {changes}.",
    "nll.run": "from {first} to {last} nats per token in {run}",
    "finding.no_symptom": "Held-out pairs were not measured either, so there is not even a symptom to report.",
    # frame
    "page.title": "Overoptimization report: {runs}",
    "page.eyebrow": "safetyvalve report",
    "page.heading": "Did training overoptimize its reward?",
    "page.runs.one": "One run: {runs}",
    "page.runs.many": "{count} runs: {runs}",
    "page.foot": (
        "Written by safetyvalve {version} from the run folders alone; nothing on this page is loaded from elsewhere."
    ),
    "nav.label": "Contents",
    "section.finding": "Finding",
    "section.figures": "How the runs went",
    "section.values": "Final values",
    "section.answers": "Answers side by side",
    "section.data": "Data",
    "section.settings": "Settings and environment",
    "section.methods": "Methods and limits",
    "words.title": "Words used in the finding",
    "words.independent": "Independent score",
    "words.independent.text": (
        "How good answers to a fixed set of held-out prompts are, by a measure that training never sees; higher is "
        "better. Here: {scorers}."
    ),
    "words.independent.none": (
        "How good answers are, by a measure that training never sees, such as people or a rubric. These runs have none."
    ),
    "words.learned": "Training loss",
    "words.learned.text": (
        "What training itself pushes down: how badly the model's own preferences explain the comparisons."
    ),
    "words.over": "Overoptimized",
    "words.over.text": ("The independent score fell while training went on improving: better by its own measure only."),
    "words.interval": "95% interval",
    "words.interval.text": (
        "The range of values that the data leave plausible. Where it excludes zero, a difference is called seen."
    ),
    # notices
    "notice.title": "Before you read on",
    "notice.missing": "{run}: {files} not found; what would stand there is left out of this report and not guessed.",
    "notice.cut": "{run}: the last line of {files} is half written, as an interrupted run leaves it, and was left out.",
    "notice.interrupted": (
        "{run}: the last evaluation is at step {step} of {planned} planned; “final” means step {step} here."
    ),
    "notice.stopped": (
        "{run}: the run ended itself at step {step} of {planned} ({reason}); “final” means step {step} here."
    ),
    "notice.selected.other": (
        "{run}: model/ holds the weights of step {step}, not of the last one: their independent score, {selected}, was "
        "the best of the evaluations. The best of several is biased upwards by the choice; fresh answers to {count} "
        "other held-out prompts score {fresh} (standard error {error})."
    ),
    "notice.selected.same": (
        "{run}: model/ holds the weights of step {step}, not of the last one: their independent score, {selected}, was "
        "the best of the evaluations. The best of several is biased upwards by the choice; fresh answers to the same "
        "{count} prompts, as no others are held out, score {fresh} (standard error {error})."
    ),
    "notice.no_evaluation": "{run}: no evaluation was recorded, so there are no curves and no final values.",
    "notice.answers_behind": (
        "{run}: the last evaluation (step {step}) left no answers; scores are those of step {scored}."
    ),
    "notice.differ": (
        "The runs differ in more than their objective: {keys}. A difference in scores may come from any of these."
    ),
    "notice.unscored_answers": "{run}: {count} answers have no independent score and were left out of the scores.",
    "notice.shared": (
        "The final scores are compared on the {count} prompts that all scored runs answered, not on all of them."
    ),
    # figures
    "axis.step": "optimizer step",
    "axis.kl": "KL to the reference, nats per response",
    "side.chosen": "chosen",
    "side.rejected": "rejected",
    "plot.description": "{title}. First and last value: {ends}.",
    "plot.ends": "{label} {first} and {last}",
    "figure.number": "Figure {number}.",
    "figure.absent": "Not recorded: {runs}.",
    "figure.nothing": "Not recorded in any run.",
    "figure.nothing.score": (
        "There is no independent score in these runs, so nothing can be shown here. Let people judge."
    ),
    "figure.displacement.title": "How likely the preferred and the rejected responses became",
    "figure.displacement.caption": (
        "How to read: solid is the response that people chose, dashed the one they rejected, on pairs kept out of "
        "training; 0 is the model before training. Both falling is displacement, a symptom that healthy runs can "
        "show."
    ),
    "figure.against_kl.title": "True against learned quality, as the model moves away from its start",
    "figure.against_kl.caption": (
        "How to read: to the right is farther from the model before training; small numbers are steps, bars 95% "
        "intervals over prompts. Overoptimization is an independent score that bends down while the learned reward "
        "goes on rising."
    ),
    "figure.losses.title": "The two terms of the loss and how hard each pulls",
    "figure.losses.caption": (
        "How to read: all on held-out pairs. The preference loss starts at 0.69 (a coin toss) for DPO and RPO; the "
        "SFT term is 0 where the objective has none. The gradient norms say which of the two moves the model."
    ),
    "figure.ranking.title": "Telling chosen from rejected responses",
    "figure.ranking.caption": (
        "How to read: the margin is by how much the learned reward prefers the chosen response, the accuracy in what "
        "share of held-out pairs it does; 0.5 is a coin toss. Neither says that the answers are good."
    ),
    "figure.answers.title": "What the answers look like",
    "figure.answers.caption": (
        "How to read: sudden changes of length, rising repetition, or answers that no longer end by themselves are "
        "early signs of damage; bars are 95% intervals over prompts."
    ),
    "panel.displacement": "{run}: change of log-probability, nats per response",
    "panel.displacement_per_token": "{run}: change of log-probability, nats per token",
    "panel.score": "Independent score",
    "panel.reward": "Learned reward of the answers, gain over the start",
    "panel.preference_loss": "Preference loss",
    "panel.sft_term": "SFT term, as it enters the loss",
    "panel.preference_grad_norm": "Gradient norm of the preference loss",
    "panel.sft_grad_norm": "Gradient norm of the SFT term",
    "panel.nll_per_token": "Negative log-likelihood of the baseline's responses, nats per token",
    "panel.margin": "Margin of learned rewards, nats",
    "panel.accuracy": "Accuracy on held-out pairs",
    "panel.length": "Length of answers, tokens",
    "panel.repetition": "Repetition, share of repeated word triples",
    "panel.eos_rate": "Share of answers that end by themselves",
    "panel.kl": "KL to the reference, nats per response",
    # tables
    "table.scroll": "Table, scrolls sideways",
    "table.values.caption": "Values at the last evaluation, with 95% intervals over prompts where answers give one",
    "table.value": "Value",
    "row.verdict": "Verdict",
    "row.last_step": "Last evaluation, step",
    "row.score": "Independent score",
    "row.gain": "Change of the score since the first evaluation",
    "row.fall": "Change of the score since the evaluation it stands worst against",
    "row.best_step": "Step of the highest mean score",
    "row.reward": "Learned reward, gain over the start",
    "row.chosen_displacement": "Chosen: change of log-probability, nats per response",
    "row.chosen_displacement_per_token": "Chosen: change of log-probability, nats per token",
    "row.rejected_displacement": "Rejected: change of log-probability, nats per response",
    "row.rejected_displacement_per_token": "Rejected: change of log-probability, nats per token",
    "row.baseline_displacement": "Baseline: change of log-probability, nats per response",
    "row.baseline_displacement_per_token": "Baseline: change of log-probability, nats per token",
    "row.nll_per_token": "Baseline: negative log-likelihood, nats per token",
    "row.margin": "Margin of learned rewards, nats",
    "row.accuracy": "Accuracy on held-out pairs",
    "row.preference_loss": "Preference loss",
    "row.sft_term": "SFT term",
    "row.preference_grad_norm": "Gradient norm of the preference loss",
    "row.sft_grad_norm": "Gradient norm of the SFT term",
    "row.seconds": "Time to the last evaluation, seconds",
    "row.memory": "Highest resident memory, GiB",
    "row.speed": "Training speed, median tokens per second",
    "row.parity_margin": "Parity margin, nats",
    "row.effective_token_weight": "Effective token weight",
    "row.mean_chosen_length": "Mean length of chosen responses, tokens",
    "row.mean_baseline_length": "Mean length of baseline responses, tokens",
    "status.overoptimized": "overoptimized",
    "status.worse": "got worse",
    "status.improved": "improved",
    "status.no_change": "no change seen",
    "status.undetermined": "too little measured",
    "status.unscored": "no independent score",
    "cell.none": "not recorded",
    "cell.no_parity": "none at these settings",
    "cell.of": "{step} of {planned}",
    "cell.interval": "{estimate} ({span})",
    "cell.fall": "{change} since step {step}",
    "alarms.title": "Alarms",
    "alarms.caption": "What each alarm said, against the first evaluation",
    "alarms.alarm": "Alarm",
    "alarm.displacement": "Displacement of the chosen responses, nats per token",
    "alarm.proxy-gap": "Score down while the proxy rose",
    "alarm.length": "Length of answers, times the first",
    "alarm.repetition": "Repetition, change of the share",
    "alarm.uncertainty": "Uncertainty of the proxy, times the first",
    "alarm.raised": "RAISED at step {step}: {figure}",
    "alarm.quiet": "quiet at step {step}: {figure}",
    "alarm.silent": "not watched: not measured",
    "alarm.figure": "{value} (limit {limit})",
    "alarm.figure.gap": "score {value} since step {since}",
    "advice.displacement": (
        "Displacement is a symptom, not proof: look at the independent score and at answers. If they got worse, raise "
        "--eta, set --max-displacement, or lower the learning rate."
    ),
    "advice.proxy-gap": (
        "Score down while the proxy rose: training improves its own measure and not the answers. Take an earlier "
        "checkpoint (--select independent), and train with more comparisons, a larger --beta, or --max-displacement."
    ),
    "advice.length": (
        "Length: check whether longer or shorter answers are what people want; if the chosen responses are longer, the "
        "comparisons may have taught length."
    ),
    "advice.repetition": (
        "Repetition is damage: read some answers, take an earlier checkpoint, or lower the learning rate."
    ),
    "advice.uncertainty": (
        "Uncertainty: the policy writes what its reward knows little about. Collect comparisons of such answers, or "
        "train with a pessimistic aggregation."
    ),
    "compared.caption": "Final scores compared on the {count} prompts that the runs share",
    "compared.note": "Each interval is at {confidence}%, so that all pairs of runs together hold at 95%.",
    "compared.pair": "{best} against {other}",
    "compared.head.pair": "Runs",
    "compared.head.first": "First",
    "compared.head.second": "Second",
    "compared.head.difference": "Difference, paired by prompt",
    "compared.head.seen": "What is seen",
    "compared.higher": "{best} is higher",
    "compared.same": "no difference",
    # answers
    "answers.rule.scored": (
        "Shown are {shown} of {total} prompts, chosen by rule and not by hand: prompts are ordered by how much their "
        "independent score changed from the first to the last evaluation (the mean over the runs), and taken at even "
        "distances, from the largest rise to the largest fall. Of several answers to a prompt the first is shown."
    ),
    "answers.rule.unscored": (
        "Shown are {shown} of {total} prompts, chosen by rule and not by hand: at even distances in the order of "
        "their identifiers, which are hashes and know nothing of the answers. Of several answers to a prompt the "
        "first is shown."
    ),
    "answers.verbatim": (
        "The answers stand as the models gave them and may be wrong or offensive. Invisible control characters are "
        "shown by their code."
    ),
    "answers.none": "No answers were found in these runs.",
    "answers.prompt": "Prompt {number} of {count}",
    "answers.change": "change of score {change}",
    "answers.before": "Before training",
    "answers.before_run": "Before training, {run}",
    "answers.at": "{run}, step {step}",
    "answers.score": "score {score}",
    "answers.mean": "mean of {count} answers {score}",
    "answers.no_score": "no score",
    "answers.unfinished": "cut off at the length limit",
    "answers.absent": "No answer to this prompt was recorded.",
    "answers.empty": "(empty answer)",
    "answers.cut": "Shortened for this page: {count} more characters are in the run folder.",
    "role.system": "system",
    "role.user": "user",
    "role.assistant": "assistant",
    # settings
    "settings.caption": "Settings as recorded",
    "settings.differ": "Rows where the runs differ are marked with ≠.",
    "settings.name": "Setting",
    "meaning.title": "What the settings mean in practice",
    "meaning.caption": "How strongly the SFT term acts",
    "meaning.note": (
        "Parity margin: the margin of learned rewards at which the preference loss and the SFT term pull equally "
        "hard on a chosen response; below it the preference loss dominates. Effective token weight: what one token "
        "of a chosen response of mean length weighs in the loss through the SFT term."
    ),
    "peers.caption": "{run}: nearest settings of other trainers",
    "peers.trainer": "Trainer",
    "peers.setting": "Setting",
    "peers.differs": "What still differs",
    "engine.caption": "How the log-probabilities were computed",
    "engine.run": "Run",
    "engine.engine": "Engine",
    "engine.reason": "Why",
    "data.caption": "{run}: what became of the rows",
    "data.caption.all": "All runs: what became of the rows",
    "data.file": "File",
    "data.sha256": "SHA-256",
    "data.form": "Form",
    "data.rows": "Rows read",
    "data.kept": "Kept",
    "data.dropped": "Dropped",
    "data.duplicates": "Duplicates, kept",
    "data.comparisons": "Comparisons",
    "data.prompts_opening": "Distinct opening turns",
    "data.longer_won": "Comparisons won by the longer response",
    "data.reason": "Reason for dropping",
    "data.count": "Rows",
    "data.where": "First of them",
    "data.dropped.caption": "{run}: rows left out",
    "data.missing": "{run}: no data report was found.",
    "data.chosen": "Chosen for the run; all that is counted below is of these",
    "data.truncated": "Truncated, kept in part",
    "data.checks.caption": "What was looked for in the kept rows",
    "data.check": "Looked for",
    "data.found": "Found",
    "check.exact": "Copies of a row (same prompt, responses and comparisons)",
    "check.same": "Further rows of the same prompt and responses",
    "check.contradictory_within": "Pairs of responses of which each wins, within one row",
    "check.contradictory_across": "Pairs of responses of which each wins, in different rows",
    "check.wordless": "Rows with a response without a letter or digit",
    "check.folded": "Rows whose responses differ in case, width or spaces only",
    "check.near": "Rows with near-equal responses",
    "check.email": "Looks like an e-mail address",
    "check.phone": "Looks like a phone number",
    "check.turns": "Rows whose prompt lost its oldest turns to the length limit",
    "check.cut": "Rows with a response cut at the length limit",
    "data.says.longer": (
        "The longer response won {share} of a row's comparisons of unequal length, the mean over {n} rows (95% "
        "interval {low} to {high}). Far from 50%, a model can learn length in place of what was meant."
    ),
    "data.says.noise": (
        "Label noise: {share} of the labels are the wrong way round (95% interval {low} to {high}), as estimated from "
        "{pairs} pairs of responses that were compared {labels} times in all and whose labels disagree with a chance "
        "of {disagree}. This takes all labels to be wrong equally often and independently; copied rows count as "
        "agreement."
    ),
    "data.says.no_noise": (
        "Label noise cannot be estimated: no two responses were compared more than once. Have some compared twice, by "
        "different people."
    ),
    "data.says.near": (
        "Near-equal: similarity of at least {threshold}, which is 1 minus the fewest insertions and deletions that "
        "turn one response into the other, as a share of both lengths, after folding case, width and spaces."
    ),
    "data.says.personal": (
        "Personal data is what looks like it: addresses by their form, phone numbers valid for {regions} or with a "
        "country code. Names and addresses of places are not looked for."
    ),
    "data.says.tokens": "Tokens are those of {model}; limit of prompt plus response: {limit}; longer rows: {on_long}.",
    "data.no_limit": "none",
    "data.length": "Length",
    "data.bin": "{low} to {high}",
    "data.head": "{part} (median {median}, 95% up to {p95})",
    "data.part.prompt": "Prompt",
    "data.part.chosen": "Chosen",
    "data.part.response": "Response",
    "data.part.rejected": "Rejected",
    "data.lengths.characters": "Lengths in characters",
    "data.lengths.tokens": "Lengths in tokens, as trained on",
    "data.preview": "Row {row} as tokens",
    "data.preview.note": (
        "Mask 0: only read. Mask 1: its log-probability is trained. The token with the thick border ends an answer."
    ),
    "data.mask": "mask {mask}",
    "data.omitted": "... {n} more ...",
    "data.cut": "Cut at the length limit; it has no end token.",
    "coverage.title": "Do the data cover the prompts to be served?",
    "coverage.says": (
        "{share} of the {n} prompts to be served are not covered (95% interval {low} to {high}): they are farther than "
        "{threshold} from every prompt of the data. Within that distance {level} of the data's own prompts have one of "
        "another conversation, so about {rest} would be uncovered if both came from the same place."
    ),
    "coverage.how": (
        "Distance: 1 minus the cosine of sentence embeddings by {encoder}, to the nearest of the {data} distinct "
        "prompts that were trained on; the comparison rests on {baseline} of them. Prompts to be served: {file}."
    ),
    "coverage.limits": (
        "A near prompt is one of like wording and topic by this encoder; that the data has good answers to it, or "
        "compares what matters there, is not measured. The interval is over the prompts to be served, with the "
        "distance taken as given."
    ),
    "coverage.caution.unknown": (
        "The encoder does not know {share} of the tokens; texts that differ only in these look alike to it. Name an "
        "encoder for this language with --encoder."
    ),
    "coverage.caution.script": (
        "{share} of the letters are not in Latin script, and this encoder is for English; its distances mean little "
        "there. Name an encoder for this language with --encoder."
    ),
    "coverage.caution.cut": "Of {share} of the prompts only the end was read: they are longer than the encoder takes.",
    "coverage.caution.few": "The comparison rests on {n} prompts only, so the distance that separates is uncertain.",
    "coverage.caption": "Distance to the nearest prompt of the data",
    "coverage.head": "{part} (median {median})",
    "coverage.distance": "Distance",
    "coverage.serving": "Prompts to be served",
    "coverage.baseline": "The data's own prompts",
    "coverage.worst": "Least covered prompts to be served, with the nearest prompt of the data",
    "coverage.served": "Prompt to be served",
    "coverage.nearest": "Nearest in the data",
    "coverage.row": "row {row}",
    "environment.title": "Environment",
    "environment.caption": "Versions, hardware and hashes as recorded",
    "environment.missing": "No environment was recorded in these runs.",
    # methods
    "methods.independent": (
        "Independent means that the score takes no part in training: the runs never see it, and it is not computed "
        "from the learned reward. It is only as good as its scorer, and a rubric can itself be gamed; where much "
        "depends on the answer, let people judge the answers."
    ),
    "methods.learned": (
        "The learned reward is the run's own implicit reward, beta times log(policy / reference). Its gain is the "
        "reward of the answers at an evaluation minus that of the answers before training, both by the policy of "
        "that evaluation."
    ),
    "methods.verdict": (
        "Verdict of a run: the final score is compared with every earlier evaluation, paired by prompt, by Student's "
        "t intervals at 1 − 0.05 / m for m comparisons (Bonferroni). A fall is called overoptimized, or worse "
        "where the mean training loss since did not go down; no fall and an end above the start improved. "
        "Each run's verdict holds at 95% by itself, not for all runs together."
    ),
    "methods.compare": (
        "Comparison of runs: final scores on the prompts that all runs share, paired by prompt. With more than two "
        "runs the best is compared with each other one, at 1 − 0.05 / p for all p pairs of runs (Bonferroni), "
        "because the best was picked from the same scores."
    ),
    "methods.clustered": (
        "Intervals are clustered by prompt: the answers to a prompt are averaged first, and prompts are the "
        "independent units. They speak of prompts like these, answered by these trained models. Intervals of shares, "
        "lengths and KL end where no value is possible. Held-out losses, margins and norms are recorded as means "
        "only and have no intervals here."
    ),
    "methods.absence": "“No difference is seen” does not say that there is none: a wide interval leaves room for one.",
    "methods.seed": (
        "Each run is one training with one seed. No interval here includes what another seed, another order of the "
        "data or other data would change; a claim about a method needs several seeds."
    ),
    "methods.symptom": (
        "Displacement (falling log-probability of chosen responses) is a symptom and no proof. RPO's SFT term acts "
        "on it by construction, so that it favours RPO as a measure and is not used in the verdict."
    ),
    "methods.alarms": (
        "Alarms are evaluated at every evaluation, each at a level that sums to 1% over all of them, so that a run in "
        "which nothing moves beyond the tolerances raises any of the five with a chance of at most 5%. A quiet alarm "
        "proves nothing: how often they miss, and how late they warn, is in docs/alarms.md."
    ),
    "methods.kl": (
        "KL is summed over the tokens of an answer, so that longer answers have room for more; where the lengths of "
        "two runs differ much, compare their KL with care."
    ),
    "methods.quantised": (
        "The model smollm2-135m was restored from 4-bit weights (Q4_1). It is close to the original "
        "SmolLM2-135M-Instruct and not equal to it, so that figures here are not those of the original."
    ),
    "methods.filter": (
        "Training against overoptimization is not a content filter: a run without a finding can still give harmful "
        "or false answers."
    ),
    # observed
    "section.observed": "Proxy against independent score",
    "axis.sqrt_kl": "square root of KL to the reference, √nats",
    "panel.observed.independent": "Independent score, gain over the start",
    "panel.observed.proxy": "Proxy reward, gain over the start",
    "panel.observed.held_out_member": "Held-out member, gain over the start",
    "panel.best_of_n": "{run}: best of n by the proxy, mean over {prompts} prompts",
    "figure.observed.title": "What the reward model sees, and what it does not",
    "figure.observed.caption": (
        "How to read: to the right is farther from the model before training; small numbers are steps, bars 95% "
        "intervals of the change on the same prompts. Dashed is the fitted form d (α − β log d). Overoptimization is a "
        "proxy that goes on rising where the independent score turns. Each panel has the unit of its score."
    ),
    "figure.best_of_n.title": "Choosing the best of n answers by the proxy",
    "figure.best_of_n.caption": (
        "How to read: small numbers are n; each point is the expected score of the answer that the proxy likes best "
        "among n, by the unbiased estimator from one pool, with 95% intervals over prompts. KL is log n − (n − 1)/n, "
        "an upper bound. The two scores have units of their own."
    ),
    "observed.source.independent": "independent score",
    "observed.source.proxy": "proxy",
    "observed.source.held_out_member": "held-out member",
    "observed.short.independent": "independent",
    "observed.short.proxy": "proxy",
    "observed.form.best_of_n": "d (α − β d)",
    "observed.form.optimised": "d (α − β log d)",
    "observed.why.few_evaluations": "fewer than three evaluations away from the start: no fit",
    "observed.why.few_prompts": "fewer than two prompts with a score at every evaluation: no fit",
    "observed.why.no_start": "no scored evaluation before training: no gain",
    "observed.why.no_proxy": "No proxy scored these samples, so there is no gap to explain.",
    "observed.why.no_other": "Nothing but the proxy scored these samples, so its gap is unknown.",
    "observed.peak.within": "{distance} ({low} to {high})",
    "observed.peak.unsure": "unsure: {distance} ({low} to {high}); within the range in {share}% of bootstrap samples",
    "observed.peak.none": "no peak up to {reach} (a peak in {share}% of bootstrap samples)",
    "observed.head.who": "Score",
    "observed.head.form": "Form",
    "observed.head.alpha": "α",
    "observed.head.beta": "β",
    "observed.head.residual": "Residual",
    "observed.head.peak": "Peak at d = √KL",
    "observed.head.covariate": "Covariate",
    "observed.head.coefficient": "Change of the gap with one standard deviation",
    "observed.head.deviation": "That deviation",
    "observed.head.inflation": "Variance inflation",
    "observed.fits.caption": "Forms of the literature fitted to the gain, with 95% intervals over prompts",
    "observed.fits.note": (
        "The forms describe a curve and are no law. Points are weighted by their precision; intervals take prompts as "
        "units and the evaluations as given. The residual is in the unit of the score."
    ),
    "observed.covariate.mean": "(mean gap)",
    "observed.covariate.kl": "KL along the answer, nats",
    "observed.covariate.distance": "distance from the training data, 1 − cosine",
    "observed.covariate.spread": "spread of the ensemble",
    "observed.covariate.width": "confidence width",
    "observed.gap.caption": "{run}: how the proxy's gap goes with shift and uncertainty",
    "observed.gap.says": (
        "the gap is the proxy minus the {against}, each in standard deviations of the answers before training; "
        "{samples} samples of {prompts} prompts, R² {r_squared}."
    ),
    "observed.gap.absent": "Not measured, constant or told by the others: {names}.",
    "observed.gap.joint": " ",
    "observed.gap.limits": (
        "Least squares with intervals clustered by prompt. It is no split into causes: shift and uncertainty grow "
        "together in a run, neither is measured without error, and what is left out can stand behind both."
    ),
    "observed.caution.few_prompts": "There are fewer than ten prompts a coefficient: read the intervals as too narrow.",
    "observed.caution.entangled": "Covariates tell each other (variance inflation above 10): read none of them alone.",
    "observed.stale": "The diagnosis is of other samples, and left out: {runs}. Run safetyvalve diagnose again.",
}
