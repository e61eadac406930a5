"""`predgen push`."""

from typing import Annotated

import typer

from predgen.cli.output import (
    JsonPath,
    MovedBackbone,
    Quiet,
    TrustRemoteCode,
    check_results,
    fails_clearly,
    print_line,
    show_notes,
    write_json,
)
from predgen.errors import ConfigError


@fails_clearly
def push(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A fitted model.", show_default=False)],
    repository: Annotated[str, typer.Argument(metavar="ORG/NAME", help="Its name on the hub.", show_default=False)],
    public: Annotated[bool, typer.Option("--public", help="Everybody may see and load it.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before it is public.")] = False,
    revision: Annotated[
        str | None, typer.Option("--revision", metavar="BRANCH", help="The branch; main if not given.")
    ] = None,
    message: Annotated[str | None, typer.Option("--message", metavar="TEXT", help="Of the commit.")] = None,
    tag: Annotated[str | None, typer.Option("--tag", metavar="NAME", help="A name for the commit.")] = None,
    local_base: Annotated[
        bool, typer.Option("--local-base", help="Also where the base model is a folder or a file of this machine.")
    ] = False,
    backbone: MovedBackbone = None,
    trust_remote_code: TrustRemoteCode = False,
    json: JsonPath = None,
    quiet: Quiet = False,
) -> None:
    """Put a fitted model on the hub, private if nothing else is said.

    What goes there are the files of the model alone: weights, tokenizer, settings, card. It is loaded first, as others
    will. It needs a token of the hub that may write (hf auth login, or HF_TOKEN).

    [bold]Examples[/bold]

      predgen push stars-model org/stars

      predgen push stars-model org/stars --public --tag v1
    """
    show_notes(quiet)
    check_results(json)
    if public and not yes:
        _ask(repository)
    import predgen

    pushed = predgen.push(
        run,
        repository,
        private=not public,
        revision=revision,
        message=message,
        tag=tag,
        local_base=local_base,
        backbone=backbone,
        trust_remote_code=trust_remote_code,
    )
    result = {"url": pushed.url, "commit": pushed.commit, "private": pushed.private, "files": list(pushed.files)}
    write_json(json, result)
    print_line(f"'{run}' is at {pushed.url} ({'private' if pushed.private else 'public'}), commit {pushed.commit}.")


def _ask(repository: str) -> None:
    """Asks whether a model is to be public.

    Raises:
        ConfigError: it is not, or nobody answers.
    """
    try:
        agreed = typer.confirm(f"Everybody will see and may load '{repository}'. Make it public?", err=True)
    except typer.Abort:
        print_line("", err=True)  # the question's line is still open
        agreed = False
    if not agreed:
        raise ConfigError(
            "Expected a yes to a public model, found none: nothing was pushed. Use --yes, or no --public."
        )
