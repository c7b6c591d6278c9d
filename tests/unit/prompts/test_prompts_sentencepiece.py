"""SentencePiece's ids and SentencePiece's texts, without one difference, over a large and mixed corpus."""

import random
import shutil
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import pytest
import sentencepiece

from prompts.formats import sentencepiece_model
from prompts.formats.decoder import Decoder
from prompts.formats.sentencepiece_model import is_plain_symbol
from prompts.formats.tokenizer import from_sentencepiece
from tests.fakes.checkpoints import TOKENIZER, as_first_generation
from tests.fakes.corpus import CONTROL_WORDS, corpus

REAL = Path(__file__).parents[4] / "shared" / "baichuan2" / "tokenizer.model"
MODELS = [
    TOKENIZER,
    pytest.param(
        REAL, marks=pytest.mark.skipif(not REAL.exists(), reason="Baichuan2's tokenizer.model is not in ../shared")
    ),
]
SYMBOLS = {TOKENIZER: 213, REAL: 1086}


class Pair:
    """One `tokenizer.model`, as we and as SentencePiece read it."""

    def __init__(self, path: Path) -> None:
        self.raw = sentencepiece_model.convert(path)
        """Without our guard: symbols in a text are symbols."""
        self.ours = from_sentencepiece(path)
        self.decoder = Decoder(self.raw)
        self.theirs = sentencepiece.SentencePieceProcessor(model_file=str(path))
        self.guarded = sentencepiece.SentencePieceProcessor(model_proto=without_steering(path.read_bytes()))
        """With the steering symbols as control tokens, which SentencePiece never finds in a text."""
        self.size: int = self.theirs.get_piece_size()
        self.bytes = [at for at in range(self.size) if self.theirs.is_byte(at)]
        added = self.raw.get_added_tokens_decoder()
        self.symbols = [token.content for at, token in added.items() if not self.theirs.is_control(at) and at]
        self.steering = {at for at, token in added.items() if not is_plain_symbol(token.content)}

    @cached_property
    def corpus(self) -> dict[str, list[str]]:
        return corpus([self.theirs.id_to_piece(at).replace("▁", " ") for at in range(self.size)], self.symbols)

    @cached_property
    def texts(self) -> list[str]:
        return list(dict.fromkeys(text for some in self.corpus.values() for text in some))


def without_steering(model: bytes) -> bytes:
    """Turn each steering piece's kind from user-defined to control."""
    user_defined, control = b"\x18\x04", b"\x18\x03"
    for field, piece in sentencepiece_model._fields(model):
        if field != 1 or not piece.endswith(user_defined):
            continue
        text = dict(sentencepiece_model._fields(piece))[1].decode()
        if not is_plain_symbol(text):
            model = model.replace(piece, piece.removesuffix(user_defined) + control)
    return model


@pytest.fixture(scope="module", params=MODELS)
def pair(request: pytest.FixtureRequest) -> Pair:
    return Pair(request.param)


def differences(
    texts: Sequence[object], ours: Sequence[object], theirs: Sequence[object]
) -> Sequence[tuple[object, ...]]:
    assert len(texts) == len(ours) == len(theirs)
    return [one for one in zip(texts, ours, theirs, strict=True) if one[1] != one[2]][:5]


def test_the_corpus_is_large_and_has_every_piece_and_symbol(pair: Pair) -> None:
    print({kind: len(some) for kind, some in pair.corpus.items()}, len(pair.texts))  # noqa: T201 - a figure to keep
    assert len(pair.texts) - pair.size >= 20_000
    assert len(pair.corpus["vocabulary"]) == pair.size
    assert len(pair.symbols) in SYMBOLS.values()
    assert all(pair.corpus.values())


def test_a_symbol_in_a_text_is_that_symbol_to_both(pair: Pair) -> None:
    """Control tokens' names are left out: SentencePiece reads them as text, and as such `encode_plain` does below."""
    texts = [text for text in pair.texts if not any(word in text for word in CONTROL_WORDS)]
    ours = [one.ids for one in pair.raw.encode_batch(texts, add_special_tokens=False)]
    assert differences(texts, ours, pair.theirs.encode(texts)) == []


def test_behind_the_guard_a_text_is_what_sentencepiece_makes_of_it_without_steering_symbols(pair: Pair) -> None:
    ours = [list(pair.ours.encode_plain(text)) for text in pair.texts]
    assert differences(pair.texts, ours, pair.guarded.encode(pair.texts)) == []
    assert not any(pair.steering & set(ids) for ids in ours)


def test_a_text_comes_back_as_sentencepiece_gives_it_back(pair: Pair) -> None:
    for ids in (pair.theirs.encode(pair.texts), pair.guarded.encode(pair.texts)):
        texts = [text.replace("▁", " ") for text in pair.texts]
        ours = [pair.decoder.decode(one, skip_special_tokens=False) for one in ids]
        assert differences(texts, ours, texts) == []
        assert differences(texts, ours, pair.theirs.decode(ids)) == []


def chance_ids(pair: Pair, *, seed: int) -> Iterator[list[int]]:
    """Yield ids as no text has them: bytes in any order, half code points, surrogates, control tokens in between."""
    chance = random.Random(seed)
    wide = [*range(0x80, 0xC0), *range(0xE0, 0xF8), 0xED, 0xA0, 0xEF, 0xBF, 0xBD, 0x20]
    whole = [pair.bytes[one] for one in "海🙂é\ufffd▁".encode()]
    for _ in range(25_000):
        ids: list[int] = []
        while len(ids) < chance.randint(1, 16):
            match chance.randrange(5):
                case 0:
                    ids.append(chance.randrange(1, pair.size))
                case 1:
                    ids.append(chance.choice(pair.bytes))
                case 2:
                    start = chance.randrange(len(whole))
                    ids += whole[start : chance.randint(start, len(whole))]
                case 3:
                    ids.append(chance.choice((1, 2, *pair.bytes[0x20:0x7F])))
                case _:
                    ids.append(pair.bytes[chance.choice(wide)])
        yield ids


def test_any_ids_whatever_are_the_same_text_to_both(pair: Pair) -> None:
    several = list(chance_ids(pair, seed=2))
    without = [[one for one in ids if not pair.theirs.is_control(one)] for ids in several]
    ours = [pair.decoder.decode(ids, skip_special_tokens=False) for ids in without]
    assert differences(without, ours, pair.theirs.decode(without)) == []
    assert sum("\ufffd" in text for text in ours) > 10_000


def test_a_control_token_stands_for_no_text_to_both(pair: Pair) -> None:
    several = [
        [one for one in ids if pair.theirs.is_control(one) or one not in pair.steering]
        for ids in chance_ids(pair, seed=3)
    ]
    assert differences(several, [pair.ours.decode(ids) for ids in several], pair.theirs.decode(several)) == []


def test_each_token_alone_is_the_same_text_to_both(pair: Pair) -> None:
    several = [[at] for at in range(3, pair.size)]
    ours = [pair.decoder.decode(ids, skip_special_tokens=False) for ids in several]
    assert differences(several, ours, pair.theirs.decode(several)) == []


def test_a_space_before_every_text_is_where_sentencepiece_puts_it(tmp_path: Path) -> None:
    first = tmp_path / "tokenizer.model"
    shutil.copyfile(TOKENIZER, first)
    pair = Pair(as_first_generation(first))
    theirs = pair.guarded.encode(pair.texts)
    assert differences(pair.texts, [list(pair.ours.encode_plain(text)) for text in pair.texts], theirs) == []
    assert differences(theirs, [pair.ours.decode(ids) for ids in theirs], pair.theirs.decode(theirs)) == []
