"""Data: image sets and their batches, the readers of data sets, and image files.

Clips are images with one more axis, (t, c, h, w): `moving` draws some, `frames` reads films.

`dataset` says what a data set is; `idx`, `folder`, `patches` and `glyphs` hold the core's own, one factory each,
called with a DataRequest; `episodes` draws small tasks from a labelled set; `find` says where files lie; `files` reads
and writes pictures. `transforms` (turn, warp, resize, recolour) and `features` (filters, edges, texture, colour) are
modules of plain functions on arrays of any backend.
"""

from tinygen.data.dataset import ArrayImages, Batch, Batches, DataRequest, Dataset, DataSpec, DrawnImages, ImageSet
from tinygen.data.episodes import Episode, Episodes, FeatureImages, FixedEpisodes, Support, episodes_from
from tinygen.data.files import read_alpha, read_image, read_mask, resize_and_crop, write_atomically, write_image
from tinygen.data.find import data_folders
from tinygen.data.folder import FileImages
from tinygen.data.idx import read_idx

__all__ = [
    "ArrayImages",
    "Batch",
    "Batches",
    "DataRequest",
    "DataSpec",
    "Dataset",
    "DrawnImages",
    "Episode",
    "Episodes",
    "FeatureImages",
    "FileImages",
    "FixedEpisodes",
    "ImageSet",
    "Support",
    "data_folders",
    "episodes_from",
    "read_alpha",
    "read_idx",
    "read_image",
    "read_mask",
    "resize_and_crop",
    "write_atomically",
    "write_image",
]
