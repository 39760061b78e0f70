"""`millrace docs`: writes the generated documents of a checkout, or checks that they are fresh."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("docs")
@click.option("--check", is_flag=True, help="Write nothing; exit status 1 if a document is stale.")
@click.option(
    "--root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=".",
    help="The checkout; default: the current folder.",
)
@click.pass_context
def docs(ctx: click.Context, check: bool, root: Path) -> None:
    """Write asyncapi.yaml, docs/topics.md, docs/schemas/, docs/configuration.md and docs/features.md.

    \b
    Examples:
      millrace docs
      millrace docs --check
    """
    from stream_app.config import Settings, setting_docs
    from stream_app.docgen.documents import generated_documents, stale_documents, write_documents

    if not (root / "pyproject.toml").exists():
        msg = f"{root.resolve()} is not a checkout of Millrace (no pyproject.toml); change the folder or use --root"
        raise click.UsageError(msg)
    kafka = Settings().kafka
    documents = {**generated_documents(setting_docs(), kafka.partitions, kafka.replication, root), **_other_pages()}
    if not check:
        written = write_documents(root, documents)
        click.echo(f"{len(written)} of {len(documents)} written" + "".join(f"\n  {name}" for name in written))
        return
    stale = stale_documents(root, documents)
    for line in stale:
        click.echo(line)
    click.echo(f"{len(stale)} of {len(documents)} documents are stale" + ("; run `millrace docs`" if stale else ""))
    ctx.exit(1 if stale else 0)


def _other_pages() -> dict[str, str]:
    # Imported here: the feature engine is heavy.
    from stream_app.docgen.features_page import features_markdown
    from stream_app.features.catalog import CATALOGUE

    return {"docs/features.md": features_markdown(CATALOGUE)}
