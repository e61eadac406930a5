"""`predgen calibrate`."""

from typing import Annotated

import typer

from predgen.cli.output import (
    Device,
    MovedBackbone,
    PredictFrom,
    Quiet,
    Strict,
    TrustRemoteCode,
    fails_clearly,
    print_line,
    show_notes,
)


@fails_clearly
def calibrate(
    model_dir: Annotated[str, typer.Argument(metavar="DIR", help="A fitted model.", show_default=False)],
    data: Annotated[str, typer.Argument(metavar="DATA", help="Rows whose answers are known.", show_default=False)],
    predict_from: PredictFrom = None,
    backbone: MovedBackbone = None,
    trust_remote_code: TrustRemoteCode = False,
    device: Device = "auto",
    strict: Strict = False,
    quiet: Quiet = False,
) -> None:
    """Teach a fitted model what it can promise, from rows that nothing was chosen on.

    The model then has tempered probabilities, and intervals or label sets (--interval of predict and evaluate). A model
    that was calibrated before forgets it. With --predict-from it answers from there from now on. The weights stay.

    [bold]Examples[/bold]

      predgen calibrate stars-model calibration.csv

      predgen predict stars-model new.csv --out answers.csv --interval 0.9
    """
    show_notes(quiet, strict=strict)
    import predgen
    from predgen.models.hub import check_is_local

    check_is_local(model_dir, "a calibration")
    model = predgen.load(
        model_dir,
        backbone=backbone,
        device=device,
        predict_from=predict_from,
        trust_remote_code=trust_remote_code,
    )
    model.calibrate(data)
    model.save(model_dir, overwrite=True)
    for name, fitted in model.contents.calibrations.items():
        field = f"'{name}': " if name else ""
        temperature = f"temperature {fitted.temperature:.3g}, " if fitted.temperature != 1.0 else ""
        print_line(f"'{model_dir}' is calibrated: {field}{temperature}{len(fitted.scores)} rows behind its intervals.")
