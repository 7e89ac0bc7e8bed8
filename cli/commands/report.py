"""`featstore report`."""

from typing import TYPE_CHECKING, Any

import click

from featstore.messages import count, listed

from ..finding import find_head, find_table, load_any_head, load_head
from ..options.groups import command, option_group
from ..options.shared import result_options
from ..options.table import head_table_options, scored_split_option
from ..printing import (
    accuracy_text,
    bar,
    example,
    interval_text,
    note,
    print_json,
    print_table,
    share,
    short_path,
)

if TYPE_CHECKING:
    from featstore import FeatureTable, Head, LabelCurve, LabelReport, LearningCurve, MultiLabelHead, Report

__all__ = ["report"]


@command(
    epilog=example("featstore report logistic --store digits.fstore -o report.html"),
    short_help="Write a report with photos as one HTML file: mistakes, suspects, duplicates, a map.",
)
@click.argument("head", metavar="HEAD")
@head_table_options("Catalog of labels and photos to report on")
@option_group(
    "Contents",
    scored_split_option,
    click.option("--curve", "with_curve", is_flag=True, help="Add a learning curve, which takes 21 fits."),
    click.option("--no-suspects", is_flag=True, help="Do not look for wrong labels, which takes 10 fits."),
    click.option(
        "--no-images", is_flag=True, help="Embed no photos; paths and labels are in the report all the same."
    ),
    click.option(
        "--budget-mb",
        type=click.FloatRange(min=0, min_open=True),
        default=15,
        help="Maximum size of the file in megabytes; photos are as large as fits.",
    ),
    click.option(
        "--max-images",
        type=click.IntRange(min=1),
        default=50_000,
        help="Maximum number of images on the map.",
    ),
    click.option(
        "--map",
        "map_by",
        type=click.Choice(["pca", "umap"]),
        default="pca",
        help="Layout of the map: principal components, or UMAP (needs featstore[umap]).",
    ),
)
@result_options(
    click.option(
        "--output",
        "-o",
        metavar="FILE.html",
        type=click.Path(),
        default="report.html",
        help="File to write.",
    )
)
def report(
    head: str,
    store: str | None,
    catalog: tuple[str, ...],
    split: str | None,
    with_curve: bool,
    no_suspects: bool,
    no_images: bool,
    budget_mb: float,
    max_images: int,
    map_by: str,
    output: str,
    force: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Write a report on HEAD as one HTML file, which opens in any browser without a network.

    HEAD is the name of a head in the store, or a .head file. The report shows the scores of `featstore
    evaluate` and the photos behind them: a click on a number of the confusion matrix opens its photos; each
    class has its most confident, worst and most typical ones. Mistakes are ranked by confidence, labels by
    how likely they are wrong, images by how unlike the training images they are. Duplicates are marked where
    they are spread over splits. The map shows all images by their features.

    Of a head that gives several labels, each label has its precision-recall curve, and mistakes are labels
    that are missed or extra.

    Small copies of the photos are embedded: give the file only to those who may see them, or use --no-images.
    """
    import featstore
    from featstore.reporting import check_report_path

    path, home = find_head(head, store)
    fitted = load_any_head(path)
    if not isinstance(fitted, featstore.MultiLabelHead):
        # It refuses heads that predict a number.
        fitted = load_head(path)
    table = find_table(fitted, home, catalog)
    check_report_path(output, overwrite=force, inputs=table.paths.tolist())
    options: dict[str, Any] = {
        "images": not no_images,
        "suspects": not no_suspects,
        "budget_mb": budget_mb,
        "max_images": max_images,
        "map_by": map_by,
        "overwrite": force,
    }
    options["curve"] = _learning_curve(fitted, table, quiet=quiet) if with_curve else None
    made: Report | LabelReport
    with bar(None, quiet=quiet) as progress:
        if isinstance(fitted, featstore.MultiLabelHead):
            options["split"] = split or "test"
            made = featstore.report_labels(fitted, table, output, progress=progress, **options)
        else:
            options["split"] = split or ("test" if fitted.choice["fitted_on"] else "all")
            made = featstore.report(fitted, table, output, progress=progress, **options)
    if as_json:
        print_json(made.to_dict())
        return
    _print_report(made, wants_images=not no_images)


def _learning_curve(
    head: "Head | MultiLabelHead", table: "FeatureTable", *, quiet: bool
) -> "LearningCurve | LabelCurve":
    import featstore

    if isinstance(head, featstore.MultiLabelHead):
        of_views = {"train": head.train_views, "test": head.test_views}
        with bar(None, quiet=quiet, unit="fit") as progress:
            return featstore.learning_curve_of_labels(
                table, head=head.name, rule=head.split_rule, views=of_views, progress=progress
            )
    if head.name not in {one.name for one in featstore.known_heads()} or head.extension:
        raise click.UsageError(
            f"--curve fits heads of the same kind again; {head.name} is not one of `featstore heads`: "
            "leave it out"
        )
    views = {"train": head.train_views, "test": head.test_views} if head.test_views > 1 else None
    with bar(None, quiet=quiet, unit="fit") as progress:
        return featstore.learning_curve(
            table, head=head.name, rule=head.split_rule, views=views, progress=progress
        )


def _print_report(made: "Report | LabelReport", *, wants_images: bool) -> None:
    from featstore import Report

    if isinstance(made, Report):
        scores = f"accuracy {accuracy_text({'top1': made.top1, 'top1_ci': made.top1_ci}, made.n)}"
    else:
        scores = f"mAP {share(made.map)} (95% interval {interval_text(made.map_ci)}, n = {made.n:,})"
    n_without = made.n_images - made.n_thumbnails
    photos = "none"
    if made.n_thumbnails:
        photos = f"{made.n_thumbnails:,}, up to {made.thumbnail_px} px" + (
            f"; {n_without:,} without" if n_without else ""
        )
    print_table(
        ("report", short_path(made.path)),
        [
            ("size", f"{made.n_bytes / 1e6:.1f} MB"),
            ("images", made.n_images),
            ("photos", photos),
            (made.split, scores),
        ],
        left=2,
    )
    for part, reason in made.left_out.items():
        if reason != "not asked for":
            note(f"{part} left out: {reason}")
    if made.unreadable:
        reasons = sorted({one["reason"] for one in made.unreadable})
        note(f"{count(len(made.unreadable), 'photo')} could not be read: {listed(reasons, most=3)}")
    elif wants_images and n_without:
        note("the others do not fit into the budget: raise --budget-mb to show them")
