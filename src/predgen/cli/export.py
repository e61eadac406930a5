"""`predgen export`."""

from typing import Annotated

import typer

from predgen.cli.output import (
    MovedBackbone,
    NoThreshold,
    Overwrite,
    Quiet,
    TrustRemoteCode,
    fails_clearly,
    print_line,
    show_notes,
)


@fails_clearly
def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A fitted predictor.", show_default=False)],
    out: Annotated[str, typer.Option("--out", metavar="FOLDER", help="The folder.", show_default=False)],
    to: Annotated[
        str,
        typer.Option("--to", metavar="FORMAT", help="transformers (its class for sequences) or onnx (of encoders)."),
    ] = "transformers",
    adapter: Annotated[
        bool, typer.Option("--adapter", help="Keep a low-rank update as an adapter of peft, not merged.")
    ] = False,
    overwrite: Overwrite = False,
    no_threshold: NoThreshold = False,
    backbone: MovedBackbone = None,
    trust_remote_code: TrustRemoteCode = False,
    quiet: Quiet = False,
) -> None:
    """Write a fitted predictor as a folder that runs without PredGen.

    The folder has weights in float32, the tokenizer, a file that says how a row becomes tokens, and a README with an
    example. Its logits are those of the model, which is checked before it appears. What cannot be exported exactly is
    refused, with the reason.

    [bold]Examples[/bold]

      predgen fit reviews.csv --target stars --method predictor --set predictor_head=linear --out stars-model

      predgen export stars-model --to transformers --out stars-transformers
    """
    import predgen

    show_notes(quiet)
    folder = predgen.export_model(
        run,
        out,
        to=to,
        adapter=adapter,
        overwrite=overwrite,
        threshold=not no_threshold,
        backbone=backbone,
        trust_remote_code=trust_remote_code,
    )
    print_line(f"The exported model is in '{folder}'.")
