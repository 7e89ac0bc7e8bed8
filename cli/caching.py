"""`featstore cache`."""

import click

from .console import count, example, json_option, print_json, print_table, say

__all__ = ["cache"]


@click.command(epilog=example("featstore cache"), short_help="Show or clear what is kept to save time.")
@click.option("--clear", is_flag=True, help="Remove it; it is made again when it is needed.")
@json_option
def cache(clear: bool, as_json: bool) -> None:
    """Show what featstore keeps in your cache folder: converted networks, and digests of weights files.

    It saves the seconds of importing TensorFlow and converting a network, and nothing else depends on it.
    Uninstalling featstore leaves it behind. The folder is $FEATSTORE_CACHE, or one of your system's. ImageNet
    weights that Keras downloaded are Keras' own, in ~/.keras/models, and are left alone.
    """
    from featstore.backbones.cache_listing import cache_contents, clear_cache

    contents = clear_cache() if clear else cache_contents()
    if as_json:
        print_json({**contents.to_dict(), "cleared": clear})
        return
    kept = (
        f"{contents.n_bytes / 1e6:,.1f} MB in {count(len(contents.networks), 'network')} and "
        f"{count(contents.n_entries, 'digest')}"
    )
    say(f"folder   {contents.folder}")
    click.echo(f"{'removed' if clear else 'kept   '}  {kept}")
    if clear:
        return
    rows = [
        (
            network.architecture or "(interrupted)",
            network.layer,
            "x".join(map(str, network.size_px)),
            f"{network.n_bytes / 1e6:,.1f}",
        )
        for network in contents.networks
    ]
    if rows:
        print_table(("network", "layer", "input px", "MB"), rows, left=2)
        click.echo("`featstore cache --clear` removes it")
