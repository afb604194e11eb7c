"""From a mirror to packed arrays by the command line alone, over a connection that breaks."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.__main__ import main
from pipeline.data import cifar_fs, mirrors, transfer
from pipeline.data.mirrors import Downloads, Mirror
from pipeline.data.packed import Packed
from tests.faults.server import Answer, Server
from tests.unit import test_cifar_fs as forms

PAGE = Answer(b"<html>busy</html>", headers={"Content-Type": "text/html"})

# The authors' zip, and CIFAR-100's own tar.gz with pickles as Python 2 wrote them.
ARCHIVES: dict[str, Callable[[Path], Path]] = {
    "cifar100.zip": lambda at: forms.write_zip(at, forms.authors_files()),
    "cifar-100-python.tar.gz": lambda at: forms.write_tar(at, forms.official_files()),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_download_is_packed_to_the_images_that_were_served(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    body = ARCHIVES[name](tmp_path / name).read_bytes()
    monkeypatch.setattr(transfer, "CHUNK_BYTES", 1000)
    bad = server.file(f"bad-{name}", PAGE, size=len(body))
    good = server.file(
        name,
        Answer(body, sends=20_000),
        Answer(body),
        known_hash=f"md5:{hashlib.md5(body).hexdigest()}",
        size=len(body),
    )
    known = Downloads((Mirror("bad", (bad,)), Mirror("good", (good,))))
    monkeypatch.setattr(mirrors, "DOWNLOADS", {"cifar_fs": known})
    # The real data set has 100 classes of 600 images; this one, in the same form, has 4 of 6.
    monkeypatch.setattr(cifar_fs, "source", lambda _, raw: forms.open_tiny(raw))
    raw, out = tmp_path / "raw" / "cifar_fs", tmp_path / "packed"
    settings = json.dumps({"dataset": "cifar_fs", "source": "cifar_fs"})

    assert main(["fetch", "--dataset", "cifar_fs", "--out", str(raw)]) == 0
    pack = ["pack", "--settings", settings, "--raw", str(raw / "archive"), "--out", str(out)]
    assert main(pack) == 0

    assert server.ranges(name) == [None, "bytes=20000-"]
    packed = Packed.open(out)
    for split, names in forms.CLASSES.items():
        expected = [forms.pixels(name, stem) for name in names for stem in sorted(forms.STEMS)]
        np.testing.assert_array_equal(packed.images(split), expected)
