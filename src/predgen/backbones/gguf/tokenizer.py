"""The tokenizer that a GGUF file describes, and what it says of it."""

from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors
from transformers import PreTrainedTokenizerFast

from predgen.backbones.gguf.header import MERGES, TOKENS, GgufFile
from predgen.backbones.gguf.pre_tokenizers import pre_tokenizer_of
from predgen.errors import BackboneError

# The types of tokens, as llama.cpp numbers them.
CONTROL, USER_DEFINED = 3, 4
BYTE_LEVEL, SENTENCEPIECE, UNIGRAM = "gpt2", "llama", "t5"
SPECIAL_IDS = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
BLANK = "\u2581"


def tokenizer_of(file: GgufFile) -> PreTrainedTokenizerFast:
    """Returns a file's tokenizer.

    A byte-level vocabulary is built here, with the cuts that the file names; the others as transformers builds them,
    with the blank before a text as the file says.

    Raises:
        BackboneError: the file's tokenizer is not known here, or what it says does not hold together.
    """
    model = file.of_tokenizer("model")
    if model == BYTE_LEVEL:
        tokenizer, adds_bos = _byte_level(file)
    elif model in (SENTENCEPIECE, UNIGRAM):
        tokenizer, adds_bos = _from_transformers(file), model == SENTENCEPIECE
    else:
        raise BackboneError(
            f"Expected a tokenizer of the kind {BYTE_LEVEL}, {SENTENCEPIECE} or {UNIGRAM} in '{file.path}', found "
            f"'{model}'. Use the model's folder instead of its GGUF file."
        )
    special = _special_tokens(file)
    _add_around_texts(tokenizer, file, special, adds_bos=adds_bos, adds_eos=model == UNIGRAM)
    result = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **special,
        chat_template=file.metadata.get("tokenizer.chat_template"),
        clean_up_tokenization_spaces=False,
    )
    if len(result) != len(file.metadata[TOKENS]):
        raise BackboneError(
            f"Expected a tokenizer of {len(file.metadata[TOKENS])} tokens from '{file.path}', found {len(result)} of "
            "them. Use the model's folder instead of its GGUF file."
        )
    return result


def _byte_level(file: GgufFile) -> tuple[Tokenizer, bool]:
    """Returns a tokenizer over bytes written as letters, and whether it begins texts with a token by itself."""
    tokens: list[str] = file.metadata[TOKENS]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        raise BackboneError(
            f"Expected each token once in '{file.path}', found {len(tokens) - len(vocabulary)} twice. Convert it again."
        )
    cuts = pre_tokenizer_of(file.of_tokenizer("pre"), str(file.path))
    merges = [_pair(merge, file) for merge in file.metadata.get(MERGES, ())]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=cuts.ignores_merges))
    tokenizer.pre_tokenizer = cuts.build()
    tokenizer.decoder = decoders.ByteLevel()
    types = file.of_tokenizer("token_type") or ()
    for kind in (CONTROL, USER_DEFINED):
        added = [
            AddedToken(token, normalized=False, special=kind == CONTROL)
            for token, token_type in zip(tokens, types, strict=False)
            if token_type == kind
        ]
        (tokenizer.add_special_tokens if kind == CONTROL else tokenizer.add_tokens)(added)
    return tokenizer, cuts.adds_bos


def _pair(merge: str, file: GgufFile) -> tuple[str, str]:
    """Returns the two tokens of a merge, which the file joins by a blank."""
    left, _, right = merge.partition(" ")
    if not left or not right:
        raise BackboneError(
            f"Expected merges of two tokens in '{file.path}', found '{merge}'. Download or copy the file again."
        )
    return left, right


def _from_transformers(file: GgufFile) -> Tokenizer:
    """Returns a SentencePiece tokenizer, built by transformers.

    What a file says of the blank before a text is not read there, so that it is set here.
    """
    from transformers.integrations.gguf import convert_gguf_tokenizer, get_gguf_tokenizer

    tokenizer: Tokenizer
    try:
        architecture, described, _ = get_gguf_tokenizer(str(file.path))
        tokenizer, _ = convert_gguf_tokenizer(architecture, described)
    except Exception as error:  # nearly anything, where what the file says does not hold together
        raise BackboneError(
            f"Expected a readable tokenizer in '{file.path}', found that it cannot be built ({type(error).__name__}: "
            f"{error}). Use the model's folder instead of its GGUF file."
        ) from error
    adds_blank = file.of_tokenizer("add_space_prefix")
    if file.of_tokenizer("model") == SENTENCEPIECE and adds_blank is not None:
        steps = [normalizers.Prepend(BLANK)] if adds_blank else []
        tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", BLANK)])
        tokenizer.pre_tokenizer = None
    return tokenizer


def _special_tokens(file: GgufFile) -> dict[str, str | None]:
    """Returns the special tokens by the names that transformers gives them.

    Raises:
        BackboneError: an id is none of the vocabulary's.
    """
    tokens = file.metadata[TOKENS]
    special: dict[str, str | None] = {}
    for name, key in SPECIAL_IDS.items():
        index = file.of_tokenizer(f"{key}_token_id")
        if index is not None and not 0 <= index < len(tokens):
            raise BackboneError(
                f"Expected a {name} of {len(tokens)} tokens in '{file.path}', found the id {index}. Convert it again."
            )
        special[name] = None if index is None else tokens[index]
    return special


def _add_around_texts(
    tokenizer: Tokenizer, file: GgufFile, special: dict[str, str | None], *, adds_bos: bool, adds_eos: bool
) -> None:
    """Puts the tokens around every text that the file asks for, or that its kind has where it does not say."""
    wanted: list[tuple[str, bool]] = [("bos", adds_bos), ("eos", adds_eos)]
    texts: dict[str, str] = {}
    for name, default in wanted:
        said = file.of_tokenizer(f"add_{name}_token")
        token = special[f"{name}_token"]
        if (default if said is None else said) and token is not None:
            texts[name] = token
    single = [*([texts["bos"]] if "bos" in texts else []), "$A", *([texts["eos"]] if "eos" in texts else [])]
    pair = [*single, *(piece.replace("$A", "$B") for piece in single)]
    ids = [(token, file.metadata[TOKENS].index(token)) for token in dict.fromkeys(texts.values())]
    tokenizer.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=ids)


def said_of_tokenizer(file: GgufFile) -> dict[str, Any]:
    """Returns what a file says of its tokenizer, for people: kind, cuts, special tokens, chat template."""
    special = _special_tokens(file)
    return {
        "kind": file.of_tokenizer("model"),
        "pre_tokenizer": file.of_tokenizer("pre"),
        "tokens": len(file.metadata[TOKENS]),
        **special,
        "pad_is_eos": special["pad_token"] is not None and special["pad_token"] == special["eos_token"],
        "add_bos_token": file.of_tokenizer("add_bos_token"),
        "chat_template": "tokenizer.chat_template" in file.metadata,
    }
