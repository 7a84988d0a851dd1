"""``meshrelay default-config``: the sample configuration, or the reference page of the documentation."""

from __future__ import annotations

import click

from meshrelay.config.sample import reference_page, sample_file

__all__ = ["command"]


@click.command(name="default-config")
@click.option(
    "--format",
    "form",
    type=click.Choice(["toml", "rst"]),
    default="toml",
    show_default=True,
    help="A file to start from, or the reference page.",
)
def command(form: str) -> None:
    """Print every key with its default, range and meaning."""
    click.echo(sample_file() if form == "toml" else reference_page(), nl=False)
