"""Messages of the English pages."""

from __future__ import annotations

__all__ = ["GUIDELINE", "MESSAGES"]

GUIDELINE = """\
You see a question and two answers. Say which answer you would rather get if the question were yours.

- **Read both answers to the end** before you choose. The longer one is not the better one.
- **Correct comes first**: an answer that sounds good and is wrong loses against a plain one that is right. \
Look things up where you are unsure, but do not ask a chatbot.
- **Helpful**: does it do what was asked, in the language and form that was asked for?
- **Safe**: help with hurting somebody is bad however well it is written. \
A polite refusal of a harmless question is bad too.
- **Tie** means: you would not mind which one you get. **Both bad** means: you would want neither.
- You do not know who wrote the answers, and should not guess. Either may come first.

There is no hurry. You may undo a vote, skip what you cannot judge, and stop at any time; your work is kept.
"""

MESSAGES: dict[str, str] = {
    "brand": "safetyvalve",
    "skip_link": "Skip to content",
    "again": "Send again",
    "go_on": "Go on",
    "save": "Save",
    "answer": "Answer {n}",
    "prompt": "Question",
    "minutes": "{n} min",
    # navigation
    "nav.main": "Pages",
    "nav.judge": "Judge",
    "nav.guideline": "Guideline",
    "nav.progress": "My progress",
    "nav.results": "Results",
    "nav.admin": "Batches",
    "nav.people": "People",
    "nav.items": "Items",
    "nav.sign_out": "Sign out",
    # signing in
    "welcome.title": "Judge answers",
    "welcome.text": "To take part, open the invite link that you were sent. Each link works once.",
    "invite.title": "You are invited",
    "invite.annotator": "You are asked to compare answers, two at a time, and say which is better.",
    "invite.reviewer": "You are asked to look at the results.",
    "invite.admin": "You are about to run this server: batches, people, results.",
    "invite.accept": "Accept and sign in",
    "invite.cookie": "This link works once, in this browser. You stay signed in for 14 days.",
    "privacy.title": "What is kept about you",
    "privacy.text": (
        "A random name, your votes and corrections, and the active time you spent on them. No name, no address, no "
        "e-mail, "
        "no IP address. One cookie keeps you signed in. You can download your data under My progress; to have it "
        "deleted, "
        "tell whoever invited you your random name."
    ),
    # guideline
    "guideline.title": "Guideline",
    "guideline.agree": "I have read this, and I know that I may meet upsetting text.",
    "guideline.start": "Begin with practice",
    "guideline.back": "Back to judging",
    "guideline.edit": "Shown to every annotator before the first item. Markdown.",
    "harm.title": "Some texts may be upsetting",
    "harm.text": (
        "Answers are written by machines and may be violent, hateful, sexual or false. You need not finish such an "
        "item: "
        "skip it, or report it so that nobody else sees it. Take a break when you want one."
    ),
    # judging
    "judge.title": "Which answer is better?",
    "judge.question": "Which answer is better?",
    "judge.practice": "Practice: this does not count, and you see the expected choice afterwards.",
    "judge.revising": "You have judged this one. A new vote replaces the old one.",
    "judge.count": "{n} judged",
    "judge.saved": "Saved.",
    "judge.late": "Your last vote came after its time; somebody else had taken the item. It is kept, and not counted.",
    "judge.undo": "Undo",
    "judge.correct": "Correct an answer",
    "judge.masked": "names hidden",
    "judge.empty": "(The answer is empty.)",
    "judge.strength": "By how much?",
    "judge.tags": "Why? What it does better",
    "judge.save": "Save and go on",
    "judge.save_and_correct": "Save and correct",
    "judge.skip": "Skip",
    "judge.report": "Report",
    "choice.1": "Answer 1 is better",
    "choice.2": "Answer 2 is better",
    "choice.tie": "Tie",
    "choice.both_bad": "Both bad",
    "choice.skip": "Skipped",
    "short.1": "1",
    "short.2": "2",
    "short.tie": "Tie",
    "short.both_bad": "Both bad",
    "strength.1": "Slightly",
    "strength.2": "Clearly",
    "strength.3": "Much",
    "tag.correct": "More correct",
    "tag.helpful": "More helpful",
    "tag.clear": "Clearer",
    "tag.safe": "Safer",
    "tag.language": "Better language",
    "role.user": "Question",
    "role.assistant": "Earlier answer",
    "role.system": "Instruction",
    "role.annotator": "Annotator",
    "role.reviewer": "Reviewer",
    "role.admin": "Administrator",
    "report.text": (
        "Report an item that nobody should have to see. It leaves your queue, and an administrator looks at it."
    ),
    "report.reason": "What is wrong with it (you may leave this empty)",
    "report.send": "Report and go on",
    "send.lost": "No connection. Your vote is kept in this browser and will be sent as soon as the server answers.",
    "send.sending": "Sending …",
    "send.sign_in": (
        "You are signed out. What you entered is kept in this browser; sign in again with a new link to send it."
    ),
    # keyboard
    "keys.title": "Keyboard",
    "keys.strength": "Slightly, clearly, much",
    "keys.tags": "Reasons",
    "keys.undo": "Undo the last vote",
    "keys.correction": "Save a correction",
    "keys.leave": "Leave a text field",
    "keys.on": "Single-key shortcuts on",
    # practice
    "feedback.title": "Practice",
    "feedback.right": "That is what we expected",
    "feedback.other": "We expected another choice",
    "feedback.expected": "Expected: {choice}.",
    "feedback.next": "Go on",
    "feedback.look": "Look again",
    # corrections
    "correct.title": "Correct the answer",
    "correct.lead": "Change as little as makes it the answer you would send. It becomes an example to learn from.",
    "correct.which": "Answer to correct",
    "correct.text": "Answer {n}, as it should read",
    "correct.save": "Save correction",
    "correct.without": "Go on without",
    "corrected.title": "Correction saved",
    "corrected.lead": "{n} characters changed.",
    "corrected.next": "Go on",
    "corrected.again": "Change it again",
    # done and progress
    "done.title": "Nothing to judge right now",
    "done.lead": "You have judged {n} items. Thank you.",
    "done.more": (
        "New answers join while a model is training. Look again later, or close this page; your work is saved."
    ),
    "done.look": "Look again",
    "progress.title": "My progress",
    "progress.judged": "Judged",
    "progress.left": "Waiting for you",
    "progress.corrected": "Corrected",
    "progress.time": "Active time",
    "progress.name": "Your random name is {name}.",
    "progress.last": "Your last votes",
    "progress.question": "Question",
    "progress.vote": "Your vote",
    "progress.change": "Change",
    "progress.none": "None yet.",
    "progress.mine": "Download everything stored about you (JSON)",
    # results
    "results.title": "Results",
    "results.items": "Items complete",
    "results.votes": "Counted votes",
    "results.agreement": "Annotators agree",
    "results.self": "Agree with themselves",
    "results.corrections": "Corrections",
    "results.equal": "{n} pairs of equal answers were not shown to anybody; count them as ties.",
    "results.table": "Votes by pair of sources",
    "results.pair": "First against second",
    "results.wins": "First won",
    "results.losses": "Second won",
    "results.rate": "Win rate of the first",
    "results.prompts": "Prompts",
    "results.note": (
        "Win rate: a tie and both bad count one half; the 95% interval takes prompts as its units. "
        "Repeats, "
        "gold, late and skipped votes are left out. `safetyvalve annotate export` gives every vote for "
        "`safetyvalve stats`."
    ),
    "results.none": "No votes yet.",
    "results.no_batch": "There is no batch yet.",
    "results.annotators": "Annotators",
    "results.nobody": "Nobody has judged yet.",
    "annotators.name": "Name",
    "annotators.votes": "Votes",
    "annotators.side": "Chose the first",
    "annotators.gold": "Gold right",
    "annotators.self": "Same when repeated",
    "annotators.agree": "With others",
    "annotators.seconds": "Median seconds",
    "annotators.flags": "Notes",
    "annotators.note": (
        "Notes point to what to look at; no vote is dropped for them. Side: differs from one half at the 1% level. "
        "Gold: "
        "fewer than 6 in 10 right of at least 5. Fast: median under 3 active seconds of at least 10 votes."
    ),
    "flag.side": "side",
    "flag.gold": "gold",
    "flag.fast": "fast",
    # administration
    "admin.batches": "Batches",
    "admin.counts": "{items} items, {complete} complete, {open} being judged",
    "pairing.runs": "runs against each other",
    "pairing.start": "each step against the start",
    "pairing.samples": "samples against each other",
    "pairing.file": "answers from a file",
    "rules.overlap": "Annotators per item",
    "rules.repeats": "Share shown again",
    "rules.gold": "One gold item in",
    "rules.correct": "Answers may be corrected",
    "rules.open": "Open",
    "admin.upload": "Add answers made elsewhere",
    "admin.upload_text": (
        "A JSONL file, one question a line. With an expected choice (a, b, tie or both_bad) it is a gold item."
    ),
    "admin.batch_name": "Name of the batch",
    "admin.file": "File",
    "admin.add": "Add",
    "admin.added": "{n} items were added.",
    "admin.changed": "Saved.",
    "admin.reports": "Reports",
    "admin.no_reports": "No open reports.",
    "admin.show_item": "Show the item",
    "admin.careful": "Reported as harmful.",
    "admin.withdraw": "Withdraw the item",
    "admin.keep": "Keep it",
    "admin.export": "Export",
    "admin.export_text": (
        "A zip with preference data that `safetyvalve train` and TRL read, corrections for SFT, every vote as JSONL "
        "and CSV, "
        "and a manifest. It names the models."
    ),
    "admin.weigh": "Weights",
    "weigh.vote": "every vote counts one",
    "weigh.item": "every item counts one",
    "weigh.gold": "by gold items answered right",
    "admin.download": "Download",
    "admin.head": (
        "Head of the event log. Keep it elsewhere: with it `safetyvalve annotate verify` finds a rewritten history."
    ),
    "people.invite": "Invite",
    "people.role": "Role",
    "people.number": "How many",
    "people.days": "Days valid",
    "people.make": "Make links",
    "people.roles": (
        "Annotators judge and never see a model's name. Reviewers see results. Administrators do everything but "
        "judge; to "
        "judge yourself, open an annotator's link in another browser."
    ),
    "people.links": "New links",
    "people.once": "Copy them now: they are not stored and cannot be shown again. Each works once.",
    "people.open": "Open invites",
    "people.no_invites": "None.",
    "people.expires": "Valid until",
    "people.revoke": "Revoke",
    "people.list": "People",
    "people.state": "State",
    "people.active": "active",
    "people.inactive": "stopped",
    "people.you": "you",
    "people.link": "New sign-in link",
    "people.stop": "Stop",
    "people.erase": "Erase …",
    "people.erase_text": "Removes this person's votes, corrections and reports for good. Their items are judged anew.",
    "people.erase_yes": "Erase {name}",
    "people.erased": "Erased.",
    "items.lead": "Gold items have a known right choice; they are mixed in to see who reads carefully.",
    "items.votes": "votes: {n}",
    "items.expected": "Expected",
    "items.why": "Why",
    "items.make_gold": "Make gold",
    "items.withdrawn": "withdrawn",
    "items.restore": "Restore",
    "items.previous": "Previous",
    "items.next": "Next",
    "kind.regular": "regular",
    "kind.gold": "gold",
    "kind.practice": "practice",
    # refusals
    "refused.title": "This did not work",
    "refused.sign_in": "You are not signed in. Open the invite link that you were sent, or ask for a new one.",
    "refused.invite": "This link was used already, has expired or was withdrawn. Ask for a new one.",
    "refused.role": "This page is not for your role.",
    "refused.judge_role": (
        "Whoever may see the models' names does not judge. To judge yourself, open an annotator's link in another "
        "browser."
    ),
    "refused.csrf": "The form was old or came from elsewhere. Go back, reload the page and send it again.",
    "refused.not_found": "There is no such page.",
    "refused.method": "The address does not take this kind of request.",
    "refused.no_assignment": "This item is not assigned to you.",
    "refused.other_content": "Something else was stored under the same number. Reload the page.",
    "refused.not_editable": "This answer cannot be corrected.",
    "refused.correction_empty": "The correction is empty.",
    "refused.correction_same": "Nothing was changed in the text.",
    "refused.correction_long": "The correction is longer than 50,000 characters.",
    "refused.form": "A field is missing or has a value that is not accepted.",
    "refused.large": "What was sent is larger than this server takes.",
    "refused.busy": (
        "The database did not answer, and nothing was stored. What you entered is kept below: send it again."
    ),
    "refused.used_item": "This item was already given to somebody; only an unused one can become gold.",
    "refused.last_admin": "You cannot stop or erase yourself.",
    "refused.error": "The server made a mistake. Nothing was stored.",
}
