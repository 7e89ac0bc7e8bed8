"""`featstore cache`."""

import click

from featstore.messages import count

from ..options.shared import json_option
from ..printing import echo, example, print_json, print_table

__all__ = ["cache"]


@click.command(epilog=example("featstore cache"), short_help="Show or clear the cache folder.")
@click.option("--clear", is_flag=True, help="Delete the cache; it is rebuilt when needed.")
@json_option
def cache(clear: bool, as_json: bool) -> None:
    """Show the contents of the cache folder: converted networks, digests of files, lists of shards, objects.

    The cache saves the seconds of importing TensorFlow and converting a network, and a second download of
    objects of stores in buckets (at most $FEATSTORE_CACHE_GB, 20 by default); nothing else depends on it.
    It stays behind when featstore is uninstalled. The folder is $FEATSTORE_CACHE, or else your system's cache
    folder. ImageNet weights downloaded by Keras are in ~/.keras/models and are not touched.
    """
    from featstore.backbones import cache_contents, clear_cache

    contents = clear_cache() if clear else cache_contents()
    if as_json:
        print_json({**contents.to_dict(), "cleared": clear})
        return
    contained = (
        f"{contents.n_bytes / 1e6:,.1f} MB in {count(len(contents.networks), 'network')} and "
        f"{count(contents.n_entries, 'digest')}"
        + (f" and {count(contents.n_copies, 'object')}" if contents.n_copies else "")
    )
    echo(f"folder   {contents.folder}")
    click.echo(f"{'removed' if clear else 'kept   '}  {contained}")
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
        click.echo("`featstore cache --clear` deletes it")
