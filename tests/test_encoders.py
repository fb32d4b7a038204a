"""Sentence encoders: pooling by hand on a tiny model; the default one where its package is in the cache."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from safetyvalve.encoders import _WHEEL_FILE, _batches, load_encoder
from safetyvalve.errors import ModelError
from safetyvalve.models import cache_folder

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *"abcdefgh"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    BertModel(config).save_pretrained(tmp_path)
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(tmp_path)
    write(tmp_path / "sentence_bert_config.json", {"max_seq_length": 6})
    return tmp_path


def write(file: Path, value: object) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(value))


def states(folder: Path, ids: list[int]) -> torch.Tensor:
    model = BertModel.from_pretrained(folder).eval()
    with torch.no_grad():
        return model(input_ids=torch.tensor([ids])).last_hidden_state[0]


@pytest.mark.parametrize("mode", ["mean_tokens", "cls_token", "max_tokens", "lasttoken"])
def test_pooling_by_hand_whatever_the_batch(folder: Path, mode: str) -> None:
    write(folder / "1_Pooling" / "config.json", {f"pooling_mode_{mode}": True, "word_embedding_dimension": 16})
    encoder = load_encoder(str(folder))
    texts = ["a b", "c", "d e f g"]
    vectors = encoder(texts).vectors
    for text, vector in zip(texts, vectors, strict=True):
        h = states(folder, [2, *(WORDS.index(w) for w in text.split()), 3])
        expected = {"mean_tokens": h.mean(0), "cls_token": h[0], "max_tokens": h.amax(0), "lasttoken": h[-1]}[mode]
        assert np.allclose(vector, torch.nn.functional.normalize(expected, dim=0), atol=1e-5)


def test_the_end_of_a_long_text_is_read_and_unknown_tokens_are_counted(folder: Path) -> None:
    encoder = load_encoder(str(folder))
    long, end, other = encoder(["a a a b c d e", "b c d e", "a b c d"]).vectors
    assert np.allclose(long, end, atol=1e-5)
    assert not np.allclose(long, other, atol=1e-2)
    found = encoder(["a a a b c d e", "b 日 本 c"])
    assert (found.cut, found.unknown) == (1, pytest.approx(2 / 11))


def test_batches_hold_every_text_once_within_the_budget() -> None:
    lengths = [5, 1, 9, 3, 3, 30, 2]
    batches = list(_batches(lengths, 12))
    assert sorted(i for batch in batches for i in batch) == list(range(7))
    assert all(len(b) * max(lengths[i] for i in b) <= 12 or len(b) == 1 for b in batches)


def test_layouts_that_cannot_be_reproduced(folder: Path) -> None:
    write(folder / "modules.json", [{"type": "sentence_transformers.models.Dense"}])
    with pytest.raises(ModelError, match="has the layers Dense"):
        load_encoder(str(folder))
    (folder / "modules.json").unlink()
    write(folder / "1_Pooling" / "config.json", {"pooling_mode_weightedmean_tokens": True})
    with pytest.raises(ModelError, match="pooling_mode_weightedmean_tokens; accepted"):
        load_encoder(str(folder))


def test_no_such_encoder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is no folder"):
        load_encoder("./nowhere")
    with pytest.raises(ModelError, match="sentence encoder 'someone/some-encoder' cannot be loaded"):
        load_encoder("someone/some-encoder")


@pytest.mark.skipif(not (cache_folder() / "wheels" / _WHEEL_FILE).is_file(), reason="the encoder's package is not here")
def test_the_default_encoder_knows_what_is_alike() -> None:
    encoder = load_encoder()
    found = encoder(["How do I cook rice?", "What is the way to prepare rice?", "Who won the election?", "東京駅は？"])
    alike = found.vectors @ found.vectors.T
    assert alike[0, 1] > 0.8
    assert alike[0, 2] < 0.3
    assert found.unknown > 0
    # As sentence-transformers' documentation prints it for this model.
    published = [6.76569462e-02, 6.34959638e-02, 4.87131327e-02]
    assert np.allclose(encoder(["This is an example sentence"]).vectors[0, :3], published, atol=1e-5)
    assert encoder.latin_only
