"""`featstore review`."""

from typing import TYPE_CHECKING

import click

from featstore.messages import count, printable

from ..finding import find_head, find_table, load_head
from ..options.address import address_options, address_text
from ..options.groups import DATA, command, option_group
from ..options.shared import store_option, trust_option
from ..printing import example, note, short_path

if TYPE_CHECKING:
    from featstore.reviewing import ReviewSession

__all__ = ["review"]


@command(
    epilog=example("featstore review logistic --store digits.fstore"),
    short_help="Review doubtful labels in the browser, and correct them.",
)
@click.argument("head", metavar="HEAD")
@option_group(
    DATA,
    trust_option,
    store_option("Store of the features.", default="the head's, or the only store here"),
    click.option(
        "--catalog", metavar="NAME", multiple=True, help="Catalog of labels to review.  [default: the head's]"
    ),
    click.option(
        "--corrections",
        "path",
        metavar="FILE",
        type=click.Path(),
        default="corrections.csv",
        help="File that decisions are written to; those in it are kept.",
    ),
    click.option(
        "--who", metavar="NAME", help="Name of the reviewer, kept in the file.  [default: your user name]"
    ),
    click.option(
        "--most",
        type=click.IntRange(min=1),
        default=100,
        help="Maximum number of images of each kind in the queue.",
    ),
)
@address_options(port=8502)
def review(
    head: str,
    store: str | None,
    catalog: tuple[str, ...],
    path: str,
    who: str | None,
    most: int,
    host: str,
    port: int,
    token: str | None,
) -> None:
    """Show doubtful images of HEAD's store on a page, and write what you decide to a file of corrections.

    HEAD is the name of a head in the store, or a .head file. The queue has labels that may be wrong, copies
    and near-duplicates with different labels, unlabelled images that are worth a label, images that HEAD is
    least sure of, and images unlike all training images. By keyboard or mouse, confirm the label, give
    another one, leave the image out, mark it as a duplicate of the other one shown, or undo.

    Every decision is in the file at once, by the content of the image, so that it holds wherever the image is
    moved to. Neither photos nor store are changed: `featstore fit --corrections FILE` (and evaluate, report
    and the others) applies the file to the labels that it works on, `featstore extract --corrections FILE` to
    the catalog. What a later line of the file says of the same image counts.

    Only requests from this machine are answered, unless --host says otherwise, which requires a token.
    """
    from featstore.reviewing import ReviewSession
    from featstore.reviewing import review as run
    from featstore.serving import bound_socket, check_packages

    check_packages()
    bound = bound_socket(host, port, token=token or None)
    with bound:
        file, home = find_head(head, store)
        fitted = load_head(file)
        session = ReviewSession(fitted, find_table(fitted, home, catalog), path, who=who, most=most)
        for kind, reason in session.queue.left_out.items():
            note(f"{kind} left out: {reason}")
        before = session.n_decided

        def ready() -> None:
            n_images = count(len(session.queue.items), "image")
            click.echo(f"{n_images} to review on {address_text(bound)}")
            click.echo(f"decisions go to {printable(short_path(session.path))}")

        run(session, bound, token=token or None, ready=ready)
        click.echo(_outcome(session, before))


def _outcome(session: "ReviewSession", before: int) -> str:
    """Return what a review has come to, in a line."""
    path, n_decided = printable(short_path(session.path)), session.n_decided
    n_new, decided = n_decided - before, count(n_decided, "image")
    if not n_decided:
        return "no image decided"
    apply = f"apply them with `featstore fit --corrections {path}`"
    if not n_new:
        are = "is" if n_decided == 1 else "are"
        return f"nothing decided now; {decided} {are} decided in {path} from before; {apply}"
    return f"{decided} decided, {n_new:,} of them now; {apply}"
