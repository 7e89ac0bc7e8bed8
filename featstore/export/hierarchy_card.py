"""What the model card says of a hierarchy of classes."""

from featstore.export.description import ModelDescription
from featstore.heads import Hierarchy
from featstore.messages import printable

__all__ = ["hierarchy_section"]

_SHOWN = 200


def hierarchy_section(described: ModelDescription) -> list[str]:
    """Return the section on the ancestors of the classes; nothing without any."""
    parents = described.head.get("parents")
    if not parents:
        return []
    hierarchy = Hierarchy.of(described.classes, parents)
    lines = [f"- {printable(' > '.join(chain))}" for chain in sorted(hierarchy.chains)]
    more = [f"- and {len(lines) - _SHOWN:,} more"] if len(lines) > _SHOWN else []
    return [
        "\n".join(
            [
                "## Hierarchy",
                "",
                "An ancestor is as probable as all classes below it together. The output has the classes "
                "alone: where none is probable enough, answer with the deepest ancestor that is. "
                "`model.json` has the `parents` under `head`; `featstore predict --back-off 0.9` does this.",
                "",
                *lines[:_SHOWN],
                *more,
                "",
            ]
        )
    ]
