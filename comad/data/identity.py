"""What a data set is, told from what was read: name, split, subset, manifest, counts.

Plain Python: run records and cards hold it, and tables are made without importing torch.
"""

from typing import Annotated

from msgspec import Meta, Struct

Count = Annotated[int, Meta(ge=0)]


class DataIdentity(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One split of a data set as a run read it.

    Args:
        name: ``imagenet-1k``, ``ade20k``, ``coco`` or ``sample`` where the data are that; else the
            name of the data's folder.
        split: Which part, ``train`` or ``val`` mostly.
        subset: What was taken of the split, None for all of it.
        images: Number of images that were read, after ``subset``.
        classes: Number of classes that the data name.
        reencoded: How the images were made smaller, in words; None for original files.
        manifest: What `comad.data.manifest.cited_digest` cites; None without a manifest.
        problems: How many problems the check behind the manifest found; None where none was made.
    """

    name: str
    split: str
    subset: str | None = None
    images: Count
    classes: Count
    reencoded: str | None = None
    manifest: str | None = None
    problems: Count | None = None

    @property
    def text(self) -> str:
        """Name, subset and re-encoding, as a table's cell shows them."""
        return ', '.join(part for part in (self.name, self.subset, self.reencoded) if part)
