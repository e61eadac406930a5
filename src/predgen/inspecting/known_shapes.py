"""Models that are known by their shape alone, without a download, and the tokenizer that stands in for theirs.

The numbers are those of the models' public configs; the counts of parameters that follow are tested.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, PreTrainedTokenizerFast

_LLAMA_2 = {"vocab_size": 32000, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5}
KNOWN_SHAPES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "meta-llama/Llama-2-7b-hf": {
            **_LLAMA_2,
            "hidden_size": 4096,
            "intermediate_size": 11008,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
        },
        "meta-llama/Llama-2-13b-hf": {
            **_LLAMA_2,
            "hidden_size": 5120,
            "intermediate_size": 13824,
            "num_hidden_layers": 40,
            "num_attention_heads": 40,
        },
        "meta-llama/Meta-Llama-3-8B": {
            "vocab_size": 128256,
            "max_position_embeddings": 8192,
            "rms_norm_eps": 1e-5,
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "rope_theta": 500000.0,
        },
    }
)


def known_config(name: str) -> Any:
    """Returns the config of a model that is known by its shape alone."""
    return AutoConfig.for_model("llama", **KNOWN_SHAPES[name])


def one_token_each() -> PreTrainedTokenizerFast:
    """Returns a tokenizer with one token for each printable ASCII character, where a model's own is not there.

    Numbers have as many tokens under any tokenizer, since each of their characters is written as one token; label words
    have at most as many.
    """
    pieces = ["<unk>", "<pad>", "</s>", *map(chr, range(ord(" "), ord("~") + 1))]
    tokenizer = Tokenizer(models.WordLevel({piece: index for index, piece in enumerate(pieces)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>", eos_token="</s>")
