"""The page holds every number, shows where each comes from, and opens anywhere."""

import base64
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image
from small_report import RUNS, SECRET, TABLES, settings_of, write_report, write_run

from pipeline import records
from pipeline.data.contact_sheet import describe
from pipeline.data.packed import Passport
from pipeline.errors import UserError
from pipeline.files import write_json, write_text
from pipeline.report import contents, page, parts, provenance
from pipeline.report.contents import Part
from pipeline.report.results import Results
from tests.conftest import ROOT

PLACE = "evals/synthetic_cifar_fs/r2d2_classical/seed0.json"
CELL = "table3/cifar-fs/r2-d2/classical/1-shot"


class Page(HTMLParser):
    """Elements with their attributes, the text of those that have an id, and all text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.inside: dict[str, str] = {}
        self.links_inside: dict[str, list[str]] = {}
        self._open: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self._open, "elements that nobody closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.elements.append((tag, attributes))
        if tag == "a":
            for _, name in self._open:
                if name:
                    self.links_inside.setdefault(name, []).append(unquote(attributes["href"][1:]))
        if tag not in ("meta", "link", "img", "br", "wbr"):
            self._open.append((tag, attributes.get("id")))

    def handle_endtag(self, tag: str) -> None:
        opened, _ = self._open.pop()
        assert opened == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1][0] not in ("style", "script"):
            self.text += data
        for _, name in self._open:
            if name:
                self.inside[name] = self.inside.get(name, "") + data

    def attributes(self, name: str) -> list[str]:
        return [attributes[name] for _, attributes in self.elements if name in attributes]


def words(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page") / "results/demo"
    settings = write_report(folder)
    data = folder.parent / "packed"
    write_passport(data / "synthetic_cifar_fs", sheets=True)
    page.write(Results(folder, settings), settings, data)
    return folder


@pytest.fixture(scope="module")
def made(results: Path) -> Page:
    return Page((results / "report.html").read_text(encoding="utf-8"))


def write_passport(folder: Path, sheets: bool = False, **changes: Any) -> None:
    write_json(
        folder / "passport.json",
        {
            "version": 2,
            "dataset": folder.name,
            "source": "drawn by a test",
            "origin": {"form": "generated", "variant": "reference", "notes": ["A note on pixels."]},
            "image_size": 16,
            "images_per_class": 20,
            "classes": {"base": ["bear", "bee"], "novel": ["bed"], "validation": ["beaver"]},
            "fingerprint": "fingerprint-of-pixels",
            "channel_mean": [0.5, 0.25, 0.125],
            "channel_std": [0.1, 0.2, 0.3],
            "duplicates": {"within_splits": 3, "across_splits": 1, "pairs": []},
        }
        | changes,
    )
    if sheets:
        (folder / "contact_sheets").mkdir()
        for split in ("base", "validation"):
            Image.new("RGB", (8, 8)).save(folder / "contact_sheets" / f"{split}.png")


def written(folder: Path, scale: str = "demo", **changes: Any) -> Page:
    """The page of what a folder holds."""
    settings = settings_of("page", scale) | changes
    page.write(Results(folder, settings), settings, folder / "packed")
    return Page((folder / "report.html").read_text(encoding="utf-8"))


# One file, which opens without a network


def test_nothing_outside_the_file_is_asked_for(results: Path, made: Page) -> None:
    assert made.attributes("src")
    assert all(source.startswith("data:image/") for source in made.attributes("src"))
    assert {link[0] for link in made.attributes("href")} == {"#", "d"}
    assert [link for link in made.attributes("href") if link[0] != "#"] == ["data:,"]
    text = (results / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|@import|url\(|fetch\(|XMLHttp|import\(", text)


def test_every_id_stands_once_and_every_link_leads_somewhere(made: Page) -> None:
    ids = Counter(made.attributes("id"))
    assert {name for name, n in ids.items() if n > 1} == set()
    links = {unquote(link[1:]) for link in made.attributes("href") if link[0] == "#"}
    assert len(links) > 200
    assert links - ids.keys() == set()


def test_the_same_files_give_the_same_page(results: Path, tmp_path: Path) -> None:
    before = (results / "report.html").read_bytes()
    settings = settings_of("page")
    page.write(Results(results, settings), settings, results.parent / "packed")
    assert (results / "report.html").read_bytes() == before


def test_the_page_is_made_without_heavy_libraries(results: Path) -> None:
    program = (
        "import sys, json; from pathlib import Path; from pipeline.report import page;"
        "from pipeline.report.results import Results; settings = json.load(sys.stdin);"
        "page.write(Results(Path(sys.argv[1]), settings), settings, Path(sys.argv[2]));"
        "print(sorted({'torch', 'pandas', 'matplotlib', 'PIL', 'tabulate'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, results, results.parent / "packed"],
        input=json.dumps(settings_of("page")),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"


# What stands on it, and in which order


def test_the_scorecard_comes_first_with_the_number_of_each_verdict(
    results: Path, made: Page
) -> None:
    claims = json.loads((results / "claims.json").read_text())["claims"]
    counts = Counter(claim["verdict"] for claim in claims)
    text = words(made.text)
    for verdict, sign in parts.VERDICTS.items():
        assert f"{counts[verdict]}{sign} {verdict}" in text
    ids = made.attributes("id")
    assert ids[0] == "claims"
    places = [ids.index(f"claims/{claim['id']}") for claim in claims]
    assert places == sorted(places)
    assert max(places) < ids.index("tables/table1")


def test_a_verdict_is_a_word_and_a_sign_beside_its_colour(results: Path, made: Page) -> None:
    for claim in json.loads((results / "claims.json").read_text())["claims"]:
        shown = words(made.inside[f"claims/{claim['id']}"])
        assert f"{parts.VERDICTS[claim['verdict']]} {claim['verdict']}" in shown
        assert words(claim["statement"]) in shown
        assert claim["reason"] in shown


def test_tables_and_figures_come_in_the_papers_order_then_the_others(made: Page) -> None:
    ids = made.attributes("id")
    expected = ["tables/table1", "tables/table2", "figures/figure1a", "figures/figure2b"]
    expected += ["tables/table3", "tables/table6", "figures/figure3b"]
    expected += ["chapter-2", "tables/coefficient_sweep", "figures/coefficient_sweep", "data"]
    places = [ids.index(name) for name in expected]
    assert places == sorted(places)


def test_every_table_and_figure_of_the_settings_is_shown_once() -> None:
    settings = settings_of("page")
    shown = [part for chapter in contents.chapters(settings).values() for part in chapter]
    assert sorted(shown) == sorted(
        [Part("tables", name) for name in settings["tables"]]
        + [Part("figures", name) for name in settings["figures"]]
    )
    paper, others = contents.chapters(
        settings | {"tables": ["table3", "mine"], "figures": []}
    ).values()
    assert (paper, others) == ([("tables", "table3")], [("tables", "mine")])


@pytest.mark.parametrize("name", TABLES)
def test_every_number_of_a_table_is_shown(name: str, results: Path, made: Page) -> None:
    content = json.loads((results / f"tables/{name}.json").read_text())
    for cell in parts.cells_of(content):
        shown = words(made.inside[f"tables/{name}/{cell['address']}"])
        marks = "".join([*cell["marks"], " " * bool(cell["interval"]), cell["interval"]])
        paper = f" paper {cell['paper']}{''.join(cell['paper_marks'])}" if cell["paper"] else ""
        assert shown == f"{cell['ours']}{marks}{paper}"
    for note in content["notes"]:
        assert words(note) in words(made.inside[f"tables/{name}"])


def test_a_figure_is_inside_the_page_at_the_size_of_its_letters(made: Page) -> None:
    image = next(a for _, a in made.elements if a.get("class") == "plate")
    assert image["width"] == "380"
    assert base64.b64decode(image["src"].removeprefix("data:image/svg+xml;base64,")).startswith(
        b"<svg"
    )
    shown = words(made.inside["figures/figure1a"])
    assert "Figure 1a: Boundaries of <wide> & near classes What one sees: 5 % of it." in shown
    assert "A note of the figure." in shown


def test_text_is_no_markup(results: Path, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    shutil.copytree(results, folder)
    content = json.loads((folder / "tables/table3.json").read_text())
    evil = '<script>alert("1")</script>'
    content["heading"] = content["notes"][0] = content["sections"][0]["cells"][0]["row"] = evil
    write_json(folder / "tables/table3.json", content)
    found = written(folder)
    assert [tag for tag, _ in found.elements].count("script") == 1
    assert found.text.count(evil) == 3


# Where numbers come from


def test_a_number_leads_to_its_record_and_back(made: Page) -> None:
    assert made.links_inside[f"tables/{CELL}"] == [f"from/{CELL}"]
    origin = made.links_inside[f"from/{CELL}"]
    assert origin[:2] == [f"tables/{CELL}", f"records/{PLACE}"]
    assert "30 episodes" in words(made.inside[f"from/{CELL}"])
    assert "correct.1.svm" in made.inside[f"from/{CELL}"]


def test_a_claim_leads_to_the_cells_that_it_compares_and_they_lead_back(made: Page) -> None:
    other = "table3/cifar-fs/r2-d2/classical-w-r-fc/1-shot"
    claim = "claims/r_fc_improves_transfer"
    assert {f"tables/{CELL}", f"tables/{other}"} <= set(made.links_inside[claim])
    for cell in (CELL, other):
        assert claim in made.links_inside[f"from/{cell}"]
    assert claim in made.links_inside["tables/table3"]


def test_comparisons_that_do_not_count_are_counted_apart(made: Page) -> None:
    """As their verdict does, whose reason stands above them."""
    said = {
        "r_fc_improves_transfer": "8 comparisons",
        "weight_clustering_beats_reptile": "2 comparisons, and 2 not in the paper",
    }
    for claim, compared in said.items():
        assert f" {compared} Comparison " in words(made.inside[f"claims/{claim}"])


def test_a_record_says_all_that_is_needed_to_make_it_again(made: Page) -> None:
    shown = words(made.inside[f"records/{PLACE}"])
    for fact in (
        "run r2d2_classical",
        "data set synthetic_cifar_fs (generated images in the place of CIFAR-FS)",
        "seed 0",
        "scale demo",
        "code digest digest of evaluation",
        "hash of images images of synthetic_cifar_fs",
        "hash of weights cafe",
        f"numpy {np.__version__}",
        "device a machine",
        "wall time 4 min",
        '"regularization": 50.0',
        f"snakemake --cores all --config scale=demo --force -- results/demo/{PLACE}",
    ):
        assert fact in shown
    training = "records/runs/synthetic_cifar_fs/r2d2_classical/seed0/record.json"
    assert made.links_inside[f"records/{PLACE}"] == [training]
    assert '"algorithm": "classical"' in words(made.inside[training])


def test_values_of_single_episodes_are_not_in_the_page(results: Path) -> None:
    assert str(SECRET) in (results / PLACE).read_text()
    assert str(SECRET) not in (results / "report.html").read_text(encoding="utf-8")


def test_weights_of_a_similarity_are_of_all_its_runs_and_seeds() -> None:
    settings = settings_of("compare", dataset="synthetic_cifar_fs", run="r2d2_ridge")
    made: dict[str, Any] = {"scale": "demo", "stands_for": "cifar_fs", "run": "r2d2_ridge"}
    made |= {"code": "", "sources": {}, "versions": {}, "device": "", "wall_s": 0, "values": {}}
    record = records.Record(
        kind="similarity", dataset="synthetic_cifar_fs", seed=None, settings=settings, **made
    )
    place = "runs/{}/{}/seed{}/record.json".format
    known = [place("synthetic_cifar_fs", run, seed) for run in [*RUNS, "r2d2"] for seed in (0, 10)]
    known.append(place("synthetic_mini_imagenet", "r2d2_ridge", 0))
    assert provenance.trainings(record, known) == known[:6]
    of_seed = record.model_copy(update={"seed": 1, "settings": {}})
    assert provenance.trainings(of_seed, known) == []


# Data sets


def test_a_data_set_shows_its_passport_and_its_contact_sheets(made: Page) -> None:
    text = words(made.text)
    for fact in (
        "synthetic_cifar_fs (generated images in the place of CIFAR-FS) images 16x16 pixels, "
        "20 a class source drawn by a test form generated; variant: reference",
        "classes 2 base (40 images), 1 validation (20 images), 1 novel (20 images)",
        "mean 0.5000 0.2500 0.1250 (red, green, blue of the base classes)",
        "identical 3 pairs of images within a split, 1 across splits",
        "fingerprint fingerprint-of-pixels",
        "A note on pixels.",
        "Base classes and their contact sheet bear, bee",
        "Novel classes bed The contact sheet is pending.",
    ):
        assert fact in text
    assert [a["alt"].split()[4] for _, a in made.elements if a.get("class") == "sheet"] == [
        "base",
        "validation",
    ]


def test_the_page_says_of_a_data_set_what_a_terminal_does(tmp_path: Path) -> None:
    resized = {"form": "a tree", "variant": "own", "resize": "box", "notes": []}
    write_passport(tmp_path, origin=resized)
    shown = parts.data_set(tmp_path)
    passport = Passport.model_validate_json((tmp_path / "passport.json").read_bytes())
    lines = [line.split(maxsplit=1) for line in describe(passport).splitlines()]
    assert shown is not None
    assert lines == [[tmp_path.name], *map(list, shown["facts"].items())]


@pytest.mark.parametrize("change", [{"version": 1}, {"origin": {}}, {"classes": {"base": []}}])
def test_a_passport_of_another_version_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    write_passport(tmp_path / "packed/synthetic_cifar_fs", **change)
    with pytest.raises(UserError, match=r"(?s)passport\.json is not whole .*run snakemake again"):
        written(tmp_path)


def test_a_large_contact_sheet_is_made_smaller(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (700, 700, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.png")
    Image.fromarray(noise[:100, :100]).save(tmp_path / "small.png")
    address = parts.picture(tmp_path / "large.png")
    assert address.startswith("data:image/jpeg;base64,")
    assert len(address) < (tmp_path / "large.png").stat().st_size
    content = (tmp_path / "small.png").read_bytes()
    small = parts.picture(tmp_path / "small.png")
    assert small == f"data:image/png;base64,{base64.b64encode(content).decode()}"


def test_generated_images_are_said_to_be_so_at_the_top(made: Page) -> None:
    banner = "These numbers are of generated images. What is measured on synthetic_cifar_fs and "
    banner += "synthetic_mini_imagenet, verdicts too, shows that the pipeline works. It says "
    assert banner in words(made.text).partition("Claims of the paper")[0]


def test_real_images_need_no_such_banner(tmp_path: Path) -> None:
    write_run(tmp_path, "cifar_fs", "r2d2_ridge", scale="small")
    found = written(tmp_path, "small")
    text = words(found.text)
    assert "generated images" not in text
    assert "CIFAR-FS; mini-ImageNet (no data at this scale)" in text
    assert {attributes.get("class") for _, attributes in found.elements}.isdisjoint({"banner"})


# What is not there


def test_what_is_missing_is_pending(tmp_path: Path) -> None:
    found = written(tmp_path)
    text = words(found.text)
    assert "Pending: no claims.json yet." in text
    assert text.count("Pending: it is not packed here.") == 2
    again = "snakemake --cores all --config scale=demo --force -- results/demo/{}.json".format
    assert f"Pending. This makes it: {again('tables/table3')}" in words(
        found.inside["tables/table3"]
    )
    assert again("figures/figure2a") in words(found.inside["figures/figure2a"])
    n_missing = sum(
        len(records.places(kind, subjects, 1))
        for kind, subjects in settings_of("page")["records"].items()
    )
    assert f"Pending: {n_missing:,} records" in text
    assert f"results/demo/{PLACE}" in text


def test_a_figure_without_its_picture_is_pending(results: Path, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    shutil.copytree(results, folder)
    (folder / "figures/figure1a.svg").unlink()
    assert "The picture is pending." in written(folder).inside["figures/figure1a"]
    Image.new("RGB", (4, 4)).save(folder / "figures/figure1a.png")
    assert any(source.startswith("data:image/png") for source in written(folder).attributes("src"))


def test_pending_cells_are_counted_and_can_be_linked_to(results: Path, made: Page) -> None:
    content = json.loads((results / "tables/table3.json").read_text())
    cells = parts.cells_of(content)
    pending = [cell for cell in cells if cell["value"] is None]
    assert f"Pending: {len(pending)} of {len(cells)} numbers." in made.inside["tables/table3"]
    address = f"tables/table3/{pending[0]['address']}"
    assert made.inside[address].split()[0] == "pending"
    assert address not in made.links_inside


def test_a_claim_on_a_table_that_is_not_made_names_its_cells_without_a_link(made: Page) -> None:
    name = "table6/mini-imagenet/w-clustering/1-shot"
    assert name in made.inside["claims/weight_clustering_beats_reptile"]
    assert f"tables/{name}" not in made.attributes("id")


def test_a_torn_file_is_refused(results: Path, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    shutil.copytree(results, folder)
    write_text(folder / "tables/table3.json", '{"heading": ')
    with pytest.raises(UserError, match=r"table3\.json is not whole .*delete it and run snakemake"):
        written(folder)


# In a browser

PROBE = """<script>
const errors = [];
addEventListener("error", event => errors.push(String(event.message)));
console.error = (...words) => errors.push(words.join(" "));
</script>"""
# Sorts by the first number of a table, looks for dead links, and tells the frame around it.
FINDINGS = """<script>
addEventListener("load", () => {
  const page = document.documentElement;
  const dead = [...document.querySelectorAll('a[href^="#"]')].map(link => link.getAttribute("href"))
    .filter(link => !document.getElementById(decodeURIComponent(link.slice(1))));
  const table = document.querySelector("#tables\\\\/table3 table.sortable");
  const values = () => [...table.tBodies[0].rows].map(row => row.cells[1].dataset.value ?? null);
  const button = table.tHead.rows[0].cells[1].querySelector("button");
  button.focus();
  const focused = document.activeElement === button;
  button.click();
  const rising = values();
  button.click();
  const falling = values();
  const order = table.tHead.rows[0].cells[1].getAttribute("aria-sort");
  location.hash = "#from/" + CELL;
  setTimeout(() => {
    const target = document.getElementById("from/" + CELL);
    const open = target.closest("details").open && target.getBoundingClientRect().height > 0;
    for (const fold of document.querySelectorAll("details")) fold.open = true;
    const wide = [...document.querySelectorAll("main *")].filter(
      one => !one.parentElement.closest(".scroll, pre") && one.getBoundingClientRect().right > page.clientWidth + 1
    ).map(one => one.tagName + "." + one.className);
    parent.postMessage({errors, dead, focused, rising, falling, order, open, wide,
      width: page.clientWidth, scroll: page.scrollWidth}, "*");
  }, 50);
});
</script>"""
FRAMES = """<!DOCTYPE html><body><pre id="found"></pre><script>
const found = [];
addEventListener("message", event => {
  found.push(event.data);
  if (found.length === 2) document.getElementById("found").textContent = JSON.stringify(found);
});
</script>
<iframe src="probe.html" style="width: 360px; height: 800px; border: 0"></iframe>
<iframe src="probe.html" style="width: 1280px; height: 800px; border: 0"></iframe></body>"""


@pytest.fixture(scope="module")
def in_browser(results: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two frames of 360 and 1280 pixels find in the page."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    browser = next(filter(None, map(shutil.which, names)), None)
    if browser is None:
        pytest.skip("no chromium is on the PATH")
    folder = tmp_path_factory.mktemp("browser")
    text = (results / "report.html").read_text(encoding="utf-8")
    text = text.replace("<head>", f"<head>{PROBE}", 1)
    findings = FINDINGS.replace("CELL", json.dumps(CELL))
    text = text.replace("</body>", f"{findings}</body>", 1)
    (folder / "probe.html").write_text(text, encoding="utf-8")
    (folder / "frames.html").write_text(FRAMES, encoding="utf-8")
    done = subprocess.run(
        [
            browser,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            f"--user-data-dir={folder / 'profile'}",
            "--window-size=1400,1800",
            "--virtual-time-budget=5000",
            "--dump-dom",
            (folder / "frames.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = re.search(r'<pre id="found">(.+?)</pre>', done.stdout)
    assert found, done.stderr
    return sorted(json.loads(found[1].replace("&gt;", ">")), key=lambda one: one["width"])


def test_a_browser_meets_no_error_and_no_dead_link(in_browser: list[dict[str, Any]]) -> None:
    assert [one["errors"] for one in in_browser] == [[], []]
    assert [one["dead"] for one in in_browser] == [[], []]


def test_the_page_never_scrolls_sideways(in_browser: list[dict[str, Any]]) -> None:
    assert [one["width"] for one in in_browser] == [360, 1280]
    for one in in_browser:
        assert one["scroll"] <= one["width"]
        assert one["wide"] == []


def test_columns_are_sorted_from_the_keyboard_with_what_is_pending_last(
    in_browser: list[dict[str, Any]],
) -> None:
    for one in in_browser:
        assert one["focused"]
        numbers = [float(value) for value in one["rising"] if value is not None]
        assert 1 < len(numbers) < len(one["rising"])
        pending = [None] * (len(one["rising"]) - len(numbers))
        assert [value and float(value) for value in one["rising"]] == sorted(numbers) + pending
        falling = [value and float(value) for value in one["falling"]]
        assert falling == sorted(numbers, reverse=True) + pending
        assert one["order"] == "descending"


def test_a_link_unfolds_what_it_leads_to(in_browser: list[dict[str, Any]]) -> None:
    assert [one["open"] for one in in_browser] == [True, True]
