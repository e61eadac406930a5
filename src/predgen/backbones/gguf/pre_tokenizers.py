r"""How a byte-level vocabulary cuts a text before its merges: a table from the name that a GGUF file gives.

The file stores no pattern, only a name (`tokenizer.ggml.pre`), and llama.cpp (src/llama-vocab.cpp) knows which patterns
belong to it. Patterns are applied one after the other, each to the pieces that those before it left; what no pattern
takes stays a piece. A tokenizer that cuts otherwise gives other tokens, above all where digits meet blanks.
"""

from dataclasses import dataclass, replace

from tokenizers import Regex, pre_tokenizers

from predgen.errors import BackboneError, did_you_mean

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_BLANKS = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_MARKS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+", rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"
_CASED_MARKS = r" ?[^\s\p{L}\p{N}]+[\r\n/]*"
_HAN_AND_KANA = r"[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
_ASCII_MARK_AND_WORD = r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"""
_LETTERS_WITH_MARKS = r"[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
_SENTENCE_MARKS = r" ?[^(\s|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+"


@dataclass(frozen=True)
class PreTokenizer:
    """How texts are cut before merges.

    Attributes:
        patterns: applied in order, each to what those before it left.
        ignores_merges: whether a piece that is a token as a whole is that token, whatever the merges make of it.
        adds_bos: whether a file that does not say so wants its first token before every text.
    """

    patterns: tuple[str, ...]
    ignores_merges: bool = False
    adds_bos: bool = False

    def build(self) -> pre_tokenizers.PreTokenizer:
        """Returns it as the tokenizers library has it, bytes written as letters."""
        splits = [pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in self.patterns]
        return pre_tokenizers.Sequence([*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


_LLAMA3 = PreTokenizer(("|".join((_CONTRACTIONS, _WORD, r"\p{N}{1,3}", _MARKS, _BLANKS)),))
_QWEN2 = PreTokenizer(("|".join((_CONTRACTIONS, _WORD, r"\p{N}", _MARKS, _BLANKS)),))
_PLAIN = PreTokenizer((_GPT2,))
_SINGLE_DIGITS = PreTokenizer((r"\p{N}", _GPT2))
_O200K = PreTokenizer(
    ("|".join((*(f"{word}{_CONTRACTIONS}?" for word in _CASED), r"\p{N}{1,3}", _CASED_MARKS, _BLANKS)),)
)
_BAILING = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
_DEEPSEEK3 = PreTokenizer(
    (
        r"\p{N}{1,3}",
        _HAN_AND_KANA,
        "|".join((_ASCII_MARK_AND_WORD, _LETTERS_WITH_MARKS, r" ?[\p{P}\p{S}]+[\r\n]*", _BLANKS)),
    )
)

PRE_TOKENIZERS: dict[str, PreTokenizer] = {
    "default": PreTokenizer((r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", "[0-9][0-9][0-9]")),
    **dict.fromkeys(
        ("llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"),
        replace(_LLAMA3, ignores_merges=True, adds_bos=True),
    ),
    **dict.fromkeys(("dbrx", "smaug-bpe", "chatglm-bpe", "glm4"), _LLAMA3),
    **dict.fromkeys(
        ("qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez", "stablelm2", "hunyuan", "solar-open", "grok-2"),
        _QWEN2,
    ),
    "qwen35": PreTokenizer(
        (
            "|".join(
                (
                    _CONTRACTIONS,
                    r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+",
                    r"\p{N}",
                    r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*",
                    _BLANKS,
                )
            ),
        )
    ),
    "laguna": PreTokenizer((r"[^\n]+|[\n]+", *_QWEN2.patterns)),
    **dict.fromkeys(
        (
            "gpt-2",
            "phi-2",
            "jina-es",
            "jina-de",
            "jina-v2-es",
            "jina-v2-de",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "modern-bert",
            "exaone4",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
        ),
        _PLAIN,
    ),
    **dict.fromkeys(
        ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"), _SINGLE_DIGITS
    ),
    "falcon": PreTokenizer((r"[\p{P}\$\+<=>\^~\|`]+", _GPT2, "[0-9][0-9][0-9]")),
    "tekken": PreTokenizer(("|".join((*_CASED, r"\p{N}", _CASED_MARKS, _BLANKS)),), ignores_merges=True, adds_bos=True),
    **dict.fromkeys(("gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"), _O200K),
    **dict.fromkeys(("deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"), _DEEPSEEK3),
    "deepseek-coder": PreTokenizer(
        (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+", r"\p{N}")
    ),
    **dict.fromkeys(("bailingmoe", "bailingmoe2", "llada-moe"), PreTokenizer((_BAILING,))),
    "seed-coder": PreTokenizer(("|".join((_CONTRACTIONS, _WORD, r"\p{N}", r" ?[^\s\p{L}\p{N}\r\n]+", _BLANKS)),)),
    **dict.fromkeys(("poro-chat", "bloom", "gpt3-finnish"), PreTokenizer((_SENTENCE_MARKS,))),
    "viking": PreTokenizer((_SENTENCE_MARKS, r"\p{N}")),
    "minicpm5": PreTokenizer((r"\p{N}{1,3}", "|".join((_CONTRACTIONS, _WORD, r"\p{N}+", _MARKS, _BLANKS))), True),
}


def pre_tokenizer_of(name: str | None, file: str) -> PreTokenizer:
    """Returns how the texts of a byte-level vocabulary are cut.

    Args:
        name: as the file gives it (`tokenizer.ggml.pre`).
        file: what the file is called, for the message.

    Raises:
        BackboneError: the file gives none, or one that is not known here: the tokens would be others.
    """
    if name is None:
        raise BackboneError(
            f"Expected the name of a pre-tokenizer (tokenizer.ggml.pre) in '{file}', found none: an old file, whose "
            "texts would be cut by guess. Convert the model again with a newer llama.cpp, or use its folder."
        )
    if name not in PRE_TOKENIZERS:
        raise BackboneError(
            f"Expected a pre-tokenizer that is known here in '{file}', found '{name}', which would cut texts otherwise "
            f"than the model learned.{did_you_mean(name, PRE_TOKENIZERS)} Use the model's folder instead of its GGUF "
            f"file. Known: {', '.join(PRE_TOKENIZERS)}."
        )
    return PRE_TOKENIZERS[name]
