"""`predgen serve`."""

import sys
from typing import Annotated

import typer

from predgen.cli.output import (
    Device,
    MovedBackbone,
    NoThreshold,
    PredictFrom,
    Quiet,
    TrustRemoteCode,
    fails_clearly,
    print_line,
    show_notes,
)
from predgen.cli.starting import without_collection

LOCAL = ("127.0.0.1", "localhost", "::1")


@fails_clearly
def serve(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="Fitted models: DIR or NAME=DIR.", show_default=False)
    ],
    host: Annotated[str, typer.Option("--host", help="Where to listen; 0.0.0.0 for all networks.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="The port; 0 for any that is free.")] = 8000,
    keys: Annotated[
        str | None,
        typer.Option("--keys", metavar="FILE", help="API keys, one a line; also those of PREDGEN_API_KEYS."),
    ] = None,
    delay_ms: Annotated[
        float, typer.Option("--delay-ms", help="How long the first request of a batch waits for others.")
    ] = 5.0,
    max_rows: Annotated[int, typer.Option("--max-rows", help="The most rows of a request.")] = 1_000,
    max_characters: Annotated[int, typer.Option("--max-characters", help="The most characters of a cell.")] = 100_000,
    max_body_mb: Annotated[float, typer.Option("--max-body-mb", help="The most megabytes of a request.")] = 8.0,
    max_waiting: Annotated[
        int, typer.Option("--max-waiting", help="The most rows of a model that wait for their turn.")
    ] = 4_096,
    timeout: Annotated[
        float, typer.Option("--timeout", help="Seconds that a request may take to arrive, and its answer.")
    ] = 60.0,
    predict_from: PredictFrom = None,
    no_threshold: NoThreshold = False,
    backbone: MovedBackbone = None,
    trust_remote_code: TrustRemoteCode = False,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Answer requests over HTTP, with a page to ask by hand.

    POST /v1/predict takes rows as JSON; /docs shows how. Requests of many clients are answered in batches. SIGTERM and
    Ctrl-C stop the server: what has arrived is answered first.

    [bold]Examples[/bold]

      predgen serve stars-model

      predgen serve stars-model mood=runs/second --port 9000 --host 0.0.0.0 --keys keys.txt
    """
    from predgen.errors import require

    for package in ("fastapi", "uvicorn", "prometheus_client"):
        require(package, extra="serve", what="serve")
    show_notes(quiet)
    from predgen.serving.running import address_of, bound_memory, open_port, run_server

    bound_memory()
    with without_collection():
        from predgen.serving.app import PREDICT, create_app
        from predgen.serving.keys import read_keys
        from predgen.serving.limits import Limits
        from predgen.serving.loading import load_models, named_folders
        from predgen.serving.metrics import Metrics

    limits = Limits(max_rows, max_characters, int(max_body_mb * 1e6), max_waiting, timeout, delay_ms)
    allowed, folders = read_keys(keys), named_folders(models)
    with open_port(host, port) as opened:
        with without_collection():
            loaded = load_models(
                folders,
                backbone=backbone,
                device=device,
                predict_from=predict_from,
                threshold=not no_threshold,
                trust_remote_code=trust_remote_code,
            )
        metrics = Metrics()
        app = create_app(loaded, limits=limits, keys=allowed, metrics=metrics)
        if host not in LOCAL and not allowed:
            print_line("warning: Everybody who reaches this machine may ask. --keys FILE asks for a key.", err=True)
        print_line(f"Serving {', '.join(loaded)} at {address_of(opened)}. Ctrl-C stops it.")
        sys.stdout.flush()  # whoever started it in a pipe waits for this line
        run_server(app, opened, limits)
    num_answered, num_errors = metrics.answered(PREDICT)
    print_line(f"Stopped. {num_answered} requests were answered, {num_errors} of them with an error.")
