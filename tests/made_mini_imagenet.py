"""Write a mini-ImageNet of generated images, whole and in a true form, to rehearse with.

``python -m tests.made_mini_imagenet LISTS ARCHIVE`` takes the classes from the Ravi-Larochelle
lists train.csv, val.csv and test.csv in LISTS. ARCHIVE becomes a tar of three pickles of Python 2,
as the real cache is handed on: 60,000 images of 84 x 84 pixels.
"""

import csv
import io
import sys
import tarfile
from pathlib import Path

import numpy as np

from pipeline.data.synthetic import Synthetic
from tests.unit.raw_data import python2_pickle


def write(lists: Path, archive: Path) -> None:
    images = Synthetic(image_size=84, images_per_class=600)
    with tarfile.open(archive, "w") as tar:
        for split, made in zip(("train", "val", "test"), images.classes.values(), strict=True):
            with (lists / f"{split}.csv").open(newline="") as rows:
                names = sorted({row["label"] for row in csv.DictReader(rows)})
            cache = {
                "image_data": np.concatenate([images.images(name) for name in made]),
                "class_dict": {
                    name: list(range(600 * place, 600 * place + 600))
                    for place, name in enumerate(names)
                },
            }
            content = python2_pickle(cache)
            member = tarfile.TarInfo(f"mini-imagenet-cache-{split}.pkl")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
