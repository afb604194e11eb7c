"""Where the data sets are handed on, and what is known of the files there."""

from dataclasses import dataclass

from pipeline.config.fields import nearest
from pipeline.errors import UserError


@dataclass(frozen=True)
class RemoteFile:
    """A file that a mirror gives, and what is known of it."""

    name: str
    url: str
    known_hash: str | None = None  # algorithm:hexdigest
    size: int | None = None  # bytes

    def __str__(self) -> str:
        size = "unknown size" if self.size is None else f"{self.size} bytes"
        return f"{self.url} ({self.known_hash or 'unknown hash'}, {size})"


@dataclass(frozen=True)
class Mirror:
    """A place that gives a whole data set, in one file or in several."""

    name: str  # also that of a folder
    files: tuple[RemoteFile, ...]

    @property
    def several(self) -> bool:
        return len(self.files) > 1

    @property
    def size(self) -> int | None:
        """All its bytes, where they are known."""
        sizes = [file.size for file in self.files if file.size is not None]
        return sum(sizes) if len(sizes) == len(self.files) else None


@dataclass(frozen=True)
class Downloads:
    """All places of a data set; its reader takes any form that they give."""

    mirrors: tuple[Mirror, ...]  # in the order in which they are tried
    by_hand: tuple[str, ...] = ()  # what a person can do where no mirror gives it


def of_dataset(dataset: str) -> Downloads:
    """Where to download a data set; raises UserError where no place is known."""
    if dataset not in DOWNLOADS:
        raise UserError(
            f"there is no download for the data set {dataset}; {nearest(dataset, DOWNLOADS)}. "
            "A copy of your own is named by path in config.yaml; generated images need neither."
        )
    return DOWNLOADS[dataset]


def _zenodo(name: str) -> str:
    return f"https://zenodo.org/records/7978538/files/{name}?download=1"


def _dropbox(name: str) -> str:
    return f"https://www.dropbox.com/s/{name}?dl=1"


def _drive(key: str) -> str:
    # "confirm" answers the question that Google asks about files too large for its virus scan.
    return f"https://drive.usercontent.google.com/download?id={key}&export=download&confirm=t"


# The order: places that are made to be downloaded from come before Google Drive, whose quota is
# often used up, and files with a known hash before others.

_CIFAR_FS = Downloads(
    (
        Mirror(
            "toronto",
            (
                RemoteFile(
                    "cifar-100-python.tar.gz",
                    "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
                    "md5:eb9058c3a382ffc7106e4002c42a8d85",
                    169_001_437,
                ),
            ),
        ),
        Mirror("zenodo", (RemoteFile("cifar100.zip", _zenodo("cifar100.zip")),)),
        Mirror(
            "r2d2-drive",
            (RemoteFile("cifar100.zip", _drive("1pTsCCMDj45kzFYgrnO67BWVbKs48Q3NI")),),
        ),
    )
)


def _learn2learn(train: str, validation: str, test: str) -> tuple[RemoteFile, ...]:
    """The three pickles of learn2learn; hashes and sizes are those of its Zenodo record."""
    known = {
        "train": ("ee4e80dc7b716f3ceec891d199b5277a", 1_145_461_190),
        "validation": ("c1145a80890b88d54a67d6e0022d53a5", 292_661_258),
        "test": ("389b6c59d348b2e1ae9610f00a5e6724", 353_647_539),
    }
    return tuple(
        RemoteFile(f"mini-imagenet-cache-{part}.pkl", url, f"md5:{known[part][0]}", known[part][1])
        for part, url in (("train", train), ("validation", validation), ("test", test))
    )


def _ren(key: str) -> tuple[RemoteFile, ...]:
    """The archive of Ren et al. (2018); the hash is torchmeta's."""
    return (
        RemoteFile("mini-imagenet.tar.gz", _drive(key), "md5:b38f1eb4251fb9459ecc8e7febf9b2eb"),
    )


_MINI_IMAGENET = Downloads(
    (
        Mirror(
            "zenodo",
            _learn2learn(
                *(
                    _zenodo(f"mini-imagenet-cache-{part}.pkl")
                    for part in ("train", "validation", "test")
                )
            ),
        ),
        Mirror(
            "learn2learn-dropbox",
            _learn2learn(
                _dropbox("9g8c6w345s2ek03/mini-imagenet-cache-train.pkl"),
                _dropbox("ip1b7se3gij3r1b/mini-imagenet-cache-validation.pkl"),
                _dropbox("ye9jeb5tyz0x01b/mini-imagenet-cache-test.pkl"),
            ),
        ),
        Mirror(
            "learn2learn-drive",
            _learn2learn(
                _drive("1I3itTXpXxGV68olxM5roceUMG8itH9Xj"),
                _drive("1KY5e491bkLFqJDp0-UWou3463Mo8AOco"),
                _drive("1wpmY-hmiJUUlRBkO9ZDCXAcIpHEFdOhD"),
            ),
        ),
        Mirror("ren-drive", _ren("16V_ZlkW4SsnNDtnGmaBRq2OoPmUOc5mY")),
        Mirror("ren-drive-copy", _ren("1LLUjwSUpWGSWizl3JZxd08V30_dIaRBx")),
        Mirror(
            "metaoptnet-drive",
            (RemoteFile("miniImageNet.zip", _drive("12V7qi-AjrYi6OoJdYcN_k502BM_jcP8D")),),
        ),
        Mirror(
            "r2d2-drive",
            (RemoteFile("miniimagenet.zip", _drive("1R6dA6QGEW-lmiNkitCwK4IkAbl4uT3y3")),),
        ),
    ),
    by_hand=(
        "the pickles miniImageNet_category_split_*.pickle of Gidaris and Komodakis (2018), which "
        "github.com/gidariss/FewShotWithoutForgetting links to; put them into one folder and set "
        "the path to it",
        "the archive mini_imagenet_full_size of Antoniou et al. (2019), from drive.google.com/"
        "file/d/1qQCoGoEJKUCQkk8roncWH7rhPN7aMfBr; set the path to it",
        "the images themselves, which image-net.org gives only to those who have accepted its "
        "terms in person. Sign in there and fetch, under ILSVRC2012, the training images, "
        "ILSVRC2012_img_train.tar (md5:1d675b47d978889d74fa0da5fadfb00e, 138 GB). Put train.csv, "
        "val.csv and test.csv beside it, from the folder data/miniImagenet of "
        "github.com/twitter/meta-learning-lstm, and set the path to the .tar",
    ),
)

DOWNLOADS = {"cifar_fs": _CIFAR_FS, "mini_imagenet": _MINI_IMAGENET}
