"""Each kind of backbone answers for itself what it is, what it loads, and which prompt it reads best."""

import pytest
from transformers import AutoConfig

from predgen.backbones.decoder_only import DecoderOnlyBackbone
from predgen.backbones.encoder_decoder import EncoderDecoderBackbone
from predgen.backbones.encoder_only import EncoderOnlyBackbone
from predgen.backbones.loading import KINDS, Kind
from predgen.backbones.template import Template


@pytest.mark.parametrize(
    ("model_type", "changes", "kind"),
    [
        ("llama", {}, DecoderOnlyBackbone),
        ("mamba", {}, DecoderOnlyBackbone),
        ("bert", {"is_decoder": True}, DecoderOnlyBackbone),
        ("bert", {}, EncoderOnlyBackbone),
        ("distilbert", {}, EncoderOnlyBackbone),
        ("t5", {}, EncoderDecoderBackbone),
        ("bart", {}, EncoderDecoderBackbone),
        ("vit", {}, None),
        ("blip-2", {}, None),
    ],
)
def test_the_first_kind_that_handles_a_config_is_its_kind(
    model_type: str, changes: dict[str, bool], kind: Kind | None
) -> None:
    config = AutoConfig.for_model(model_type, **changes)
    assert next((candidate for candidate in KINDS if candidate.handles(config)), None) is kind


def test_code_of_its_own_makes_a_model_one_of_the_kind_that_it_names() -> None:
    config = AutoConfig.for_model("vit")
    for kind, loader in zip(
        KINDS, ("AutoModelForSeq2SeqLM", "AutoModelForMaskedLM", "AutoModelForCausalLM"), strict=True
    ):
        config.auto_map = {loader: "modeling_own.OwnModel"}
        config.is_encoder_decoder = kind is EncoderDecoderBackbone
        assert [candidate for candidate in KINDS if candidate.handles(config)] == [kind]


def test_kinds_differ_in_title_and_loader() -> None:
    assert len({kind.title for kind in KINDS}) == len({kind.loader for kind in KINDS}) == len(KINDS)


def test_an_encoder_reads_texts_alone() -> None:
    for kind in KINDS:
        texts_alone = kind is EncoderOnlyBackbone
        expected = Template.texts_alone(["a", "b"]) if texts_alone else Template.default(["a", "b"], "y")
        assert kind.default_template(["a", "b"], "y") == expected
