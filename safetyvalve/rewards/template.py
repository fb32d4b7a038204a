"""The tokenizer of a reward model: its conversations end where the reward is read, for whoever writes them."""

from __future__ import annotations

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from safetyvalve.errors import ModelError
from safetyvalve.rewards.classifier import is_decoder

__all__ = ["ENCODER_TEMPLATE", "closing_template", "pad_token_for", "prepare_tokenizer"]

ENCODER_TEMPLATE = (
    "{{ cls_token }}{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}"
    "{% if m['role'] == 'assistant' and loop.last %}{{ sep_token }}{% else %}\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
"""For encoders, whose tokenizers have no chat template."""


def prepare_tokenizer(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> None:
    """Give it what a reward model needs: a template, an end token, and a pad token that no response ends with.

    Raises:
        ModelError: a decoder's tokenizer without a chat template.
    """
    if not is_decoder(model):
        if tokenizer.eos_token is None:
            tokenizer.eos_token = tokenizer.sep_token
        if not tokenizer.chat_template:
            tokenizer.chat_template = ENCODER_TEMPLATE
    if not tokenizer.chat_template:
        raise ModelError(
            f"the tokenizer of '{tokenizer.name_or_path}' has no chat template, so it is unknown how a conversation is "
            "written for this model. Use an instruction-tuned model or pass --chat-template FILE (Jinja)."
        )
    if is_decoder(model):
        tokenizer.chat_template = closing_template(str(tokenizer.chat_template))
        if token := pad_token_for(tokenizer):
            tokenizer.pad_token = token
        model.config.get_text_config().pad_token_id = tokenizer.pad_token_id if token else None


def closing_template(template: str) -> str:
    """The template without the white space that it writes after an answer's end token.

    Plain transformers reads the reward at the last token that is no padding. Many templates write a newline after the
    end of a turn, which belongs to the next one; the reward was learned at the end token.
    """
    opened, closed = "{%- set conversation -%}", "{%- endset -%}"
    if template.startswith(opened):
        return template
    return f"{opened}{template}{closed}{{{{ conversation if add_generation_prompt else conversation.rstrip() }}}}"


def pad_token_for(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """A special token that is not the end token; None where there is none.

    transformers takes the rightmost token that is not the pad token for the last one. Where that is the end token too,
    as in many tokenizers, it would read the reward one token early.
    """
    wanted = [tokenizer.pad_token, tokenizer.unk_token, tokenizer.bos_token, *tokenizer.all_special_tokens]
    return next((str(t) for t in wanted if t is not None and t != tokenizer.eos_token), None)
